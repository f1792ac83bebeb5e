# SPDX-License-Identifier: Apache-2.0
"""One file a format: bytes <-> samples and header. Knows no method and no torch."""
