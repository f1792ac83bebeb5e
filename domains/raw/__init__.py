# SPDX-License-Identifier: Apache-2.0
"""Camera raw: mosaics before demosaicking, and linear raw."""
