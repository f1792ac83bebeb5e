# SPDX-License-Identifier: Apache-2.0
"""MRI: magnitude and complex volumes and series."""
