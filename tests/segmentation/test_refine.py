"""Refinement on tiny masks, drawn as text: # object, . background."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.errors import BadSettingError
from streamseg.segmentation.masks import MaskRegion
from streamseg.segmentation.refine import RefineOptions, refine_mask
from tests.segmentation.drawing import drawn, text

OFF = RefineOptions.NONE


def options(**settings: Any) -> RefineOptions:
    return RefineOptions(**{"min_area_px": 0, "max_hole_px": 0, "close_px": 0, "smooth_px": 0, **settings})


def refined(mask: NDArray[np.bool_], settings: RefineOptions) -> NDArray[np.bool_]:
    return refine_mask(MaskRegion.from_mask(mask), settings).full()


CASES = {
    "small parts go": (
        options(min_area_px=3),
        "##..... ##...#. .....#. .......",
        "##..... ##..... ....... .......",
    ),
    "a part of exactly the least area stays": (
        options(min_area_px=2),
        "##..... ##...#. .....#. #......",
        "##..... ##...#. .....#. .......",
    ),
    "the largest part stays however small": (
        options(min_area_px=100),
        "....... .##..#. ....... .......",
        "....... .##.... ....... .......",
    ),
    "pixels that touch at a corner are one part": (
        options(min_area_px=4),
        "##..... ##..... ..#.... ...#..#",
        "##..... ##..... ..#.... ...#...",
    ),
    "a ring counts its own pixels, not what it encloses": (
        options(min_area_px=9),
        "###.##### #.#.##### ###.#####",
        "....##### ....##### ....#####",
    ),
    "removing a ring spares the object inside it": (
        options(min_area_px=24),
        "######## #......# #.####.# #.####.# #.####.# #.####.# #......# ########",
        "######## #......# #.####.# #.####.# #.####.# #.####.# #......# ########".replace("#.####.#", "#......#"),
    ),
    "holes are filled up to the size": (
        options(max_hole_px=1),
        "######## #.###..# ########",
        "######## #####..# ########",
    ),
    "a hole open to the outside is none": (
        options(max_hole_px=9),
        "##### #.### #.### ##### ####.",
        "##### ##### ##### ##### ####.",
    ),
    "a corner does not open a hole": (
        options(max_hole_px=1),
        ".#. #.# .#.",
        ".#. ### .#.",
    ),
    "a filled hole swallows what lies in it": (
        options(max_hole_px=9),
        "##### #...# #.#.# #...# #####",
        "##### ##### ##### ##### #####",
    ),
    "the pixels inside a hole decide, islands included": (
        options(max_hole_px=8),
        "##### #...# #.#.# #...# #####",
        "##### #...# #.#.# #...# #####",
    ),
    "a hole in a part that goes is not filled": (
        options(min_area_px=9, max_hole_px=9),
        "###.#### #.#.#### ###.####",
        "....#### ....#### ....####",
    ),
    "closing bridges a gap": (
        options(close_px=1),
        "....... .##.##. .##.##. .##.##. .......",
        "....... .##.##. .#####. .##.##. .......",
    ),
    "closing keeps what touches the frame's edge and adds nothing along it": (
        options(close_px=3),
        "..##... ..##... ..##... ..##...",
        "..##... ..##... ..##... ..##...",
    ),
    "the largest part only": (
        options(largest_only=True),
        "##...#. ##...#. ......# #......",
        "##..... ##..... ....... .......",
    ),
    "parts that closing joins count as one": (
        options(close_px=1, largest_only=True),
        ".......... .##.##...# .##.##...# .##.##...# .......... .......... ###....... ###....... ###.......",
        ".......... .##.##.... .#####.... .##.##.... .......... .......... .......... .......... ..........",
    ),
    "a single pixel survives": (
        options(min_area_px=64, max_hole_px=64, largest_only=True),
        "... .#. ...",
        "... .#. ...",
    ),
    "smoothing never takes the whole object": (options(smooth_px=5), "..... ..#.. .....", "..... ..#.. ....."),
    "nothing stays nothing": (RefineOptions(), "... ...", "... ..."),
    "the whole frame stays the whole frame": (
        RefineOptions(min_area_px=9, max_hole_px=9, close_px=3, smooth_px=3, largest_only=True),
        "#### #### ####",
        "#### #### ####",
    ),
}


@pytest.mark.parametrize(("settings", "before", "after"), CASES.values(), ids=CASES.keys())
def test_refined(settings: RefineOptions, before: str, after: str) -> None:
    assert text(refined(drawn(before), settings)) == after


def test_off_gives_the_very_same_region() -> None:
    region = MaskRegion.from_mask(drawn("#.# ... #.#"))
    assert refine_mask(region, OFF) is region


def test_the_region_given_is_not_changed() -> None:
    before = drawn("##..... #.#..#. ###.... .......")
    region = MaskRegion(7, 4, 0, 0, before.copy())
    refine_mask(region, RefineOptions(min_area_px=2, max_hole_px=5, close_px=1, smooth_px=1))
    assert np.array_equal(region.bits, before)


def test_the_window_shrinks_with_the_mask() -> None:
    mask = np.zeros((500, 700), dtype=bool)
    mask[200:260, 300:380] = True
    mask[3, 3] = mask[490, 690] = True
    region = refine_mask(MaskRegion.from_mask(mask), options(min_area_px=2))
    assert (region.x0, region.y0, region.bits.shape) == (300, 200, (60, 80))
    assert (region.width, region.height) == (700, 500)


def test_smoothing_takes_spikes_and_keeps_straight_edges() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[20:, :] = True
    mask[10:20, 30] = True
    expected = np.zeros_like(mask)
    expected[20:, :] = True
    smooth = refined(mask, options(smooth_px=3))
    assert not smooth[:18].any()
    assert np.array_equal(smooth[:, :20], expected[:, :20])
    assert smooth[20:].all(), "the frame's corners and lower edge stay"


def test_smoothing_a_disc_keeps_its_place_and_size() -> None:
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (40, 38), 20, 1, -1)
    before = mask.astype(bool)
    smooth = refined(before, options(smooth_px=3))
    assert np.count_nonzero(smooth & before) / np.count_nonzero(smooth | before) > 0.98


def test_a_disc_at_the_border_of_its_window_is_smoothed_as_in_the_open() -> None:
    """What the window cuts off is background, so the result does not depend on how tight it is."""
    mask = np.zeros((60, 60), np.uint8)
    cv2.circle(mask, (30, 30), 12, 1, -1)
    loose = MaskRegion(60, 60, 0, 0, mask.astype(bool))
    settings = RefineOptions(close_px=4, smooth_px=4)
    assert np.array_equal(refine_mask(loose, settings).full(), refine_mask(loose.tight(), settings).full())


@pytest.mark.parametrize("seed", range(12))
def test_parts_and_holes_agree_with_counting_pixels(seed: int) -> None:
    """Areas from contours are exact: random noise gives the same result as labelling every pixel."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((70, 90)), (0, 0), 0.4 + 0.15 * seed)
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.7))
    least = int(rng.integers(2, 40))
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    keep = [part for part in range(1, parts) if part == largest or stats[part, cv2.CC_STAT_AREA] >= least]
    assert np.array_equal(refined(mask, options(min_area_px=least)), np.isin(labels, keep))

    one_part = labels == largest
    holes, labels, stats, _ = cv2.connectedComponentsWithStats((~one_part).astype(np.uint8), connectivity=4)
    inside = [
        hole
        for hole in range(1, holes)
        if not (labels[[0, -1]] == hole).any() and not (labels[:, [0, -1]] == hole).any()
    ]
    small = [hole for hole in inside if stats[hole, cv2.CC_STAT_AREA] <= least]
    assert np.array_equal(refined(one_part, options(max_hole_px=least)), one_part | np.isin(labels, small))
    assert np.array_equal(refined(mask, options(largest_only=True)), one_part)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_area_px": -1},
        {"max_hole_px": 1.5},
        {"close_px": 65},
        {"smooth_px": True},
        {"min_area_px": float("nan")},
        {"largest_only": "yes"},
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(BadSettingError, match=next(iter(settings))):
        RefineOptions(**settings)


@pytest.mark.parametrize("radius_px", [9, 20, 64])
def test_a_wide_closing_is_that_of_a_disc(radius_px: int) -> None:
    """It is made from distances, because a structuring element of this size takes seconds for a large picture."""
    noise = np.random.default_rng(7).random((12, 16)).astype(np.float32)
    mask = cv2.resize(noise, (480, 360), interpolation=cv2.INTER_CUBIC) > 0.7
    steps = np.arange(-radius_px, radius_px + 1)
    disc = (np.hypot(*np.meshgrid(steps, steps)) <= radius_px + 0.5).astype(np.uint8)
    closed = cv2.morphologyEx(np.pad(mask.astype(np.uint8), radius_px), cv2.MORPH_CLOSE, disc)
    expected = closed[radius_px:-radius_px, radius_px:-radius_px] > 0
    assert expected.sum() > mask.sum()
    assert np.array_equal(refined(mask, options(close_px=radius_px)), expected)
