# SPDX-License-Identifier: Apache-2.0
"""Regions of ultrasound screens and the traps real files hold, and what the pixels say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pellucid.formats import dicom_us, us_regions
from pellucid.formats.us_content import Content, hull
from pellucid.formats.us_regions import ScreenRegion

TISSUE, ECG, COLOUR, BAR = (1, 1), (4, 10), (1, 2), (0, 13)
CM = ((3, 3), (0.05, 0.05))
SHAPE = (100, 200)


def region(box: tuple[int, int, int, int], kind: tuple[int, int] = TISSUE) -> ScreenRegion:
    return ScreenRegion(*box, *kind, *CM)


def test_trap_1_an_end_one_pixel_too_far_is_clamped_silently() -> None:
    found = (region((20, 10, 200, 90)),)  # X1 is the number of columns
    assert us_regions.trusted(found, SHAPE)
    mask = us_regions.tissue_mask(found, SHAPE)
    assert mask.sum() == 180 * 81 and mask[10, 199] and not mask[9, 199] and not mask[50, 19]


def test_trap_2_regions_of_an_earlier_size_are_not_used() -> None:
    assert not us_regions.trusted((region((84, 31, 201, 90)),), SHAPE)
    assert not us_regions.trusted((region((0, 0, 199, 99)), region((0, 102, 199, 130), ECG)), SHAPE)
    assert us_regions.trusted((region((0, 0, 199, 100)),), SHAPE)


def test_trap_3_a_bar_inside_the_tissue_is_taken_out_and_a_tissue_inset_is_kept() -> None:
    found = (region((0, 0, 199, 99)), region((10, 10, 19, 49), BAR))
    mask = us_regions.tissue_mask(found, SHAPE)
    assert mask.sum() == SHAPE[0] * SHAPE[1] - 10 * 40 and not mask[10:50, 10:20].any()
    screen = (region((0, 0, 199, 99), (5, 0)), region((50, 20, 149, 79)))
    assert us_regions.tissue_mask(screen, SHAPE).sum() == 100 * 60
    partly = (region((0, 0, 99, 99)), region((80, 0, 199, 99), COLOUR))
    assert us_regions.tissue_mask(partly, SHAPE).sum() == 80 * 100
    same = (region((0, 0, 99, 99)), region((0, 0, 99, 99), COLOUR))
    assert not us_regions.tissue_mask(same, SHAPE).any()


def test_trap_4_without_regions_colours_boxes_and_text_are_found_by_looking(
    shared_data: Callable[[str], Path],
) -> None:
    reader = dicom_us.open(shared_data("ultrasound/dicom/examples_jpeg2k.dcm"))
    assert [code for code, _ in reader.description.notes] == ["content-mask", "burned-in"]
    mask = reader.mask((slice(0, 480), slice(0, 640)))
    assert not mask[:105].any() and not mask[345:].any(), "text above and below"
    assert not mask[148, 90:310].any() and not mask[293:295, 90:310].any(), "lines of the colour box"
    assert not mask[155:215, 18:40].any(), "colour bar"
    assert mask[305:330, 50:600].mean() > 0.99, "tissue"
    assert 0.3 < mask.mean() < 0.4
    reader.close()


def test_regions_of_a_cropped_picture_are_not_used(shared_data: Callable[[str], Path]) -> None:
    for name in ("examples_palette.dcm", "examples_ybr_color.dcm"):
        reader = dicom_us.open(shared_data(f"ultrasound/dicom/{name}"))
        assert {"regions-ignored", "content-mask"} <= {code for code, _ in reader.description.notes}
        assert reader.description.spacing[:2] == (None, None)
        mask = reader.mask(tuple(slice(0, n) for n in reader.description.shape[:2]))
        assert 0.05 < mask.mean() < 0.4
        reader.close()


def test_spacing_is_that_of_tissue_in_centimetres() -> None:
    one = region((0, 0, 99, 99))
    assert us_regions.spacing_mm((one,)) == pytest.approx((0.5, 0.5))
    other = ScreenRegion(100, 0, 199, 99, 1, 1, (3, 3), (0.06, 0.06))
    assert us_regions.spacing_mm((one, other)) == (None, None)
    assert us_regions.spacing_mm((ScreenRegion(0, 0, 9, 9, 4, 10, (4, 0), (0.01, 0)),)) == (None, None)


def test_the_hull_of_a_triangle_is_the_triangle() -> None:
    points = np.zeros((41, 41), bool)
    points[0, 20] = points[40, 0] = points[40, 40] = True
    found = hull(points)
    y, x = np.mgrid[:41, :41]
    assert np.array_equal(found, abs(x - 20) <= y / 2)
    assert not hull(np.zeros((3, 3), bool)).any()


def screen(seed: int = 0) -> np.ndarray:
    """Return a fan of speckle on a black screen."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :200]
    fan = (abs(x - 100) < 20 + y * 0.5) & (np.hypot(y, x - 100) < 150)
    return np.where(fan, np.clip(rng.rayleigh(40, fan.shape) + 12, 0, 200), 0).astype(np.uint8)


def looked_at(*frames: np.ndarray) -> np.ndarray:
    content = Content()
    for frame in frames:
        content.add(frame, frame if frame.ndim == 2 else frame[..., 1])
    shape = frames[0].shape[:2]
    return content.mask(np.ones(shape, bool), [(slice(0, shape[0]), slice(0, shape[1]))])


def test_speckle_is_kept_and_text_is_not() -> None:
    picture = screen()
    picture[70:80, 100] = picture[75, 95:106] = 255  # a caliper on tissue
    picture[5:12, 5:40:3] = 255  # text beside the fan
    picture[100:107, 90:110:4] = 210  # grey text on tissue
    mask = looked_at(picture)
    assert not mask[70:80, 100].any() and not mask[75, 95:106].any()
    assert not mask[:14, :45].any() and not mask[100:107, 90:110:4].any()
    fan = screen() > 0
    assert mask[fan].mean() > 0.9 and mask[~fan].mean() < 0.1


def test_the_overlay_of_a_cine_is_what_never_changes() -> None:
    frames = [screen(i) for i in range(4)]
    for frame in frames:
        frame[80:100, 90:120] = 90  # a dull label, too wide and too dark for a stroke
    mask = looked_at(*frames)
    assert not mask[80:100, 90:120].any()
    assert mask[(frames[0] > 0) & (frames[1] > 0)].mean() > 0.85


def test_coloured_pixels_and_their_edges_are_left_alone() -> None:
    picture = np.repeat(screen()[..., None], 3, 2)
    picture[60:80, 90:110, 0] = 200
    mask = looked_at(picture)
    assert not mask[58:82, 88:112].any() and mask[90:110, 90:110].mean() > 0.9


@pytest.mark.parametrize("step", [1, 8])
def test_grey_that_is_one_colour_step_off_is_grey_where_colours_are_coarse(step: int) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256 // step, (60, 60)).astype(np.uint8) * step
    frame = np.stack([grey] * 3, -1)
    frame[20, 20, 0] = grey[20, 20] + (step if grey[20, 20] < 248 else -step)
    frame[40, 40] = (0, 248, 0)
    found = Content(255)
    found.add(frame, grey)
    coloured = found.coloured()
    assert coloured[40, 40] and coloured[20, 20] == (step == 1)
