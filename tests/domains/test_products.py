# SPDX-License-Identifier: Apache-2.0
"""Further files of a method: they change nothing of the result, and hold what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import pellucid
from pellucid.core.errors import OutputError, Refused, UsageError
from pellucid.core.types import Plan, Tile, products
from pellucid.domains import line, registry
from pellucid.domains.hyperspectral import lowrank
from pellucid.domains.products import write_table
from pellucid.domains.request import Request

METHODS = registry.all_methods()
LINES, SAMPLES, BANDS, RANK = 40, 36, 24, 3
SIGMA = np.linspace(1, 3, BANDS)


def cube(seed=0, shared=0.0):
    """Return a rank-3 scene with a known noise in every band, of which two bands share a part."""
    rng = np.random.default_rng(seed)
    maps = np.cumsum(rng.standard_normal((LINES, SAMPLES, RANK)), 0)
    noise = rng.standard_normal((LINES, SAMPLES, BANDS))
    noise[..., 10] = shared * noise[..., 9] + np.sqrt(1 - shared**2) * noise[..., 10]
    clean = 500 + 40 * maps @ rng.standard_normal((RANK, BANDS))
    return (clean + noise * SIGMA).astype(np.float32)


@pytest.fixture
def scene(tmp_path):
    import rasterio

    values = cube()
    values[3:6, 4:9] = -99
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6), "nodata": -99}
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=SAMPLES, height=LINES, count=BANDS, dtype="float32", **place
    ) as file:
        file.write(np.moveaxis(values, -1, 0))
        for i in range(BANDS):
            file.update_tags(i + 1, wavelength=str(400 + 10 * i), wavelength_units="nm")
    return path


def run(path, name="out.tif", **more):
    shared = {k: more.pop(k) for k in ("region", "force", "method") if k in more}
    request = Request(out=path.with_name(name), method_options={k: str(v) for k, v in more.items()}, **shared)
    return line.denoise(path, registry.field("hyperspectral"), request, lambda *_: None)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_options_that_name_files_are_backed_by_the_method(name):
    kinds = products(METHODS[name].Options())
    assert set(kinds.values()) <= {"images", "table"}
    if "table" in kinds.values():
        assert METHODS[name].TRAITS.passes == 2 and callable(METHODS[name].products)
    for option in kinds:
        assert METHODS[name].Options.__dataclass_fields__[option].metadata.get("path") is True
        assert getattr(METHODS[name].Options(), option) == ""


def test_the_result_is_the_same_bit_for_bit_and_the_plan_as_well(scene, tmp_path):
    plain = run(scene)
    more = run(scene, "more.tif", eigenimages=tmp_path / "e.tif", noise_covariance=tmp_path / "n.tsv", snr="")
    assert plain.path.read_bytes() == more.path.read_bytes()
    assert plain.document["plan_hash"] == more.document["plan_hash"]
    assert plain.document["measured"] == more.document["measured"]


@pytest.mark.parametrize("name", ["e.tif", "e.img", "e.npy"])
def test_eigenimages_lie_on_the_grid_of_the_scene_strongest_first(scene, tmp_path, name):
    import rasterio

    done = run(scene, eigenimages=tmp_path / name)
    reader = pellucid.open(tmp_path / name)
    shape = reader.description.shape
    images = reader.read(tuple(slice(0, n) for n in shape))
    assert shape == (LINES, SAMPLES, RANK) and done.document["measured"]["method"]["rank"] == RANK
    assert np.isnan(images[3:6, 4:9]).all() and np.isfinite(images[6:]).all()
    spread = np.nanstd(images, axis=(0, 1))
    assert (np.diff(spread) < 0).all() and spread[-1] > 10  # in units of noise
    if not name.endswith(".npy"):
        with rasterio.open(scene) as before, rasterio.open(tmp_path / name) as after:
            assert after.transform == before.transform and after.crs == before.crs


def test_the_result_is_mean_plus_eigenimages_times_their_spectra(scene, tmp_path):
    done = run(scene, eigenimages=tmp_path / "e.npy", snr=tmp_path / "s.npy")
    images, table = np.load(tmp_path / "e.npy"), np.load(tmp_path / "s.npy")
    reader = pellucid.open(done.path)
    white = (reader.read((slice(0, LINES), slice(0, SAMPLES), slice(0, BANDS))) - table["mean"]) / table["sigma"]
    rows, flat = images[10:].reshape(-1, RANK), white[10:].reshape(-1, BANDS)
    spectra, *_ = np.linalg.lstsq(rows, flat, rcond=None)
    assert np.abs(rows @ spectra - flat).max() < 1e-2 * np.abs(flat).max()
    assert np.allclose(spectra @ spectra.T, np.eye(RANK), atol=1e-3)


def test_outside_the_region_there_are_no_eigenimages(scene, tmp_path):
    run(scene, region="20:30,0:10", eigenimages=tmp_path / "e.npy")
    assert np.load(tmp_path / "e.npy").shape == (LINES, SAMPLES, RANK)


def test_the_noise_of_every_band_is_found_and_bands_share_none(scene, tmp_path):
    run(scene, snr=tmp_path / "s.tsv", noise_covariance=tmp_path / "n.csv")
    table = np.genfromtxt(tmp_path / "s.tsv", names=True)
    assert table["band"].tolist() == list(range(1, BANDS + 1)) and table["wavelength_nm"][1] == 410
    assert np.abs(table["sigma"] / SIGMA - 1).max() < 0.1
    assert np.allclose(table["snr_db"], 20 * np.log10(table["mean"] / table["sigma"]), atol=1e-6)
    covariance = np.loadtxt(tmp_path / "n.csv", delimiter=",")
    assert np.allclose(np.sqrt(np.diag(covariance)), table["sigma"])
    level = np.sqrt(np.diag(covariance))
    shared = covariance / np.outer(level, level) - np.eye(BANDS)
    assert np.abs(shared).max() < 0.15 and np.linalg.eigvalsh(covariance).min() > 0


def test_noise_that_two_bands_share_is_seen_where_it_is_not_taken_for_signal():
    options = lowrank.Options(noise_covariance="n.tsv", rank=RANK)
    values, plan = cube(shared=0.5), Plan("lowrank", options)
    state = lowrank.settle(lowrank.gather(Tile.whole(values, spatial=2), None, plan), plan)
    shared = state.correlation - np.eye(BANDS)
    assert abs(shared[9, 10] - 0.5) < 0.1
    shared[9, 10] = shared[10, 9] = 0
    assert np.abs(shared).max() < 0.15


def test_dead_columns_and_stripes_do_not_pass_for_shared_noise(tmp_path):
    values = cube()
    values[:, 5, 3], values[:, 7, 12:15] = 0, values[:, 7, 12:15] + 25
    options = lowrank.Options(noise_covariance="n.tsv")
    state = lowrank.settle(lowrank.gather(Tile.whole(values, spatial=2), None, plan := Plan("lowrank", options)), plan)
    clean = lowrank.settle(lowrank.gather(Tile.whole(cube(), spatial=2), None, plan), plan)
    assert state.repair is not None
    assert np.abs(state.correlation - clean.correlation).max() < 0.1


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json", ".npy"])
def test_tables_hold_the_same_numbers_in_every_form(tmp_path, suffix):
    columns = {"band": np.array([1, 2]), "snr": np.array([2.5, np.nan])}
    path = tmp_path / f"t{suffix}"
    write_table(path, columns)
    if suffix == ".json":
        assert json.loads(path.read_text()) == {"band": [1, 2], "snr": [2.5, None]}
    elif suffix == ".npy":
        assert np.load(path).dtype.names == ("band", "snr") and np.load(path)["snr"][0] == 2.5
    else:
        assert path.read_text().splitlines()[1].split("\t" if suffix == ".tsv" else ",") == ["1", "2.5"]
        assert np.isnan(np.genfromtxt(path, names=True, delimiter=None if suffix == ".tsv" else ",")["snr"][1])


def test_what_cannot_be_written_is_said_before_anything_is_read(scene, tmp_path):
    (tmp_path / "there.tsv").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        run(scene, snr=tmp_path / "there.tsv")
    with pytest.raises(OutputError, match="input itself"):
        run(scene, eigenimages=scene)
    with pytest.raises(UsageError, match="same name"):
        run(scene, snr=tmp_path / "a.tsv", noise_covariance=tmp_path / "a.tsv")
    with pytest.raises(UsageError, match="cannot be written so"):
        run(scene, snr=tmp_path / "a.xlsx")
    with pytest.raises(UsageError, match="suffix"):
        run(scene, eigenimages=tmp_path / "e.xyz")
    with pytest.raises(UsageError, match="denoise a path"):
        pellucid.denoise(cube(), field="hyperspectral", snr="a.tsv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scene.tif", "there.tsv"]
    run(scene, snr=tmp_path / "there.tsv", force=True)
    assert (tmp_path / "there.tsv").read_text().startswith("band\t")


def test_a_scene_without_signal_has_no_eigenimages_and_leaves_nothing(tmp_path):
    path = tmp_path / "noise.npy"
    np.save(path, np.random.default_rng(0).standard_normal((40, 40, 12)).astype(np.float32))
    with pytest.raises(Refused, match="no images"):
        run(path, "out.npy", eigenimages=tmp_path / "e.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["noise.npy"]


def test_one_name_for_several_scenes_is_an_error(scene, tmp_path):
    command = [sys.executable, "-m", "pellucid", "hyperspectral", "denoise", scene, scene, "-o", tmp_path / "o/"]
    done = subprocess.run([*map(str, command), "--snr", "s.tsv"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "--snr names one file" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_killed_run_leaves_no_further_file(scene, tmp_path):
    command = [sys.executable, "-m", "pellucid", "hyperspectral", "denoise", scene, "--snr", "s.tsv"]
    child = subprocess.Popen([*map(str, command), "--eigenimages", "e.tif"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while child.poll() is None and not list(tmp_path.glob(".s.tsv.*.part")):
        time.sleep(0.01)
    child.kill()
    child.wait()
    for name in ("s.tsv", "e.tif"):  # absent or complete
        assert not (tmp_path / name).exists() or os.path.getsize(tmp_path / name) > 100


def test_destripe_writes_the_offsets_it_took_out(tmp_path):
    values = cube()
    values[:, 7, 12] += 25
    np.save(tmp_path / "s.npy", values)
    task = registry.field("hyperspectral destripe")
    request = Request(out=tmp_path / "d.npy", method_options={"offsets": str(tmp_path / "o.tsv")})
    line.denoise(tmp_path / "s.npy", task, request, lambda *_: None)
    offsets = np.loadtxt(tmp_path / "o.tsv")
    assert offsets.shape == (SAMPLES, BANDS) and abs(offsets[7, 12] - 25) < 2
    assert np.allclose(values - offsets[None], np.load(tmp_path / "d.npy"), atol=1e-3)
