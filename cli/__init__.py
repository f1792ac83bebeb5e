# SPDX-License-Identifier: Apache-2.0
"""The shell: words, options, messages, progress, exit codes. Decides nothing about data."""
