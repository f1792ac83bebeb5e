# SPDX-License-Identifier: Apache-2.0
"""From echoes to pictures: a point where it is, the published image of the rotating disk, colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pellucid.core import memory
from pellucid.core.errors import UsageError
from pellucid.domains.declare import Subject
from pellucid.domains.ultrasound import beamform, bmode
from pellucid.formats import mat_us, picmus

FACTS = {"fs_hz": 20e6, "fc_hz": 5e6, "c_m_s": 1540.0, "pitch_mm": 0.3}
LINES = ("axial", "lateral", "frame")
GRID = (np.linspace(10e-3, 35e-3, 251), np.linspace(-12.5e-3, 12.5e-3, 251))


def echoes(points: list[tuple[float, float]], angles: tuple[float, ...] = (0.0,), elements: int = 64) -> np.ndarray:
    """Return RF (time, element, wave) of points (z, x) in metres: a Gaussian pulse after the exact flight time."""
    array = beamform.Array1D.of(FACTS, elements)
    times = np.arange(1000)[:, None] / 20e6
    out = np.zeros((1000, elements, len(angles)))
    for k, angle in enumerate(angles):
        for z, x in points:
            flight = (z * np.cos(angle) + x * np.sin(angle) + np.hypot(z, x - array.x)) / 1540
            out[..., k] += np.cos(2 * np.pi * 5e6 * (times - flight)) * np.exp(-(((times - flight) / 2e-7) ** 2))
    return out.astype(np.float32)


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the line of least absolute deviations, by reweighting."""
    weight = np.ones(len(x))
    for _ in range(40):
        matrix = np.stack([x, np.ones_like(x)], 1) * weight[:, None]
        line = np.linalg.lstsq(matrix, y * weight, rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(y - line[0] * x - line[1]), 1e-3))
    return float(line[0])


def subject(values: np.ndarray, kind: str, axes: tuple[str, ...], **facts: object) -> Subject:
    reader = memory.reader(values, axes, kind, acquisition=facts)
    return Subject(reader, reader.description)


@pytest.mark.parametrize("weight", ["none", "cf", "gcf"])
def test_points_appear_where_they_are(weight: str) -> None:
    angles = (-0.15, 0.0, 0.15)
    array = beamform.Array1D.of({**FACTS, "angles_rad": angles}, 64)
    grid = (np.arange(10e-3, 26e-3, 1e-4), np.arange(-6e-3, 6.1e-3, 1e-4))
    iq = beamform.demodulate(echoes([(0.015, 0.002), (0.022, -0.004)], angles), array)
    made = np.abs(beamform.image(iq, array, grid, 1.5, weight))[..., 0]
    for z, x in ((0.015, 0.002), (0.022, -0.004)):
        near = (np.abs(grid[0] - z) < 1e-3)[:, None] & (np.abs(grid[1] - x) < 1e-3)
        at = np.unravel_index(np.argmax(made * near), made.shape)
        assert abs(grid[0][at[0]] - z) <= 1.1e-4 and abs(grid[1][at[1]] - x) <= 1.1e-4


def test_phase_is_that_of_the_echo_at_its_place() -> None:
    array = beamform.Array1D.of(FACTS, 64)
    iq = beamform.demodulate(echoes([(0.015, 0.0)]), array)
    depths = np.array([14.95e-3, 15e-3, 15.05e-3])
    made = beamform.image(iq, array, (depths, np.array([0.0])), 1.5)[:, 0, 0]
    assert abs(np.angle(made[1])) < 0.05  # the pulse is a cosine at its middle
    assert np.diff(np.angle(made)) == pytest.approx(4 * np.pi * 5e6 / 1540 * 5e-5, rel=0.02)  # two ways


