# SPDX-License-Identifier: Apache-2.0
"""From parsed words to a request."""

from __future__ import annotations

import os
import sys
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from pellucid.domains.request import Request

SHELL_ONLY = frozenset(
    "files dry_run json quiet verbose debug config keep_going jobs resume shard files_from relative_to status".split()
)


def request(values: dict[str, Any], field_flags: set[str]) -> Request:
    """Return the request behind parsed values.

    Values that are neither shared options nor the field's own flags are options of the method;
    only those that were given are passed on.
    """
    shared = {f.name for f in dataclass_fields(Request)}
    known = {k: v for k, v in values.items() if k in shared and v is not None}
    own = {k: v for k, v in values.items() if k in field_flags and v is not None}
    rest = {
        k: v
        for k, v in values.items()
        if k not in shared and k not in field_flags and k not in SHELL_ONLY and v is not None
    }
    out = known.pop("out", "") or ""
    if out and out != "-":
        known |= {"out": Path(out), "out_folder": str(out).endswith(("/", os.sep)) and not Path(out).is_dir()}
    rest = {k: str(v) if isinstance(v, Path) else v for k, v in rest.items()}
    return Request(**known, method_options=rest, field_options=own, command=tuple(sys.argv[1:]))
