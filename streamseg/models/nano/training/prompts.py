"""Where to click and what box to draw, for training and for measuring."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streamseg.models.nano.training.dataset import Mask


def inner_distance_px(mask: Mask) -> NDArray[np.float32]:
    """Each pixel's distance to the outside of the mask; beyond the image is outside too.

    Args:
        mask: bool (H, W).

    Returns:
        float32 (H, W), in pixels; 0 outside.
    """
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.ascontiguousarray(distance[1:-1, 1:-1]).astype(np.float32, copy=False)


def centre_click_xy(mask: Mask) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from its outside."""
    y, x = divmod(int(inner_distance_px(mask).argmax()), mask.shape[1])
    return x, y


def random_click_xy(mask: Mask, rng: Generator) -> tuple[int, int]:
    """A pixel (x, y) of a mask, half of the time anywhere and half of the time well inside.

    Raises:
        ValueError: the mask is empty.
    """
    if rng.random() < 0.5:
        chosen = np.flatnonzero(mask)
    else:
        distance = inner_distance_px(mask)
        chosen = np.flatnonzero(distance >= rng.uniform(0.5, 1.0) * max(float(distance.max()), 1e-3))
    if not chosen.size:
        raise ValueError("cannot click into an empty mask")
    y, x = divmod(int(chosen[rng.integers(chosen.size)]), mask.shape[1])
    return x, y


def correction_click(predicted: Mask, wanted: Mask, rng: Generator | None = None) -> tuple[int, int, int]:
    """The next click of someone who corrects a mask.

    Args:
        predicted: bool (H, W).
        wanted: bool (H, W).
        rng: with it, half of the clicks fall anywhere in the error instead of at its centre.

    Returns:
        x, y and the label: 1 where the object was missed, 0 where something else was taken. The
        centre of the largest error, by distance to its edge; without any error, a pixel of the
        object (or of the background, if there is no object).
    """
    missed, surplus = wanted & ~predicted, predicted & ~wanted
    if not missed.any() and not surplus.any():
        label = int(wanted.any())
        x, y = centre_click_xy(wanted if label else ~wanted)
        return x, y, label
    missed_distance, surplus_distance = inner_distance_px(missed), inner_distance_px(surplus)
    label = int(missed_distance.max() >= surplus_distance.max())
    if rng is not None and rng.random() < 0.5:
        x, y = random_click_xy(missed if label else surplus, rng)
        return x, y, label
    distance = missed_distance if label else surplus_distance
    y, x = divmod(int(distance.argmax()), wanted.shape[1])
    return x, y, label


def box_xyxy(mask: Mask) -> tuple[int, int, int, int]:
    """A mask's box by its pixel edges: right and bottom are one past the last pixel.

    Raises:
        ValueError: the mask is empty.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not ys.size:
        raise ValueError("an empty mask has no box")
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def jittered_box_xyxy(mask: Mask, rng: Generator) -> NDArray[np.float64]:
    """A box as people draw it: each edge off by some per cent of the side, or exact.

    Returns:
        float (4,): x1, y1, x2, y2 within the image.
    """
    x1, y1, x2, y2 = box_xyxy(mask)
    spread = rng.choice([0.0, 0.03, 0.08])
    width, height = x2 - x1, y2 - y1
    noise = rng.normal(0, spread, 4) * np.array([width, height, width, height])
    box = np.array([x1, y1, x2, y2]) + np.clip(noise, -0.15 * min(width, height), 0.15 * min(width, height))
    limit = np.array([mask.shape[1], mask.shape[0]] * 2)
    clipped: NDArray[np.float64] = np.clip(box, 0, limit)
    return clipped


def worn_mask(mask: Mask, rng: Generator) -> Mask:
    """The mask of a moment ago: shifted, scaled and with a moved edge, as `carry` hands it on."""
    height, width = mask.shape
    x1, y1, x2, y2 = box_xyxy(mask)
    scale = np.exp(rng.normal(0, 0.06))
    shift = rng.normal(0, 0.06, 2) * (x2 - x1, y2 - y1)
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = centre * (1 - scale) + shift
    moved = cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, (width, height), flags=cv2.INTER_LINEAR)
    radius = int(rng.integers(0, 1 + max(1, round(0.03 * np.sqrt(mask.sum())))))
    if radius:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        moved = cv2.erode(moved, kernel) if rng.random() < 0.5 else cv2.dilate(moved, kernel)
    return moved >= 128
