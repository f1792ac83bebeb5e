# SPDX-License-Identifier: Apache-2.0
"""Names and sidecars of the Brain Imaging Data Structure: pure functions on paths and mappings.

BIDS 1.10: file names, the inheritance principle, derivatives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pellucid.formats import identity

LIMIT = 64 << 20  # bytes; no sidecar is larger
COMPRESSION = (".gz", ".bz2")
NAME = re.compile(r"(sub-[A-Za-z0-9]+(?:_[A-Za-z]+-[A-Za-z0-9]+)*)_([A-Za-z0-9]+)$")
MAPS = {"noise": "map", "rank": "map"}  # desc -> what joins the suffix: dwi -> dwimap; names are unsettled in BIDS


def split(name: str) -> tuple[str, str]:
    """Split a file name into stem and suffix; ``.nii.gz`` stays together.

    >>> split("sub-01_dwi.nii.gz")
    ('sub-01_dwi', '.nii.gz')
    """
    path = Path(name)
    if path.suffix.lower() in COMPRESSION:
        inner = Path(path.stem)
        return inner.stem, inner.suffix + path.suffix
    return path.stem, path.suffix


def entities(name: str) -> dict[str, str]:
    """Return the entities of a BIDS name, the last part as ``suffix``; empty for any other name.

    >>> entities("sub-01_part-phase_bold.nii.gz")
    {'sub': '01', 'part': 'phase', 'suffix': 'bold'}
    """
    found = NAME.match(split(name)[0])
    if not found:
        return {}
    return dict(part.split("-", 1) for part in found[1].split("_")) | {"suffix": found[2]}


def output_name(path: Path, desc: str = "denoised") -> Path:
    """Return the name of a result beside its input: BIDS derivatives where the name is BIDS, else ``_desc``.

    An input that has a ``desc`` already keeps it in front: ``desc-preproc`` -> ``desc-preprocDenoised``.

    >>> output_name(Path("sub-01_dwi.nii.gz")).name
    'sub-01_desc-denoised_dwi.nii.gz'
    >>> output_name(Path("sub-01_dwi.nii.gz"), "noise").name
    'sub-01_desc-noise_dwimap.nii.gz'
    >>> output_name(Path("scan.nii.gz")).name
    'scan_denoised.nii.gz'
    """
    stem, suffix = split(path.name)
    known = entities(path.name)
    if not known:
        return path.with_name(f"{stem}_{desc}{suffix}")
    last = known.pop("suffix") + MAPS.get(desc, "")
    known["desc"] = known["desc"] + desc.capitalize() if "desc" in known else desc
    return path.with_name("_".join([*(f"{key}-{value}" for key, value in known.items()), last]) + suffix)


def root(path: Path) -> Path | None:
    """Return the nearest folder above ``path`` that holds a ``dataset_description.json``, or None."""
    return next((p for p in path.absolute().parents if (p / "dataset_description.json").is_file()), None)


def inherited(path: Path, suffix: str) -> list[Path]:
    """Return the ``suffix`` files that apply to ``path``, the most general first (inheritance principle).

    A candidate applies when it lies in a folder between the data set's root and the file, ends in the
    same BIDS suffix, and all its entities are the file's own. Outside a data set: the sibling alone.
    """
    own = path.with_name(split(path.name)[0] + suffix)
    top, known = root(path), entities(path.name)
    if top is None or not known:
        return [own] if own.is_file() else []
    folders = [p for p in reversed(path.absolute().parents) if p == top or top in p.parents]
    found: list[Path] = []
    for folder in folders:
        level = [p for p in folder.glob(f"*{known['suffix']}{suffix}") if _applies(p.name, known)]
        found += sorted(level, key=lambda p: p.name.count("-"))
    return found


def _applies(name: str, known: Mapping[str, str]) -> bool:
    stem = split(name)[0]
    if stem == known["suffix"]:
        return True
    parts = stem.split("_")
    if parts[-1] != known["suffix"] or any("-" not in part for part in parts[:-1]):
        return False
    return all(known.get(key) == value for key, value in (part.split("-", 1) for part in parts[:-1]))


def merged(paths: Iterable[Path]) -> dict[str, Any]:
    """Merge JSON sidecars, later ones over earlier ones; a file that is no JSON object counts as empty."""
    out: dict[str, Any] = {}
    for path in paths:
        if path.stat().st_size > LIMIT:
            continue
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        out |= content if isinstance(content, dict) else {}
    return out


def dataset_description(name: str, version: str, source: str = "") -> dict[str, Any]:
    """Return the ``dataset_description.json`` a derivative data set needs, for roots that have none.

    Parameters
    ----------
    name, version : str
        Of the software.
    source : str
        URL or path of the raw data set.
    """
    out: dict[str, Any] = {
        "Name": f"{name} derivatives",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": name, "Version": version}],
    }
    return out | ({"SourceDatasets": [{"URL": source}]} if source else {})


def derivative(sidecar: Mapping[str, Any], source: str, name: str, version: str) -> dict[str, Any]:
    """Return a sidecar for a derivative: the input's own, plus GeneratedBy, Sources and SkullStripped.

    Parameters
    ----------
    source : str
        The input's path relative to its data set's root.
    """
    history = sidecar.get("GeneratedBy")
    return {
        "SkullStripped": False,
        **sidecar,
        "GeneratedBy": [*(history if isinstance(history, list) else []), {"Name": name, "Version": version}],
        "Sources": [f"bids:raw:{source}"],
    }


def sidecar_name(target: Path) -> str | None:
    """Return the name of the JSON that describes a BIDS file, None for any other name."""
    return split(target.name)[0] + ".json" if entities(target.name) else None


def annotate(staged: Path, source: Path, document: Mapping[str, Any], private: bool) -> bool:
    """Bring the JSON beside a staged file up to date; return whether it now holds the run's document.

    A BIDS name gets GeneratedBy, Sources and the document below ``Pellucid``. With ``private`` any JSON
    beside the file loses what may identify a person.
    """
    beside = staged.with_name(split(staged.name)[0] + ".json")
    known = bool(entities(staged.name))
    if not known and not (private and beside.exists()):
        return False
    content = merged([beside] if beside.exists() else [])
    if private:
        content = identity.mapping(content)
    if known:
        top = root(source)
        name = "" if private else str(source.absolute().relative_to(top)) if top else source.name
        version = str(document["pellucid"]["version"])
        content = derivative(content, name, "pellucid", version) | {"Pellucid": dict(document)}
    beside.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return known


def describe_folder(target: Path, version: str) -> None:
    """Write ``dataset_description.json`` beside a BIDS output that has none above it."""
    folder = target.parent
    if entities(target.name) and root(target) is None:
        text = json.dumps(dataset_description("pellucid", version), indent=1, sort_keys=True)
        (folder / "dataset_description.json").write_text(text + "\n", encoding="utf-8")
