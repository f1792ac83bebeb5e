# SPDX-License-Identifier: Apache-2.0
"""``pellucid doctor``: does this installation work, and with how much."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pellucid.cli.tools.build import tool
from pellucid.core.errors import Exit

DOC = """Check this installation, its libraries, devices and limits.

    pellucid doctor"""

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "nibabel": "nibabel",
    "rasterio": "rasterio",
    "h5py": "h5py",
    "soundfile": "soundfile",
    "pillow": "PIL",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
}


def command() -> Any:
    """Return the tool's command."""
    return tool("doctor", DOC, run)


def run(values: dict[str, Any]) -> int:
    """Print one line per check; exit 7 where a needed library does not load."""
    from pellucid.core import device, resources

    print(f"python      {sys.version.split()[0]}")
    broken = 0
    for package, module in LIBRARIES.items():
        try:
            importlib.import_module(module)
            print(f"{package:<11} {version(package)}")
        except (ImportError, OSError, PackageNotFoundError) as error:
            broken += 1
            print(f"{package:<11} does not load: {error}: python -m pip install --force-reinstall {package}")
    for line in device.describe():
        print(f"device      {line}")
    print(f"threads     {resources.threads()}")
    print(f"memory      {resources.memory_limit() / 1024**3:.1f} GB for pellucid (70 % of the limit)")
    return int(Exit.MISSING) if broken else 0
