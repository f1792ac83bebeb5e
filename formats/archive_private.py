# SPDX-License-Identifier: Apache-2.0
"""MAT-files, NumPy archives, ENVI headers and Clarius parameters without their people.

Other variables of a MAT-file and other arrays of an archive stay as they are: they are data.
"""

from __future__ import annotations

import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

from pellucid.formats import hdf5_private, identity

MAT_TEXT = 116  # bytes of text at the start of a MAT-file: machine and day
MAT = b"MATLAB 5.0 MAT-file"
ENVI = frozenset(
    "samples lines bands header offset file type data type interleave byte order sensor type x start y start map info "
    "projection info coordinate system string wavelength wavelength units fwhm band names bbl default bands "
    "default stretch data ignore value data gain values data offset values reflectance scale factor z plot range "
    "z plot average z plot titles pixel size geo points rpc info cloud cover sun azimuth sun elevation "
    "solar irradiance acquisition time classes class lookup class names spectra names complex function".split()
)
CLARIUS_WORDS = ("type", "compression")
CLARIUS_HEAD, CLARIUS_TIME = 20, 8
UNITS = re.compile(r"[-+\d{|][-+\d.,:;{}|\s\u00b0/%]*(?:(?:[a-zA-Z]{1,12})[-+\d.,:;{}|\s\u00b0/%]*){0,40}")


def mat(path: Path) -> None:
    """Blank the header's text; of a 7.3 file the personal attributes and texts too."""
    from pellucid.formats import mat as module

    if module.is_hdf5(path):
        hdf5_private.anonymise(path)
        return
    with path.open("r+b") as file:
        if file.read(len(MAT)).upper().startswith(b"MATLAB"):
            file.seek(0)
            file.write(MAT.ljust(MAT_TEXT))


def npz(path: Path) -> None:
    """Drop the comments of an archive and of its members."""
    with zipfile.ZipFile(path) as archive:
        if not (archive.comment or any(m.comment for m in archive.infolist())):
            return
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b" "  # marks the directory as changed
        for member in archive.infolist():
            member.comment = b""
        archive.comment = b""


def envi(path: Path) -> None:
    """Drop descriptions, comments, personal keys and whatever holds a path; what tells of the scene stays."""
    from pellucid.formats import envi as module
    from pellucid.formats import envi_header

    beside = module._pair(path)[1]
    header = envi_header.load(beside)
    kept = [e for e in header.entries[1:] if e.key is not None and _kept(e.key, e.value)]
    clean = replace(header, entries=(header.entries[0], *kept))
    beside.write_bytes(clean.encode())


def _kept(key: str, value: str) -> bool:
    if key == "description" or identity.PATH.search(value):
        return False
    return set(key.split()) <= ENVI or identity.cleaned(key, value) is not None


def clarius(path: Path) -> None:
    """Count frame times from the first; of the parameters only numbers with units stay."""
    with path.open("r+b") as file:
        _, frames, lines, samples, size = struct.unpack("<5I", file.read(CLARIUS_HEAD))
        step, first = CLARIUS_TIME + lines * samples * size, 0
        for index in range(frames):
            file.seek(CLARIUS_HEAD + index * step)
            (time,) = struct.unpack("<Q", file.read(CLARIUS_TIME))
            first = time if index == 0 else first
            file.seek(CLARIUS_HEAD + index * step)
            file.write(struct.pack("<Q", max(0, time - first)))
    for beside in path.parent.glob(path.stem + ".y*ml"):
        text = beside.read_text(encoding="utf-8", errors="replace")
        kept = [line for line in text.splitlines() if _parameter(line)]
        beside.write_text("\n".join(kept) + "\n", encoding="utf-8")


def _parameter(line: str) -> bool:
    """Whether a line of the parameters is technical."""
    text = line.strip()
    if text == "# raw data parameters" or text.startswith("- {"):
        return identity.DAY.search(text) is None
    key, mark, value = (part.strip() for part in text.partition(":"))
    if not mark or identity.personal(key) or identity.DAY.search(value):
        return False
    known = not value or UNITS.fullmatch(value) is not None
    return known or (key in CLARIUS_WORDS and identity.PLAIN.fullmatch(value) is not None)
