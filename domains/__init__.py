# SPDX-License-Identifier: Apache-2.0
"""One folder a field: its declaration, its physics, its metrics, methods only it can use."""
