# SPDX-License-Identifier: Apache-2.0
"""The engine: types, errors, noise, estimation, methods, tiling, streaming, commit.

Knows no field, no file format and no terminal.
"""
