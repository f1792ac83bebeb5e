# SPDX-License-Identifier: Apache-2.0
"""Scan conversion against closed forms, and what a conversion writes through the whole line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from pellucid.core import memory
from pellucid.core.errors import UsageError
from pellucid.domains.declare import Subject
from pellucid.domains.ultrasound import bmode, scan

LINES = ("axial", "lateral", "frame")


def main(words: list[str]) -> int:
    """Run the real command; what it says on stderr is printed."""
    done = subprocess.run([sys.executable, "-m", "pellucid", *words], capture_output=True, text=True, check=False)
    print(done.stderr, file=sys.stderr)
    return done.returncode


CURVED = scan.Layout(np.linspace(-0.6, 0.6, 241), 40.0, 0.25)  # of an array of 40 mm radius
PHASED = scan.Layout(np.linspace(0.8, -0.8, 301), 2.0, 0.2)  # lines counted from the other side
STEERED = scan.Layout((np.arange(120) - 59.5) * 0.2, 3.0, 0.1, np.deg2rad(15))


def places(lines: scan.Layout, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return z and x of every sample of every line."""
    reach = lines.first + lines.step * np.arange(samples)[:, None]
    if lines.steer is None:
        return reach * np.cos(lines.across), reach * np.sin(lines.across)
    return reach * np.cos(lines.steer) + 0 * lines.across, lines.across + reach * np.sin(lines.steer)


@pytest.mark.parametrize("lines", [CURVED, PHASED, STEERED], ids=["curved", "phased", "steered"])
def test_a_ring_stays_a_ring(lines: scan.Layout) -> None:
    z, x = places(lines, 200)
    centre = float(z.min() + z.max()) / 2, 1.0
    away = np.hypot(z - centre[0], x - centre[1])
    made, pixel = scan.convert(away[..., None].astype(np.float32), lines, 0.2)
    rows = float(min(z.min(), lines.outline(200)[0].min())) + pixel * np.arange(made.shape[0])[:, None]
    middle = (x.min() + x.max()) / 2
    columns = middle + (np.arange(made.shape[1]) - (made.shape[1] - 1) / 2) * pixel
    wanted = np.hypot(rows - centre[0], columns - centre[1])
    inside = made[..., 0] > 0
    assert inside.mean() > 0.4
    clear = inside & (wanted > 2)  # at its very centre a cone has no slope to interpolate
    assert np.abs(made[..., 0] - wanted)[clear].max() < 0.02  # mm; bilinear: a tenth of a pixel
    assert abs(made.shape[0] * pixel - np.ptp(z)) < 2.5 and abs(made.shape[1] * pixel - np.ptp(x)) < 2.5


def test_lines_side_by_side_are_no_ring() -> None:
    z, x = places(CURVED, 200)
    away = np.hypot(z - 60, x)
    side_by_side = np.hypot(np.linspace(z.min(), z.max(), 200)[:, None] - 60, np.linspace(x.min(), x.max(), 241))
    assert np.abs(away - side_by_side).max() > 5


