# SPDX-License-Identifier: Apache-2.0
"""Damaged files end in a worded error or in a result, in bounded memory and time, for every format."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid.formats import find

HERE = Path(__file__).parent
COPIES = 50
REAL = {  # of formats that are not composed, and of those whose real files are odder than composed ones
    "aiff": "",
    "jpeg": "natural/polyu",
    "dicom": "mri/dicom_classic/IM_0137.dcm",
    "dicom_us": "ultrasound/dicom/examples_palette.dcm",
    "clarius": "ultrasound/clarius/carotid_env.raw",
    "libraw": "raw/kodak_c330_yrgb.raw",
    "picmus": "ultrasound/rf/pybf_fieldii_pw3.hdf5",
    "mat_us": "ultrasound/rf/PWI_disk.mat",
    "hdf5": "hyperspectral/gtiff/two-subs.h5",
    "lan": "hyperspectral/lan/92AV3GT.GIS",
    "sound": "speech/formats",
}


def contract() -> Any:
    spec = importlib.util.spec_from_file_location("contract_formats", HERE / "test_formats.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults(path: Path, hints: dict[str, Any]) -> list[str]:
    """Return what went wrong with the damaged copies of a file; a process that dies is a fault, too."""
    command = [sys.executable, str(HERE / "mutate.py"), str(path), str(COPIES), json.dumps(hints)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COPIES * 10)
    if done.returncode:
        return [f"ended with {done.returncode} at copy {done.stderr.split()[-1:]}: {done.stderr[-300:]}"]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", sorted(find.formats()))
def test_damaged_copies_end_in_words_or_in_a_result(name: str, tmp_path: Path) -> None:
    formats = contract()
    if name not in formats.WRITTEN:
        pytest.skip("not composed: its real file is damaged below")
    path, _ = formats.example(name, tmp_path)
    assert not faults(path, formats.HINTS.get(name, {}))


@pytest.mark.parametrize("name", sorted(REAL))
def test_damaged_real_files_end_in_words_or_in_a_result(name: str, shared_data: Any) -> None:
    if not REAL[name] or name not in find.formats():
        pytest.skip("its composed file is damaged above")
    path = shared_data(REAL[name])
    if path.is_dir():
        path = next(
            p
            for p in sorted(path.rglob("*"))
            if p.is_file() and find.candidates(p)[:1] and find.candidates(p)[0][1] == name
        )
    assert not faults(path, {})
