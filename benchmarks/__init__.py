# SPDX-License-Identifier: Apache-2.0
"""Measurements of pellucid beside its peers. Not installed."""
