# SPDX-License-Identifier: Apache-2.0
"""Whether a compressed file can hold what its header claims, asked before memory is taken."""

from __future__ import annotations

from pellucid.core.errors import FormatError

DEFLATE_MOST = 1032  # the largest expansion deflate can reach (zlib technical notes)
SUSPECT_RATIO, SUSPECT_BYTES = 200, 1 << 30  # real pictures stay far below 200; small ones do no harm


def check(path: object, claimed: int, held: int, most: float = DEFLATE_MOST) -> None:
    """Refuse ``claimed`` bytes of samples from ``held`` compressed bytes.

    Parameters
    ----------
    most : float
        Largest expansion the compression can reach.

    Raises
    ------
    FormatError
        The claim is impossible, or so large and so empty that it was made to fill the memory.
    """
    if claimed > most * held + 4096 or (claimed > SUSPECT_BYTES and claimed > SUSPECT_RATIO * held):
        what = f"says {claimed} bytes of samples, the file holds {held} compressed"
        raise FormatError(path, "size", what, "the file is cut short or made to fill the memory")
