"""The model's coarse logits -> a mask at the size of the source frame."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.segmentation.masks import MaskRegion


def lift(logits: NDArray[np.float32], width: int, height: int) -> MaskRegion:
    """Bilinear upsampling of (h, w) logits to ``height`` x ``width``, cut at zero.

    Gives the pixels of ``F.interpolate(..., mode="bilinear", align_corners=False) > 0``, but computes only the window
    that can hold any.
    """
    positive = logits > 0
    rows = np.flatnonzero(positive.any(axis=1))
    if rows.size == 0:
        return MaskRegion.empty(width, height)
    columns = np.flatnonzero(positive.any(axis=0))
    low_y, high_y, y0, y1 = _span(int(rows[0]), int(rows[-1]), logits.shape[0], height)
    low_x, high_x, x0, x1 = _span(int(columns[0]), int(columns[-1]), logits.shape[1], width)
    window = np.ascontiguousarray(logits[low_y:high_y, low_x:high_x])
    fine = cv2.resize(window, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return MaskRegion(width, height, x0, y0, np.greater(fine, 0)).tight()


def lift_window(
    logits: NDArray[np.float32], window_xyxy_px: tuple[int, int, int, int], width: int, height: int
) -> MaskRegion:
    """``lift`` of logits (h, w) of a part of the frame, as a mask of the whole ``width`` x ``height``."""
    x1, y1, x2, y2 = window_xyxy_px
    part = lift(logits, x2 - x1, y2 - y1)
    return MaskRegion(width, height, x1 + part.x0, y1 + part.y0, part.bits)


def _span(first: int, last: int, coarse: int, fine: int) -> tuple[int, int, int, int]:
    """The cells to resize, as [low, high), and the pixels that they become.

    One cell of margin, because a pixel mixes two neighbouring cells; then out to where a border between cells is a
    border between pixels, because only there is resizing the window the same as resizing everything.
    """
    step = coarse // math.gcd(coarse, fine)
    low = max(first - 1, 0) // step * step
    high = min(-(-min(last + 2, coarse) // step) * step, coarse)
    return low, high, low * fine // coarse, high * fine // coarse
