"""Lifting coarse logits gives the same pixels as interpolating the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamseg.segmentation.lift import lift


@pytest.mark.parametrize("size", [(96, 96), (97, 101), (640, 360), (1920, 1080), (1, 1), (50, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_lift_equals_interpolating_everything(size: tuple[int, int], seed: int) -> None:
    width, height = size
    random = np.random.default_rng(seed)
    logits = np.full((96, 96), -8.0, dtype=np.float32)
    y, x = random.integers(0, 80, 2)
    logits[y : y + 16, x : x + 12] = random.normal(1.0, 4.0, (16, 12))
    region = lift(logits, width, height)
    whole = F.interpolate(torch.from_numpy(logits)[None, None], (height, width), mode="bilinear", align_corners=False)
    expected = whole[0, 0].numpy()
    different = region.full() != (expected > 0)
    # Pixels may only differ where rounding decides.
    assert np.abs(expected[different]).max(initial=0.0) < 1e-4


def test_nothing_positive_gives_an_empty_region() -> None:
    region = lift(np.full((96, 96), -1.0, dtype=np.float32), 640, 480)
    assert region.area_px == 0
    assert region.box_xyxy_px is None
    assert region.full().shape == (480, 640)


def test_everything_positive_covers_the_frame() -> None:
    region = lift(np.full((96, 96), 1.0, dtype=np.float32), 333, 77)
    assert region.area_px == 333 * 77
    assert region.box_xyxy_px == (0, 0, 333, 77)
