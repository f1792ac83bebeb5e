# SPDX-License-Identifier: Apache-2.0
"""Hyperspectral scenes: radiance and reflectance cubes."""
