# SPDX-License-Identifier: Apache-2.0
"""One file a denoising method; each declares ``TRAITS``, ``Options`` and ``run``."""