def test_constants_stay_constant_and_the_outside_is_black() -> None:
    made, _ = scan.convert(np.full((200, 241, 2), 7, np.float32), CURVED, 0.3)
    assert set(np.unique(made)) == {0.0, 7.0} and not made[0, made.shape[1] // 2].any()
    assert made[-1, made.shape[1] // 2].tolist() == [7, 7]


def subject(values: np.ndarray, kind: str, spacing: float | None = 0.25, **facts: object) -> Subject:
    reader = memory.reader(values, LINES[: values.ndim], kind, acquisition=facts)
    steps = (spacing, None, None)[: values.ndim]
    return Subject(reader, replace(reader.description, spacing=steps, units=("mm", None, None)[: values.ndim]))


def test_flags_and_files_say_the_same_fan() -> None:
    values = np.random.default_rng(0).rayleigh(size=(80, 60)).astype(np.float32)
    told = bmode.run(subject(values, "envelope"), bmode.Options(angle=70, radius=30))
    angles = np.deg2rad(np.linspace(-35, 35, 60)).tolist()
    said = bmode.run(subject(values, "envelope", line_angles_rad=angles, first_mm=30.0), bmode.Options())
    assert np.array_equal(told.values, said.values) and told.description.spacing == said.description.spacing
    assert told.description.spacing[0] == told.description.spacing[1] and told.description.units == ("mm", "mm")
    assert told.values.shape != values.shape
    with pytest.raises(UsageError, match="depth of a sample"):
        bmode.run(subject(values, "envelope", None), bmode.Options(angle=70))
    with pytest.raises(UsageError, match="full turn"):
        bmode.run(subject(values, "envelope"), bmode.Options(angle=360))
    with pytest.raises(UsageError, match="pixels"):
        bmode.run(subject(values, "envelope"), bmode.Options(angle=70, pixel=1e-4))


def test_grey_levels_of_lines_are_drawn_as_they_are() -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8)
    values[0, 0] = 255
    made = bmode.run(subject(values, "bmode"), bmode.Options())
    assert np.array_equal(made.values, values)


def test_complex_samples_of_files_that_say_nothing_are_drawn() -> None:
    values = np.random.default_rng(0).standard_normal((40, 30, 8)).astype(np.complex64)
    assert bmode.already(subject(values, "bmode")) is None
    assert bmode.run(subject(values, "bmode"), bmode.Options(show="power")).values.shape == (40, 30)


@pytest.mark.parametrize("said", bmode.PAIRS)
def test_lines_of_pairs_become_complex(said: str) -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((20, 6, 3)) + 1j * rng.standard_normal((20, 6, 3))
    parts = (wanted.real, wanted.imag)
    stored = np.stack(parts, 1).reshape(40, 6, 3) if said == "RF_IQ_LINE" else np.concatenate(parts)
    found = bmode._paired(stored, said)
    assert np.abs(found - wanted).max() < 1e-6
    with pytest.raises(UsageError, match="paired"):
        bmode._paired(stored, "")


def test_chance_has_no_colour_and_flow_keeps_its_own() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((60, 40, 12)) + 1j * rng.standard_normal((60, 40, 12))
    values[:, :20] = 2 * np.exp(2j * np.pi * 0.1 * np.arange(12))
    made = bmode.run(subject(values.astype(np.complex64), "iq"), bmode.Options(show="colour", nyquist=50))
    coloured = made.values.max(-1) != made.values.min(-1)
    assert coloured[:, :19].all() and coloured[:, 21:].mean() < 0.02
    assert made.facts["velocity_median_cm_s"] == pytest.approx(10, abs=0.2)


def saved(folder: Path, values: np.ndarray) -> str:
    np.save(folder / "cine.npy", values)
    return str(folder / "cine.npy")


def test_a_cine_becomes_a_clip_and_one_frame_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("av")
    values = np.random.default_rng(0).standard_normal((40, 30, 3)).astype(np.complex64)
    path = saved(tmp_path, values)
    assert main(["ultrasound", "bmode", path, "-q"]) == 0
    assert (tmp_path / "cine_bmode.mkv").exists() and not (tmp_path / "cine_bmode.png").exists()
    assert main(["ultrasound", "bmode", path, "-q", "--frame", "1"]) == 0
    assert imagecodecs.png_decode((tmp_path / "cine_bmode.png").read_bytes()).shape == (40, 30)


def test_three_frames_are_no_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).standard_normal((40, 30, 3)).astype(np.complex64)
    assert main(["ultrasound", "bmode", saved(tmp_path, values), "-q", "-o", str(tmp_path / "x.png")]) == 2
    assert "PNG" in capsys.readouterr().err and not (tmp_path / "x.png").exists()


def test_a_forced_kind_is_what_is_drawn(tmp_path: Path) -> None:
    values = np.random.default_rng(0).rayleigh(size=(40, 30)).astype(np.float32)
    path = saved(tmp_path, values)
    assert main(["ultrasound", "bmode", path, "-q", "--force-kind", "envelope"]) == 0
    shown = imagecodecs.png_decode((tmp_path / "cine_bmode.png").read_bytes())
    assert np.array_equal(shown, bmode.grey(values, 60))


def test_the_carotid_is_red_where_the_scanner_shows_it_red(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    flow, picture = tmp_path / "flow.raw", tmp_path / "flow.png"
    assert main(["ultrasound", "clutter", str(shared_data("ultrasound/clarius/carotid_iq.raw")), "-qo", str(flow)]) == 0
    asked = ["ultrasound", "bmode", str(flow), "-qo", str(picture), "--show", "colour", "--nyquist", "38.5"]
    assert main(asked) == 0
    shown = imagecodecs.png_decode(picture.read_bytes()).astype(int)
    red, blue = shown[..., 0] > shown[..., 2] + 20, shown[..., 2] > shown[..., 0] + 20
    assert red[90:140, 20:90].mean() > 0.97 and not blue[90:140, 20:90].any()
    assert (red | blue)[200:330, 10:90].mean() < 0.1
    facts = json.loads((tmp_path / "flow.png.pellucid.json").read_text())["facts"]
    assert facts["velocity_median_cm_s"] == pytest.approx(13.1, abs=1)  # slow edges too; 15 inside
    assert main([*asked, "--force", "--pitch", "0.2"]) == 0  # the box on the scanner's screen is a parallelogram
    leaning = imagecodecs.png_decode(picture.read_bytes()).any(-1)
    first = [int(np.flatnonzero(leaning[row])[0]) for row in (5, leaning.shape[0] - 5)]
    turned = np.arctan2(first[1] - first[0], leaning.shape[0] - 10)
    assert np.rad2deg(turned) == pytest.approx(15, abs=0.5)
