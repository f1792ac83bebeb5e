# SPDX-License-Identifier: Apache-2.0
"""Verbs every field has; one file a word of the command line."""