def test_the_rotating_disk_is_imaged_and_turns_as_published(shared_data: Callable[[str], Path]) -> None:
    reader = mat_us.open(shared_data("ultrasound/rf/PWI_disk.mat"))
    values = reader.read((slice(0, 334), slice(0, 128), slice(0, 32)))
    array = beamform.Array1D.of(reader.description.acquisition, 128)
    assert array.f_number() == pytest.approx(1.125, abs=0.02)
    made = beamform.image(beamform.demodulate(values, array), array, GRID)
    envelope = np.abs(made)
    # PyMUST 0.1.9, dasmtx(..., "linear") on the same grid: 23935, 3212, 1790
    assert envelope.max() == pytest.approx(23935, rel=0.01)
    assert envelope.mean() == pytest.approx(3212, rel=0.01) and np.median(envelope) == pytest.approx(1790, rel=0.01)
    power, cycles = bmode.kasai(made)
    speed = -1480 * 1e4 / (4 * np.pi * 5e6) * cycles * 2 * np.pi
    inside = power > power.max() * 10**-2.5
    across = np.broadcast_to(GRID[1], speed.shape)[inside]
    assert slope(across, speed[inside]) == pytest.approx(55.7, abs=1.5)
    rows, columns = np.meshgrid(*GRID, indexing="ij")
    core = np.hypot(rows - 22.5e-3, columns) < 8e-3  # away from the rim and from what lies around
    assert slope(columns[core], speed[core]) == pytest.approx(61.3, abs=1)


def test_steered_waves_of_field_ii_sharpen_the_points(shared_data: Callable[[str], Path]) -> None:
    reader = picmus.open(shared_data("ultrasound/rf/pybf_fieldii_pw3.hdf5"))
    values = reader.read((slice(0, 2313), slice(0, 192), slice(0, 3)))
    array = beamform.Array1D.of(reader.description.acquisition, 192)
    iq = beamform.demodulate(values, array)
    x = np.arange(-2e-3, 2e-3, 4e-5)
    for depth, widest in ((10.35, 0.62), (22.18, 0.66), (34.0, 0.69), (45.83, 0.87)):  # mm; the unsteered wave's
        grid = (np.arange(depth - 0.5, depth + 0.5, 0.02) * 1e-3, x)
        made = np.abs(beamform.image(iq, array, grid, 1.5))[..., 0]
        at = np.unravel_index(made.argmax(), made.shape)
        assert abs(grid[0][at[0]] * 1e3 - depth) < 0.4
        row = made[at[0]] >= made.max() / 2
        assert 0.3 < row.sum() * 0.04 <= 1.1 * widest


def test_grey_levels_are_decibels() -> None:
    assert bmode.grey(np.array([1.0, 10**-1.5, 1e-3, 1e-9, 0.0]), 60).tolist() == [255, 128, 0, 0, 0]
    assert not bmode.grey(np.zeros((3, 3)), 60).any()


@pytest.mark.parametrize("kind", ["iq", "envelope", "rf"])
def test_lines_become_a_picture(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.rayleigh(size=(60, 40, 3)).astype(np.float32)
    values = values * np.exp(1j * rng.random(values.shape)) if kind == "iq" else values
    made = bmode.run(
        subject(values.astype("complex64" if kind == "iq" else "float32"), kind, LINES),
        bmode.Options(),
    )
    assert made.values.shape == (60, 40, 3) and made.values.dtype == np.uint8 and made.values.max() == 255
    assert made.description.axes == ("y", "x", "frame") and made.description.kind == "bmode"


def test_velocities_are_coloured_by_sign_and_measured() -> None:
    turn = np.exp(2j * np.pi * 0.1 * np.arange(10))
    values = np.ones((20, 30, 1)) * turn
    values[:, 15:] = values[:, 15:].conj()
    given = subject(values.astype(np.complex64), "iq", LINES, prf_hz=1e4, fc_hz=5e6)
    made = bmode.run(given, bmode.Options(show="colour"))
    assert made.values.shape == (20, 30, 3) and made.description.kind == "rgb"
    assert (made.values[:, :15, 0] > made.values[:, :15, 2]).all()
    assert (made.values[:, 15:, 2] > made.values[:, 15:, 0]).all()
    one = bmode.run(
        subject(values[:, :15].astype(np.complex64), "iq", LINES),
        bmode.Options("colour", nyquist=50),
    )
    assert one.facts["velocity_median_cm_s"] == pytest.approx(10)


def test_what_cannot_be_drawn_is_said() -> None:
    envelope = subject(np.ones((9, 9, 4), np.float32), "envelope", LINES)
    with pytest.raises(UsageError, match="IQ"):
        bmode.run(envelope, bmode.Options(show="colour"))
    with pytest.raises(UsageError, match="frames"):
        bmode.run(envelope, bmode.Options(frame=9))
    with pytest.raises(UsageError, match="pitch"):
        bmode.run(subject(np.ones((99, 9), np.float32), "channel", ("time", "element")), bmode.Options())
    shown = subject(np.ones((9, 9), np.uint8), "bmode", ("y", "x"))
    assert bmode.already(shown) is not None
