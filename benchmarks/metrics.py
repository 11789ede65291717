"""How good a mask is: region similarity and contour accuracy.

J and F after Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (CVPR 2016), the measures of the DAVIS challenges.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

BOUNDARY_TOLERANCE = 0.008
"""How far apart two contours may run and still agree, as a share of the image's diagonal."""


def iou(predicted: Mask, wanted: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty. The J of DAVIS."""
    union = int((predicted | wanted).sum())
    return 1.0 if union == 0 else int((predicted & wanted).sum()) / union


def contour(mask: Mask) -> Mask:
    """The pixels whose right, lower or lower-right neighbour is on the other side of the mask's edge.

    The edge of the image is no contour.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])


def contour_accuracy(predicted: Mask, wanted: Mask, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """The F of DAVIS: harmonic mean of the contours' precision and recall.

    Args:
        predicted: bool (H, W).
        wanted: bool (H, W).
        tolerance: share of the image's diagonal within which two contour pixels match.

    Returns:
        A value in [0, 1]; 1 where neither mask has a contour.
    """
    radius_px = math.ceil(tolerance * math.hypot(*wanted.shape))
    of_predicted, of_wanted = contour(predicted), contour(wanted)
    if not of_predicted.any() or not of_wanted.any():
        return float(not of_predicted.any() and not of_wanted.any())
    precision = float(_near(of_wanted, radius_px)[of_predicted].mean())
    recall = float(_near(of_predicted, radius_px)[of_wanted].mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _near(contour_hw: Mask, radius_px: int) -> Mask:
    distance = cv2.distanceTransform((~contour_hw).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= radius_px


def clip_j_and_f(predicted: list[Mask], wanted: list[Mask]) -> tuple[float, float]:
    """Mean J and mean F over a clip's frames without its first and last, as DAVIS counts them.

    Args:
        predicted: a mask a frame.
        wanted: as many.

    Raises:
        ValueError: the clip has fewer than three frames, or the lists differ in length.
    """
    if len(predicted) != len(wanted) or len(wanted) < 3:
        raise ValueError("need as many predictions as annotated frames, and at least three")
    inner = list(zip(predicted, wanted, strict=True))[1:-1]
    return float(np.mean([iou(p, w) for p, w in inner])), float(np.mean([contour_accuracy(p, w) for p, w in inner]))
