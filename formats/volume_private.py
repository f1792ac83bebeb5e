# SPDX-License-Identifier: Apache-2.0
"""Volumes without their people: header texts of NIfTI, NRRD, MetaImage, MRtrix and FreeSurfer files.

Samples are moved as bytes, never decoded; only a gzip around header and samples is made anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.formats import bids, identity
from pellucid.formats.spool import deflate, inflate, spool

ANALYZE_TEXT: tuple[str, ...] = (
    "descrip",
    "aux_file",
    "db_name",
    "data_type",
    "intent_name",
    "generated",
    "scannum",
    "patient_id",
)
ANALYZE_TEXT += ("exp_date", "exp_time", "hist_un0")
NUMBERS = re.compile(rb"(TE|phase|mb)=[\d.]{1,9}")  # of dcm2niix's descrip; its Time goes
FREE = ("descrip", "aux_file", "db_name", "intent_name", "patient_id", "exp_date")
NRRD_FIELDS = frozenset(
    "type block size dimension space space dimension sizes spacings thicknesses axis mins axis maxs centerings labels "
    "units kinds space directions space origin space units measurement frame endian encoding data file line skip "
    "byte skip min max old min old max sample units".split()
)
NRRD_FREE = ("content", "number")
META_FREE = ("Comment", "Name", "ID", "ParentID", "AcquisitionDate", "Color", "FileName")
META_KEPT = frozenset(
    "ObjectType ObjectSubType NDims BinaryData BinaryDataByteOrderMSB ElementByteOrderMSB CompressedData "
    "CompressedDataSize TransformMatrix Offset CenterOfRotation AnatomicalOrientation ElementSpacing ElementSize "
    "DimSize ElementNumberOfChannels ElementType ElementDataFile HeaderSize Orientation Rotation Position Origin "
    "ElementMin ElementMax Modality Kinds ElementToIntensityFunctionSlope ElementToIntensityFunctionOffset".split()
)
MIF_KEPT = frozenset("dim vox layout datatype scaling transform dw_scheme pe_scheme file".split())
MGZ_USED, MGZ_START, MGZ_FOOTER = 90, 284, 20  # bytes of the header, of its block, of TR, flip angle, TE, TI, FoV
GZIP = b"\x1f\x8b"
UNBOUND = 1 << 62


def nifti(path: Path) -> None:
    """Blank the texts of a header and drop its extensions, in place; both files of a pair."""
    from pellucid.formats import nifti_header as headers

    layout = headers.load(path)
    header = layout.header()
    told = bytes(header["descrip"]).split(b"\0")[0].split(b";")
    for name in ANALYZE_TEXT:
        if name in header.keys():
            header[name] = 0 if header.structarr[name].dtype.kind in "iu" else b""
    header["descrip"] = b";".join(part for part in told if NUMBERS.fullmatch(part))
    if "originator" in header.keys() and bytes(header.structarr["originator"].tobytes()).strip(b"\0").isalnum():
        header["originator"] = b""  # SPM keeps five numbers here
    block = header.binaryblock
    ending = b"" if layout.version == "analyze" else bytes(4)  # says: no extensions
    head = block + ending if layout.pair else block.ljust(layout.offset, b"\0")
    restart(layout.header_path, layout.offset if not layout.pair else UNBOUND, head)
    if layout.pair and layout.offset:
        restart(layout.data_path, layout.offset, bytes(layout.offset))
    beside = path.with_name(bids.split(path.name)[0] + ".json")
    if beside.exists():
        content = identity.mapping(bids.merged([beside]))
        beside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def people(path: Path) -> dict[str, str]:
    """Return the free texts of a NIfTI header, and the personal keys of the JSON beside it."""
    from pellucid.formats import nifti_header as headers

    header = headers.load(path).header()
    found = {k: bytes(header[k]).split(b"\0")[0].decode("latin-1") for k in FREE if k in header.keys()}
    told = bids.merged(p for p in [path.with_name(bids.split(path.name)[0] + ".json")] if p.exists())
    return {k: str(v) for k, v in {**found, **told}.items() if v and (k in found or identity.personal(k))}


def nrrd(path: Path) -> None:
    """Keep the fields of the format and harmless key/value pairs; comments and all else go."""
    from pellucid.formats import nrrd_header

    header = nrrd_header.load(path)
    kept = [header.lines[0]]
    for line in header.lines[1:]:
        name, _ = nrrd_header.field(line)
        key, mark, value = line.partition(":=")
        pair = not name and mark and not line.startswith("#")
        known = name and name not in NRRD_FREE and set(name.split()) <= NRRD_FIELDS
        if known or (pair and identity.cleaned(key.strip(), value.strip()) is not None):
            kept.append(line)
    attached = "data file" not in header.fields
    clean = replace(header, lines=tuple(kept)).encode(attached=attached)
    restart(path, header.size if attached else UNBOUND, clean)


def metaimage(path: Path) -> None:
    """Keep the fields of the format and harmless others."""
    from pellucid.formats import meta_header

    header = meta_header.load(path)
    kept = []
    for line in header.lines:
        key, _, value = (part.strip() for part in line.partition("="))
        if key in META_KEPT or (key not in META_FREE and key and identity.cleaned(key, value) is not None):
            kept.append(line)
    attached = header.fields.get("ElementDataFile", "").upper() == "LOCAL"
    restart(path, header.size if attached else UNBOUND, replace(header, lines=tuple(kept)).encode())


def mif(path: Path) -> None:
    """Keep the keys of the format and harmless others; samples begin where they did."""
    from pellucid.formats import mif as module

    header, _ = module._load(path)
    kept = [header.lines[0]]
    for line in header.lines[1:-1]:
        key, mark, value = line.partition(":")
        name = key.strip().lower()
        if name in MIF_KEPT or (mark and identity.cleaned(key.strip(), value.strip()) is not None):
            kept.append(line)
    clean = replace(header, lines=(*kept, header.lines[-1])).encode()
    name, offset = module._place(header)
    attached = name == "."
    restart(path, offset if attached else UNBOUND, clean.ljust(offset, b"\0") if attached else clean)


def mgz(path: Path) -> None:
    """Zero the unused part of the header; of what follows the samples the numbers of the sequence stay."""
    from pellucid.formats import mgz as module

    reader = module.open(path)
    block = reader.block
    reader.close()
    head = reader.head[:MGZ_USED].ljust(MGZ_START, b"\0")
    restart(path, MGZ_START, head, stop=MGZ_START + block.nbytes + MGZ_FOOTER)


def restart(path: Path, skip: int, head: bytes, stop: int = UNBOUND) -> None:
    """Give a file another beginning: ``head`` for its first ``skip`` bytes, the rest up to byte ``stop``.

    Offsets count decompressed bytes; a gzip-ed file is compressed again.
    """
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    if not packed and len(head) == skip and stop == UNBOUND:  # in place
        with path.open("r+b") as file:
            file.write(head)
        return
    new = identity.beside(path)
    if packed:
        size = sum(len(data) for data in _rest(path, packed, skip, stop))
        store, done = spool(len(head) + size), len(head)
        store.write(0, memoryview(head))
        for data in _rest(path, packed, skip, stop):
            store.write(done, memoryview(data))
            done += len(data)
        with new.open("wb") as target:
            deflate(store, done, target)
        store.close()
    else:
        with new.open("wb") as target:
            target.write(head)
            for data in _rest(path, packed, skip, stop):
                target.write(data)
    identity.put(path, new)


def _rest(path: Path, packed: bool, skip: int, stop: int) -> Iterator[Any]:
    """Yield the decompressed bytes from ``skip`` to ``stop``."""
    if skip >= stop:
        return
    if not packed:
        with path.open("rb") as file:
            left = stop - file.seek(skip)
            while left > 0 and (data := file.read(min(identity.CHUNK, left))):
                left -= len(data)
                yield data
        return
    at = 0
    for data in inflate(path, stop):
        part = data[max(0, skip - at) :]
        at += len(data)
        if part:
            yield part
