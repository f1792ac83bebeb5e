# SPDX-License-Identifier: Apache-2.0
"""Noise level and rank from the data alone. One file an estimator."""
