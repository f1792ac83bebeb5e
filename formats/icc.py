# SPDX-License-Identifier: Apache-2.0
"""Colour profiles for what is written: sRGB, or its primaries with a straight curve."""

from __future__ import annotations

import struct

DATE = slice(24, 36)  # of making, in the header (ICC.1:2022, 7.2.1): the only bytes that differ from run to run
WHITE = (0.3127, 0.329, 1.0)  # D65; xyY
PRIMARIES = (0.64, 0.33, 1.0, 0.30, 0.60, 1.0, 0.15, 0.06, 1.0)  # IEC 61966-2-1; xyY of red, green, blue


def profile(*, linear: bool) -> bytes:
    """Return an ICC profile of sRGB; ``linear``: of linear light with the same primaries. The same bytes every time."""
    import imagecodecs

    if linear:
        made = bytes(imagecodecs.cms_profile("rgb", whitepoint=WHITE, primaries=PRIMARIES, gamma=1.0))
    else:
        made = bytes(imagecodecs.cms_profile("srgb"))
    return made[: DATE.start] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + made[DATE.stop :]
