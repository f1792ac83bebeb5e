# SPDX-License-Identifier: Apache-2.0
"""How noisy a mosaic is: of blocks, patches, profiles and calibrations; and what a calibration finds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.core.errors import FormatError, Refused, UsageError
from pellucid.domains import registry
from pellucid.domains.declare import Subject
from pellucid.domains.raw import calibrate, checks, eld, noise, phantom, sensor, texture, vst
from pellucid.domains.raw.field import FIELD

RGGB = np.array(sensor.RGGB)
WHITE = 16383.0


def subject(values, options=None, **facts):
    d = phantom.description(values.shape, RGGB)
    d = d.with_(acquisition={**d.acquisition, **facts}, dtype=str(values.dtype))
    reader = SimpleNamespace(read=lambda region: values[region], path=Path("held"), description=d, close=lambda: None)
    return Subject(reader, d, options or {}, FIELD.formats)


def flat_steps(gain, read, seed=0, size=512):
    """Return a mosaic of sixteen flat steps and its noise."""
    levels = np.geomspace(30, 12000, 16).repeat(size // 16)
    rng = np.random.default_rng(seed)
    x = np.ones((size, 1)) * levels
    return np.rint(512 + gain * rng.poisson(x / gain) + read * rng.standard_normal(x.shape)).astype(np.uint16)


@pytest.mark.parametrize(("gain", "read"), [(0.5, 4.0), (3.2, 12.0), (20.0, 30.0)])
def test_flat_steps_give_gain_and_read_noise(gain, read):
    found = noise.estimate(subject(flat_steps(gain, read)))
    assert found.law == "poisson_gaussian" and found.estimator in ("blocks", "patches")
    assert abs(found.params["gain"] / gain - 1) < 0.08
    assert abs(found.params["read"] / read - 1) < 0.15


def test_texture_is_not_taken_for_noise():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:384, :384]
    grass = 2000 + 900 * np.sin(0.9 * x + 0.4 * y) * np.sin(0.5 * y - 0.7 * x) + 600 * np.sin(1.3 * y)
    clean = np.clip(grass, 50, None)
    noisy = np.rint(512 + 3 * rng.poisson(clean / 3) + 10 * rng.standard_normal(clean.shape)).astype(np.float32)
    seen = sensor.Sensor(RGGB, np.full((2, 2), 512.0), WHITE)
    flat = noise.fit_blocks(noisy, seen)
    found, name = noise.fit(noisy, seen)
    true = 3 * 2000 + 100
    told = [float(f.gain.mean() * 2000 + np.mean(f.read**2)) / true for f in (flat, found)]
    assert name == "patches" and told[0] > 3 and 0.7 < told[1] < 1.4


def test_pure_noise_has_weakest_components_of_its_own_variance():
    unit = np.random.default_rng(1).standard_normal((4000, 64))
    assert abs(texture.weakest(unit) - 1) < 0.06
    assert abs(texture.weakest(unit + 30 * np.random.default_rng(2).standard_normal((4000, 1))) - 1) < 0.06


def test_a_profile_in_the_file_comes_first_and_a_calibration_before_it(tmp_path):
    values = flat_steps(3.2, 12.0)
    span = phantom.WHITE - phantom.BLACK
    profile = [[3.0 / span, (11.0 / span) ** 2]]
    found = noise.estimate(subject(values, noise_profile=profile))
    assert found.estimator == "profile" and found.source == "file"
    assert abs(found.params["gain"] - 3.0) < 1e-6 and abs(found.params["read"] - 11.0) < 1e-6
    path = tmp_path / "cal.json"
    document = {"schema": noise.SCHEMA, "make": "pellucid", "model": "phantom", "iso": 3200, "gain": [3.3] * 4}
    path.write_text(json.dumps(document | {"read": [12.0] * 4, "row": 5.0}))
    found = noise.estimate(subject(values, {"calibration": path}, noise_profile=profile))
    assert found.estimator == "calibration" and found.params["gain"] == 3.3 and found.params["read"] == 13.0


def test_a_profile_that_says_much_more_than_the_file_holds_is_not_believed():
    values = flat_steps(0.2, 3.0)
    span = phantom.WHITE - phantom.BLACK
    held = subject(values, noise_profile=[[3.0 / span, (11.0 / span) ** 2]])
    found = noise.estimate(held)
    assert found.estimator in ("blocks", "patches") and found.params["gain"] < 0.3
    assert checks.already_clean(held)[0] == "already-denoised"


def test_a_calibration_of_another_iso_is_refused(tmp_path):
    path = tmp_path / "cal.json"
    path.write_text(json.dumps({"schema": noise.SCHEMA, "iso": 100, "gain": [1.0], "read": [2.0]}))
    with pytest.raises(Refused, match="iso 3200"):
        noise.estimate(subject(flat_steps(3.2, 12.0), {"calibration": path}))
    path.write_text("{}")
    with pytest.raises(FormatError, match="calibrate"):
        noise.estimate(subject(flat_steps(3.2, 12.0), {"calibration": path}))
    with pytest.raises(UsageError, match="--calibration"):
        noise.estimate(subject(flat_steps(3.2, 12.0)), "calibration")


def test_a_real_chart_is_unit_noise_after_the_transform(shared_data):
    rawpy = pytest.importorskip("rawpy")
    with rawpy.imread(str(shared_data("raw/colorchart.dng"))) as raw:
        values = raw.raw_image_visible.astype(np.float32)
    seen = sensor.Sensor(RGGB, np.full((2, 2), 2056.0), 15000.0)
    upper, lower = values[:578], values[578:]
    found, _ = noise.fit(upper, seen)  # the lower half is held out
    assert 10.5 < float(found.read.mean()) < 13.5
    # two of its levels alone, 48 and 962 DN of green: (2093 - 225) / (962 - 48) = 2.04 DN per electron
    assert 1.85 < float(found.gain.mean()) < 2.2
    unit = vst.Stabiliser(float(found.gain.mean()), float(found.read.mean()))
    for r in range(2):
        for c in range(2):
            plane = lower[r::2, c::2] - 2056
            mean, _, _ = noise.block_statistics(plane + 1000)
            _, fine, whole = noise.block_statistics(unit.forward(plane) + 1000)
            flat = whole <= noise.FLAT * fine
            for part in np.array_split(np.argsort(mean[flat]), 4):
                assert 0.9 < float(np.median(fine[flat][part])) < 1.1


def stacks(gain, seed, camera):
    """Return a stack as the acceptance figures ask: 8 levels x 2 flats, 16 darks, 1 % PRNU, 50 dead photosites."""
    rng = np.random.default_rng(seed)
    shape = (512, 512)
    sensitivity = 1 + 0.01 * rng.standard_normal(shape)
    dead = rng.choice(sensitivity.size, 50, replace=False)
    sensitivity.ravel()[dead] = 0

    def shot(level):
        measured = eld.expose(np.full(shape, float(level)), camera, rng, sensitivity=sensitivity)
        return np.clip(np.rint(measured + 512), 0, WHITE).astype(np.float32)

    flats = [shot(level) for level in np.linspace(0.03, 0.8, 8) * (WHITE - 512) for _ in range(2)]
    stack = calibrate.Stack(calibrate.pair(flats), [shot(0) for _ in range(16)], RGGB, {}, WHITE)
    return stack, {(int(i) // 512, int(i) % 512) for i in dead}


@pytest.mark.parametrize(("gain", "read", "row"), [(0.5, 2.3, 0.3), (2.0, 6.0, 0.8), (8.0, 15.0, 1.0)])
def test_calibration_finds_what_was_simulated(gain, read, row):
    stack, dead = stacks(gain, 1, eld.Camera(gain, read, row, 0.05))
    found = calibrate.measure(stack)
    assert abs(np.mean(found["gain"]) / gain - 1) < 0.02
    assert abs(np.mean(found["read"]) / read - 1) < 0.03
    assert abs(found["row"] / row - 1) < 0.08
    assert abs(found["prnu"] / 0.01 - 1) < 0.1
    assert abs(found["tukey_lambda"] - 0.05) < 0.03
    defects = {tuple(d) for d in found["defects"]}
    assert dead <= defects and len(defects - dead) <= 5


def test_the_published_cameras_can_be_drawn(shared_data):
    table = json.loads(shared_data("raw/eld_camera_params.json").read_text())["CanonEOS5D4"]
    cameras = [eld.draw(table, None, np.random.default_rng(i)) for i in range(50)]
    assert all(table["Kmin"] <= c.gain <= table["Kmax"] and c.read > 0 and c.row > 0 for c in cameras)


def test_flats_that_make_no_pairs_are_said_so():
    with pytest.raises(UsageError, match="no pairs"):
        calibrate.pair([np.ones((4, 4))] * 3)
    with pytest.raises(UsageError, match="light"):
        calibrate.pair([np.full((4, 4), v) for v in (1.0, 2.0, 3.0, 9.0)])


def test_a_calibration_goes_through_files(tmp_path):
    camera, rng = eld.Camera(2.0, 6.0), np.random.default_rng(3)
    shape, paths = (128, 128), []
    for i, level in enumerate([0, 0, 0, 0, 500, 500, 2000, 2000, 6000, 6000]):
        values = np.rint(eld.expose(np.full(shape, float(level)), camera, rng) + 512).astype(np.uint16)
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], values)
    document = calibrate.calibrate(paths[4:], paths[:4], cfa="RGGB")
    assert abs(np.mean(document["gain"]) / 2 - 1) < 0.05 and document["schema"] == noise.SCHEMA
    calibrate.write(tmp_path / "cal.json", document)
    assert noise.load(tmp_path / "cal.json")["pairs"] == 3


def test_the_verb_writes_and_says_what_it_found(tmp_path, capsys):
    from pellucid.cli.verbs import calibrate as verb

    rng = np.random.default_rng(4)
    (tmp_path / "darks").mkdir()
    for i in range(4):
        np.save(tmp_path / "darks" / f"{i}.npy", np.rint(512 + 9 * rng.standard_normal((64, 64))).astype(np.uint16))
    flats = []
    for i, level in enumerate((400, 400, 4000, 4000)):
        values = 512 + 3 * rng.poisson(np.full((64, 64), level / 3)) + 9 * rng.standard_normal((64, 64))
        flats.append(tmp_path / f"flat{i}.npy")
        np.save(flats[-1], np.rint(values).astype(np.uint16))
    values = {"files": flats, "darks": [tmp_path / "darks"], "out": tmp_path / "c.json", "cfa": "RGGB"}
    assert verb.run(values | {"force": False, "json": False}) == 0
    assert "gain" in capsys.readouterr().out and noise.load(tmp_path / "c.json")["darks"] == 4
    with pytest.raises(UsageError, match="no flats"):
        verb.run(values | {"files": [], "force": False, "json": False})


def test_every_estimator_named_can_be_asked_for():
    assert set(FIELD.estimators) == {"calibration", "profile", "blocks", "patches"}
    assert registry.field("raw").estimate is noise.estimate


def test_of_a_folder_the_calibration_of_this_camera_and_iso_is_taken(tmp_path):
    facts = {"make": "Maker", "model": "One", "iso": 800}
    for iso, gain in ((400, 1.0), (800, 2.0)):
        document = {"schema": noise.SCHEMA, **facts, "iso": iso, "gain": [gain], "read": [5.0]}
        (tmp_path / f"iso{iso}.json").write_text(json.dumps(document))
    (tmp_path / "other.json").write_text("{}")
    assert noise.pick(tmp_path, facts)["gain"] == [2.0]
    with pytest.raises(Refused, match="holds no calibration of Maker One 1600"):
        noise.pick(tmp_path, {**facts, "iso": 1600})
    (tmp_path / "again.json").write_text((tmp_path / "iso800.json").read_text())
    with pytest.raises(Refused, match="several calibrations .*again.json, iso800.json"):
        noise.pick(tmp_path, facts)
