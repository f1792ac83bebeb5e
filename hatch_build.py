# SPDX-License-Identifier: Apache-2.0
"""Build hook: an editable install gets a folder of links that looks like the installed package.

The rooms stand at the repository's root; hatchling cannot rewrite paths for editable installs
(pypa/hatch#2149), so ``.dev/pellucid`` links to them and a ``.pth`` file points there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOMS = ("cli", "core", "domains", "formats")


class LinkFarm(BuildHookInterface[Any]):
    """Make ``.dev/pellucid`` afresh for editable installs; do nothing otherwise."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Link the rooms and the files of ``api`` (copies where links are not allowed)."""
        if version != "editable":
            return
        root = Path(self.root)
        farm = root / ".dev" / "pellucid"
        shutil.rmtree(farm, ignore_errors=True)
        farm.mkdir(parents=True)
        for source in [root / room for room in ROOMS] + sorted((root / "api").iterdir()):
            if source.name != "__pycache__":
                _link(source, farm / source.name)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(os.path.relpath(source, target.parent), target_is_directory=source.is_dir())
    except OSError:  # Windows without the right to link
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
