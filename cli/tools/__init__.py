# SPDX-License-Identifier: Apache-2.0
"""Tools that belong to no field; one file a word of the command line."""
