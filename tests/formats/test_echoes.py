# SPDX-License-Identifier: Apache-2.0
"""Channel data in HDF5 and MATLAB files: PICMUS, PyBF, UFF, zea, MUST."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.core.errors import FormatError, UsageError
from pellucid.formats import find, mat_us, picmus, uff, zea

h5py = pytest.importorskip("h5py")
RAW = np.random.default_rng(0).standard_normal((4, 3, 50, 8, 2)).astype("f4")  # frame, wave, time, element, I and Q
WHOLE = (RAW[..., 0] + 1j * RAW[..., 1]).transpose(2, 3, 0, 1).reshape(50, 8, 12)
IMAGE = np.random.default_rng(1).standard_normal((5, 1, 1, 600))


def picmus_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("US/US_DATASET0000")
        group["data/real"], group["data/imag"] = (RAW[0, :, :, :, i].transpose(0, 2, 1) for i in (0, 1))
        group["angles"], group["probe_geometry"] = [-0.1, 0, 0.1], np.arange(24.0).reshape(3, 8) * 1e-3
        facts = {"initial_time": 1e-6, "modulation_frequency": 5e6, "sampling_frequency": 2e7, "sound_speed": 1540.0}
        for key, value in facts.items():
            group[key] = [value]
    return path


def uff_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("channel_data")
        group.attrs["class"] = "uff.channel_data"
        group["data/real"], group["data/imag"] = (RAW[..., i].transpose(0, 1, 3, 2) for i in (0, 1))
        group["sampling_frequency"], group["modulation_frequency"] = [[2e7]], [[5e6]]
        group["probe/pitch"] = [[3e-4]]
        for i in range(3):
            source = f"sequence/sequence_{i + 1:04d}/source"
            group[f"{source}/azimuth"], group[f"{source}/distance"] = [[0.1 * i - 0.1]], [[np.inf]]
        group = file.create_group("image")
        group.attrs["class"] = "uff.beamformed_data"
        group["data/real"], group["data/imag"] = IMAGE, 2 * IMAGE
        group["scan/x_axis"], group["scan/z_axis"] = np.linspace(0, 1e-2, 20), np.linspace(1e-2, 2e-2, 30)
    return path


def zea_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["data/raw_data"], file["data/envelope_data"] = RAW, np.abs(RAW[:, 0, :, :, 0])
        file["scan/sampling_frequency"], file["scan/center_frequency"] = 2e7, 5e6
        file["scan/polar_angles"], file["scan/focus_distances"] = [-0.1, 0, 0.1], [np.inf] * 3
        file["probe/probe_geometry"] = np.arange(24.0).reshape(8, 3) * 1e-3
    return path


MAKERS: dict[str, tuple[Any, Callable[[Path], Path], np.ndarray]] = {
    "picmus": (picmus, picmus_file, WHOLE[..., :3]),
    "uff": (uff, uff_file, WHOLE),
    "zea": (zea, zea_file, WHOLE),
}


def everything(reader: Any) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in reader.description.shape)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_complex_echoes_are_turned_to_time_element_frame(name: str, tmp_path: Path) -> None:
    module, make, wanted = MAKERS[name]
    path = make(tmp_path / "file.bin")
    assert find.candidates(path)[0][1] == name
    reader = module.open(path)
    d = reader.description
    assert d.axes == ("time", "element", "frame") and d.kind == "channel" and d.dtype == "complex64"
    assert d.acquisition["fs_hz"] == 2e7 and d.acquisition["angles_rad"] == pytest.approx([-0.1, 0, 0.1])
    whole = reader.read(everything(reader))
    assert np.array_equal(whole, wanted)
    region = (slice(3, 40), slice(2, 5), slice(1, 3))
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(region), whole[region])
    reader.close()


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_only_the_echoes_change(name: str, tmp_path: Path) -> None:
    module, make, wanted = MAKERS[name]
    path, target = make(tmp_path / "file.bin"), tmp_path / "out.bin"
    reader = module.open(path)
    writer = module.splice(target, reader, reader.description)
    writer.write(everything(reader), 2 * wanted)
    writer.close()
    reader.close()
    again = module.open(target)
    assert np.array_equal(again.read(everything(again)), 2 * wanted)
    again.close()
    with h5py.File(path, "r") as one, h5py.File(target, "r") as two:
        names: list[str] = []
        one.visit(names.append)
        kept = [n for n in names if isinstance(one[n], h5py.Dataset) and not np.array_equal(one[n][()], two[n][()])]
        assert all("data/re" in n or "data/im" in n or "raw_data" in n for n in kept), kept


def test_beamformed_pixels_fall_on_their_grid(tmp_path: Path) -> None:
    reader = uff.open(uff_file(tmp_path / "a.uff"), key="image")
    d = reader.description
    assert d.shape == (30, 20, 5) and d.kind == "iq" and d.spacing[:2] == pytest.approx((10 / 29, 10 / 19))
    wanted = (IMAGE[:, 0, 0] * (1 + 2j)).reshape(5, 20, 30).transpose(2, 1, 0)
    assert np.array_equal(reader.read(everything(reader)), wanted)
    writer = uff.splice(tmp_path / "b.uff", reader, d)
    writer.write(everything(reader), 3 * wanted)
    writer.close()
    reader.close()
    again = uff.open(tmp_path / "b.uff", key="image")
    assert np.array_equal(again.read(everything(again)), 3 * wanted)


def sector_file(path: Path, *, origins: bool = False, pixels_first: bool = False) -> Path:
    """Write a sector of 20 lines of 30 samples; with ``origins`` on the face of a curved array of 40 mm."""
    angles = np.linspace(-0.5, 0.5, 20)
    with h5py.File(path, "w") as file:
        group = file.create_group("b_data")
        group.attrs["class"] = "uff.beamformed_data"
        data = IMAGE.T if pixels_first else IMAGE
        group["data/real"], group["data/imag"] = data, 2 * data
        group["scan/azimuth_axis"], group["scan/depth_axis"] = angles, np.linspace(5e-3, 60e-3, 30)
        for i, angle in enumerate(angles if origins else angles[:0]):
            origin = f"scan/origin/origin_{i + 1:04d}"
            group[f"{origin}/distance"] = [[abs(0.04 * np.sin(angle))]]
            group[f"{origin}/azimuth"] = [[np.sign(angle) * np.pi / 2]]
    return path


@pytest.mark.parametrize("pixels_first", [False, True])
def test_sectors_bring_their_angles(pixels_first: bool, tmp_path: Path) -> None:
    reader = uff.open(sector_file(tmp_path / "a.uff", pixels_first=pixels_first))
    d = reader.description
    assert d.shape == (30, 20, 5) and d.spacing[:2] == (pytest.approx(55 / 29), None)
    assert d.acquisition["first_mm"] == pytest.approx(5) and len(d.acquisition["line_angles_rad"]) == 20
    wanted = (IMAGE[:, 0, 0] * (1 + 2j)).reshape(5, 20, 30).transpose(2, 1, 0)
    assert np.array_equal(reader.read(everything(reader)), wanted)
    region = (slice(4, 20), slice(3, 9), slice(1, 3))
    assert np.array_equal(reader.read(region), wanted[region])
    writer = uff.splice(tmp_path / "b.uff", reader, d)
    writer.write(everything(reader), 3 * wanted)
    writer.close()
    reader.close()
    again = uff.open(tmp_path / "b.uff")
    assert np.array_equal(again.read(everything(again)), 3 * wanted)


def test_lines_of_a_curved_array_begin_on_its_face(tmp_path: Path) -> None:
    reader = uff.open(sector_file(tmp_path / "a.uff", origins=True))
    assert reader.description.acquisition["first_mm"] == pytest.approx(45)


WRITTEN = """
import numpy as np, pyuff_ustb as pyuff
rng = np.random.default_rng(0)
data = (rng.standard_normal((24 * 80, 1, 1, 7)) + 1j * rng.standard_normal((24 * 80, 1, 1, 7))).astype(np.complex64)
point = pyuff.Point(distance=0.0, azimuth=0.0, elevation=0.0)
scan = pyuff.SectorScan(azimuth_axis=np.linspace(-.6, .6, 24), depth_axis=np.linspace(5e-3, 60e-3, 80), origin=point)
pyuff.BeamformedData(data=data, scan=scan).write(job["sector"], "b_data")
scan = pyuff.LinearScan(x_axis=np.linspace(-1e-2, 1e-2, 24), z_axis=np.linspace(0, 8e-2, 80))
pyuff.BeamformedData(data=data, scan=scan).write(job["linear"], "b_data")
np.save(job["data"], data)
print(json.dumps(pyuff.__version__))
"""


def test_files_of_pyuff_are_read_and_read_back_by_it(tmp_path: Path) -> None:
    from benchmarks import peers

    python = peers.CACHE / "pyuff" / "bin" / "python"
    if not (peers.CACHE / "pyuff" / ".done").exists():
        pytest.skip('pyuff-ustb is not installed: peers.venv("pyuff", ["pyuff-ustb==3.0.0"])')
    names = {k: str(tmp_path / f"{k}.uff") for k in ("sector", "linear")} | {"data": str(tmp_path / "data.npy")}
    peers.run_json(python, WRITTEN, **names)
    wanted = np.load(names["data"])[:, 0, 0].reshape(24, 80, 7).transpose(1, 0, 2)
    for kind in ("sector", "linear"):
        reader = uff.open(Path(names[kind]))
        assert np.array_equal(reader.read(everything(reader)), wanted)
        target = tmp_path / f"{kind}_out.uff"
        writer = uff.splice(target, reader, reader.description)
        writer.write(everything(reader), -wanted)
        writer.close()
        reader.close()
        code = 'import pyuff_ustb as p, numpy as np; d = np.asarray(p.Uff(job["path"]).read("b_data").data)\n'
        code += 'print(json.dumps([list(d.shape), float(np.abs(d + np.load(job["data"])).max())]))'
        assert peers.run_json(python, code, path=str(target), data=names["data"]) == [[1920, 1, 1, 7], 0.0]


def test_zea_envelopes_are_named_by_key(tmp_path: Path) -> None:
    path = zea_file(tmp_path / "a.hdf5")
    reader = zea.open(path, key="envelope_data")
    assert reader.description.kind == "envelope" and reader.description.shape == (50, 8, 4)
    reader.close()
    assert "line_angles_rad" not in reader.description.acquisition
    with h5py.File(path, "r+") as file:  # one focused transmit a line
        del file["scan/polar_angles"], file["scan/focus_distances"]
        file["scan/polar_angles"], file["scan/focus_distances"] = np.linspace(-0.4, 0.4, 8), np.full(8, 0.05)
    again = zea.open(path, key="envelope_data")
    assert again.description.acquisition["line_angles_rad"] == pytest.approx(np.linspace(-0.4, 0.4, 8))
    again.close()
    with pytest.raises(UsageError, match="no data set"):
        zea.open(path, key="nothing")


def test_field_ii_shots_are_frames_of_three_angles(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared_data("ultrasound/rf/pybf_fieldii_pw3.hdf5")
    assert find.candidates(path)[0][1] == "picmus"
    reader = picmus.open(path)
    d = reader.description
    assert d.shape == (2313, 192, 3) and d.dtype == "int16"
    assert d.acquisition["t0_s"] == pytest.approx(-3.6625e-6) and d.acquisition["pitch_mm"] == pytest.approx(0.23)
    values = reader.read(everything(reader))
    assert (values[..., 0].min(), values[..., 0].max()) == (-2697, 2741)
    writer = picmus.splice(tmp_path / "o.hdf5", reader, d)
    writer.write(everything(reader), values[::-1])
    writer.close()
    again = picmus.open(tmp_path / "o.hdf5")
    assert np.array_equal(again.read(everything(again)), values[::-1])


def test_the_rotating_disk_brings_its_parameters(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared_data("ultrasound/rf/PWI_disk.mat")
    assert find.candidates(path)[0][1] == "mat_us"
    reader = mat_us.open(path)
    d, values = reader.description, reader.read(everything(reader))
    assert d.shape == (334, 128, 32) and d.axes == ("time", "element", "frame")
    assert (d.acquisition["prf_hz"], d.acquisition["c_m_s"]) == (1e4, 1480.0)
    assert values[100, 64, 0] == -441 and (values.min(), values.max()) == (-2667, 2667)
    writer = mat_us.splice(tmp_path / "o.mat", reader, d)
    writer.write(everything(reader), -values)
    writer.close()
    import scipy.io

    found = scipy.io.loadmat(tmp_path / "o.mat", simplify_cells=True)
    assert np.array_equal(found["RF"], -values) and found["param"]["fc"] == 5e6
    with pytest.raises(UsageError, match="arrays in it"):
        mat_us.open(path, key="nothing")


def test_echoes_of_matlab_7_3_are_read_and_replaced(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-900, 900, (50, 8, 4)).astype("i2")
    path = tmp_path / "shots.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("RF", data=values.T, chunks=(1, 8, 50), compression="gzip")
        file["RF"].attrs["MATLAB_class"] = np.bytes_("int16")
        for key, value in {"fs": 2e7, "fc": 5e6, "pitch": 3e-4, "Nelements": 8.0, "bandwidth": 60.0}.items():
            file[f"param/{key}"] = [[value]]
        file["other"] = np.arange(6.0).reshape(2, 3)
    data = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + path.read_bytes()[128:]
    path.write_bytes(data)
    assert find.candidates(path)[0][1] == "mat_us"
    reader = mat_us.open(path)
    d = reader.description
    assert d.shape == (50, 8, 4) and d.axes == ("time", "element", "frame") and d.spacing[1] == pytest.approx(0.3)
    assert (d.acquisition["fs_hz"], d.acquisition["bandwidth"]) == (2e7, 0.6)
    assert np.array_equal(reader.read(everything(reader)), values)
    writer = mat_us.splice(tmp_path / "o.mat", reader, d)
    writer.write(everything(reader), -values)
    writer.close()
    reader.close()
    again = mat_us.open(tmp_path / "o.mat")
    assert np.array_equal(again.read(everything(again)), -values)
    again.close()
    assert (tmp_path / "o.mat").read_bytes()[:512] == data[:512]
    with pytest.raises(UsageError, match="arrays in it"):
        mat_us.open(path, key="nothing")


def test_links_out_of_the_file_and_cut_files_end_in_one_line(tmp_path: Path) -> None:
    other = picmus_file(tmp_path / "other.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["US/US_DATASET0000/data/real"] = h5py.ExternalLink(str(other), "/US/US_DATASET0000/data/real")
    with pytest.raises(FormatError):
        picmus.open(tmp_path / "a.h5")
    data = other.read_bytes()
    for name, (module, make, wanted) in MAKERS.items():
        data = make(tmp_path / f"{name}.bin").read_bytes()
        for i in range(8):
            cut = tmp_path / f"cut{i}.bin"
            cut.write_bytes(data[: len(data) * i // 8])
            try:
                reader = module.open(cut)
                assert np.array_equal(reader.read(everything(reader)), wanted)
            except (FormatError, UsageError) as error:
                assert "\n" not in str(error)
