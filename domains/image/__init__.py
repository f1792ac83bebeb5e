# SPDX-License-Identifier: Apache-2.0
"""Plain grey and colour images."""
