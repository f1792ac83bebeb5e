# SPDX-License-Identifier: Apache-2.0
"""Noise laws: moments, sampling, stabilising transforms with exact unbiased inverses. One file a law."""
