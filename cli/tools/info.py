# SPDX-License-Identifier: Apache-2.0
"""``pellucid info FILE``: what a file is, whatever its field and suffix."""

from __future__ import annotations

from typing import Any

from pellucid.cli import options
from pellucid.cli.tools.build import tool
from pellucid.cli.verbs.info import run, shown

DOC = """Tell what a file is and which field it belongs to.

    pellucid info FILE"""


def command() -> Any:
    """Return the tool's command."""
    return tool("info", DOC, lambda values: run(values, ""), options.inputs, shown)
