# SPDX-License-Identifier: Apache-2.0
"""The raw field: what it refuses and warns of, levels and patterns, developing, and the whole way of a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.core.errors import FormatError, UsageError
from pellucid.core.types import Description, Plan, Tile
from pellucid.domains import line, registry
from pellucid.domains.declare import Subject
from pellucid.domains.raw import checks, demosaic, develop, eld, metrics, noise, phantom, sensor
from pellucid.domains.raw.field import FIELD
from pellucid.domains.request import Request

RGGB = np.array(sensor.RGGB)


def held(values, options=None, description=None, **facts) -> Subject:
    d = description or phantom.description(values.shape, RGGB)
    d = d.with_(acquisition={**d.acquisition, **facts})
    reader = SimpleNamespace(read=lambda region: values[region], path=Path("held"), description=d, close=lambda: None)
    return Subject(reader, d, options or {}, FIELD.formats)


def run(values, subject, given=None, name="vst-nlm"):
    method = registry.method(name, "raw")
    plan = Plan(name, options=method.Options(), extras=FIELD.extras(subject))
    noise_ = given or noise.estimate(subject)
    return method.run(Tile.whole(values.astype(np.float32)), noise_, plan, np.random.default_rng(0)).values


def silent(*_):
    return None


def test_declaring_the_field_loads_no_heavy_library():
    script = (
        "import sys; import pellucid.domains.raw.field; print(sorted({'numpy','torch','scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_methods_that_mix_neighbours_are_not_offered():
    assert registry.methods_of(FIELD) == ("vst-nlm", "vst-bm3d", "nlm", "identity")
    assert registry.method("vst-nlm", "raw").TRAITS.name == "vst-nlm"


def test_mosaics_and_linear_raw_get_their_own_method():
    mosaic = held(np.zeros((8, 8), np.uint16))
    linear = held(
        np.zeros((8, 8, 3), np.uint16), description=Description("npy", (8, 8, 3), ("y", "x", "channel"), "uint16")
    )
    chosen = [next(c.method for c in FIELD.choose if c.when(s)) for s in (mosaic, linear)]
    assert chosen == ["vst-nlm", "nlm"]
    assert checks.demosaicked(linear)[0] == "already-demosaicked" and checks.demosaicked(mosaic) is None


def test_pictures_constants_and_complex_samples_are_refused():
    values = np.full((8, 8), 3, np.uint16)
    d = phantom.description(values.shape, RGGB)
    assert "one value" in checks.empty(held(values)).what
    assert "image" in checks.not_raw(held(values, description=d.with_(kind="rgb"))).hint
    assert checks.complex_samples(held(values, description=d.with_(dtype="complex64"))) is not None
    assert checks.not_raw(held(values)) is None


def test_a_pattern_that_nobody_told_is_said_to_be_assumed():
    bare = Description("npy", (8, 8), ("y", "x"), "uint16")
    values = np.zeros((8, 8), np.uint16)
    assert checks.assumed_pattern(held(values, description=bare))[0] == "assumed-pattern"
    assert checks.assumed_pattern(held(values, {"cfa": "GBRG"}, bare)) is None
    assert sensor.of(held(values, {"cfa": "GBRG"}, bare)).cfa.tolist() == [[1, 2], [0, 1]]
    with pytest.raises(UsageError, match="pattern"):
        sensor.pattern("RGBX")


def test_black_is_of_flags_then_borders_that_agree_then_the_file():
    values = np.zeros((8, 8), np.uint16)

    def border(mean, sd=12.0):
        return {"mean": [[mean, mean], [mean + 1, mean + 1]], "sd": [[sd, sd], [sd, sd]]}

    agree = {"left": border(510.0), "top": border(511.0)}
    apart = {"left": border(510.0), "top": border(520.0)}
    assert sensor.of(held(values, optical_black=agree)).black.tolist() == [[510.5, 510.5], [511.5, 511.5]]
    assert (sensor.of(held(values, optical_black=apart)).black == 512).all()
    assert (sensor.of(held(values, {"black": "file"}, optical_black=agree)).black == 512).all()
    told = sensor.of(held(values, {"black": "500,501,502,503"}, optical_black=agree))
    assert told.black.tolist() == [[500, 501], [502, 503]]
    assert checks.black_levels(held(values, optical_black=apart))[0] == "black-level"
    with pytest.raises(UsageError, match="level"):
        sensor.of(held(values, {"black": "much"}))


def test_a_dark_frame_of_another_size_is_an_error(tmp_path):
    np.save(tmp_path / "dark.npy", np.full((8, 6), 520, np.uint16))
    values = np.zeros((8, 8), np.uint16)
    with pytest.raises(FormatError, match="dark"):
        sensor.of(held(values, {"dark": tmp_path / "dark.npy"}))
    np.save(tmp_path / "dark.npy", np.full((8, 8), 520, np.uint16))
    assert (sensor.of(held(values, {"dark": tmp_path / "dark.npy"})).dark == 8).all()


def test_a_clean_mosaic_is_hardly_touched():
    made = phantom.simulate(0, "eld")
    clean = held(made.truth)
    error = run(made.truth, clean).astype(float) - made.truth
    span = phantom.WHITE - phantom.BLACK
    assert -10 * np.log10(max(np.mean(error**2), 1e-9) / span**2) >= 45


@pytest.mark.parametrize("name", ["vst-nlm", "vst-bm3d"])
def test_a_second_run_changes_little(name):
    made = phantom.simulate(0, "unprocessed", (320, 480))
    once = np.rint(run(made.noisy, held(made.noisy), name=name)).astype(np.uint16)
    twice = run(once, held(once), name=name)
    first, second = (float(np.std(b.astype(float) - a)) for a, b in ((made.noisy, once), (once, twice)))
    assert second < 0.2 * first


@pytest.mark.parametrize("letters", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_demosaicking_gives_ramps_back(letters):
    y, x = np.mgrid[:40, :44]
    rgb = np.stack([0.2 + 0.01 * x, 0.3 + 0.004 * y, 0.6 - 0.005 * x], -1)
    cfa = sensor.pattern(letters)
    out = demosaic.demosaic(phantom.mosaic(rgb, cfa), cfa)
    assert np.abs(out - rgb)[4:-4, 4:-4].max() < 0.011
    grey = np.repeat((0.1 + 0.01 * x)[..., None], 3, -1)
    assert np.abs(demosaic.demosaic(phantom.mosaic(grey, cfa), cfa) - grey)[4:-4, 4:-4].max() < 1e-5


def test_demosaicking_six_by_six_keeps_grey_grey():
    flat = np.full((36, 42, 3), 0.4)
    out = demosaic.demosaic(phantom.mosaic(flat, np.array(sensor.XTRANS)), np.array(sensor.XTRANS))
    assert np.abs(out - 0.4).max() < 1e-5


def test_a_grey_card_develops_grey_and_highlights_stay_neutral():
    signal = phantom.mosaic(np.full((64, 64, 3), 0.3) / np.array(phantom.WB), RGGB)
    card = held(phantom.stored(signal * (phantom.WHITE - phantom.BLACK)))
    made = develop.run(card, develop.Options())
    inner = made.values[8:-8, 8:-8].astype(float)
    assert made.values.dtype == np.uint16 and made.description.acquisition["icc_profile"]
    assert np.ptp(inner.mean((0, 1))) < 40 and abs(inner.mean() / 65535 - demosaic.srgb(0.3)) < 0.003
    full = held(np.full((64, 64), phantom.WHITE, np.uint16))
    assert (develop.run(full, develop.Options()).values[8:-8, 8:-8] > 65000).all()


def test_strips_do_not_show(monkeypatch):
    made = phantom.simulate(0, "eld", (120, 80))
    whole = develop.run(held(made.noisy), develop.Options()).values
    monkeypatch.setattr(develop, "STRIP", 37)
    assert np.array_equal(develop.run(held(made.noisy), develop.Options()).values, whole)


def test_a_missing_balance_falls_back_and_says_so():
    values = phantom.simulate(0, "eld", (64, 64)).noisy
    unknown = held(values, wb=[0, 1, 0, 0])
    made = develop.run(unknown, develop.Options())
    assert made.warnings[0][0] == "white-balance" and made.facts["white_balance_from"] == "daylight"
    grey = held(values, wb=[0, 1, 0, 0], color_matrix=None)
    assert develop.run(grey, develop.Options()).facts["white_balance_from"] == "grey"
    with pytest.raises(UsageError, match="white balance"):
        develop.run(unknown, develop.Options(wb="sunny"))


def test_unprocessing_is_undone_by_developing():
    rgb = np.random.default_rng(0).random((8, 8, 3))
    assert np.allclose(demosaic.srgb(eld.unprocess(rgb) * np.array(phantom.WB)), rgb, atol=1e-6)


def test_tukey_noise_has_the_spread_asked_for():
    rng = np.random.default_rng(0)
    for shape in (-0.2, 0.0, 0.14, 0.3):
        values = eld.read_noise((1000, 1000), eld.Camera(1.0, 5.0, shape=shape), rng)
        assert abs(values.std() / 5 - 1) < 0.03


@pytest.mark.parametrize("case", FIELD.cases)
def test_every_case_is_simulated_as_described(case):
    made = phantom.simulate(1, case, (120, 96))
    assert made.truth.shape == made.noisy.shape == (120, 96) and made.noisy.dtype == np.uint16
    assert not np.array_equal(made.noisy, phantom.simulate(2, case, (120, 96)).noisy)
    with pytest.raises(UsageError, match="xtrans"):
        phantom.simulate(0, "moon")


def test_figures_see_gain_shift_and_nothing():
    made = phantom.simulate(0, "eld", (120, 160))
    truth = made.truth.astype(float)
    found = metrics.measure(truth, truth + 5, made.description)
    assert abs(found["bias"] - 5) < 1e-9
    judged = metrics.judge(made.noisy.astype(float), truth, made.description, made.noise)
    assert abs(judged["correlation_y"]) < 0.06 and 0.3 < judged["residual_over_sigma"] < 2
    assert metrics.picture(made.noisy, made.description).shape == (60, 80, 3)


def test_a_file_goes_the_whole_way(tmp_path):
    made = phantom.simulate(0, "eld", (120, 160))
    source = tmp_path / "bare.npy"
    np.save(source, made.noisy)
    request = Request(out=tmp_path / "out.npy", field_options={"black": "512", "cfa": "RGGB"})
    outcome = line.denoise(source, FIELD, request, silent)
    stored = np.load(outcome.path)
    assert stored.dtype == np.uint16 and stored.std() > 0
    assert outcome.document["plan"]["method"] == "vst-nlm"
    assert outcome.document["plan"]["noise"]["black"] == 512
    before, after = (metrics.measure(made.truth, v, made.description)["psnr"] for v in (made.noisy, stored))
    assert after > before + 2


def test_a_dng_goes_the_whole_way(tmp_path):
    pytest.importorskip("rawpy")
    from pellucid.domains import compare, convert

    made = phantom.simulate(0, "eld", (120, 160))
    source, truth = compare.write_phantom(made, tmp_path / "a.dng", FIELD.formats, force=False)
    outcome = line.denoise(source, FIELD, Request(out=tmp_path / "b.dng"), silent)
    found = compare.evaluate(outcome.path, FIELD, Request(), reference=truth, before=source)
    assert found["reference"]["psnr"] > found["reference_before"]["psnr"] + 2
    conversion = registry.conversion("raw develop")
    shown = convert.convert(
        outcome.path, registry.field("raw develop"), conversion, Request(out=tmp_path / "b.png"), silent
    )
    assert shown.path.stat().st_size > 1000 and json.dumps(shown.document["facts"])
