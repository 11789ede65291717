"""Cleaning a mask: small parts, holes, gaps, the edge.

Everything happens in the mask's window, so it costs in proportion to the object. One pass over the contours finds
parts and holes together with their exact sizes; most masks have nothing to remove and are done after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.errors import BadSettingError
from streamseg.segmentation.masks import MaskRegion

ByteMask: TypeAlias = NDArray[np.uint8]
Contour: TypeAlias = cv2.typing.MatLike

MAX_RADIUS_PX = 64
# Above this radius a closing by distances is faster; its time does not grow with the radius.
MAX_DISC_PX = 8
_PARENT = 3


@dataclass(frozen=True, slots=True)
class RefineOptions:
    """How a mask is cleaned, in pixels of the source frame, applied in this order.

    ``min_area_px``: parts with fewer pixels are removed, but never the largest one, so that a small object stays;
    0 is off. ``max_hole_px``: holes that enclose at most so many pixels are filled; 0 is off. ``close_px``: radius of
    a closing, which bridges narrow gaps; 0 is off. ``smooth_px``: radius of a Gaussian window under which the edge is
    smoothed, unless that would leave nothing; 0 is off. ``largest_only``: nothing but the largest part stays.

    Pixels that touch at a corner belong to the same part. ``RefineOptions.NONE`` leaves a mask as it is.
    Raises BadSettingError for negative numbers and radii over 64.
    """

    min_area_px: int = 200
    max_hole_px: int = 200
    close_px: int = 0
    smooth_px: int = 2
    largest_only: bool = False

    NONE: ClassVar[RefineOptions]

    def __post_init__(self) -> None:
        for name, most in (
            ("min_area_px", 2**31),
            ("max_hole_px", 2**31),
            ("close_px", MAX_RADIUS_PX),
            ("smooth_px", MAX_RADIUS_PX),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= most:
                raise BadSettingError(f"{name} must be a whole number from 0 (off) to {most}, not {value!r}")
        if not isinstance(self.largest_only, bool | np.bool_):
            raise BadSettingError(f"largest_only must be true or false, not {self.largest_only!r}")


RefineOptions.NONE = RefineOptions(min_area_px=0, max_hole_px=0, close_px=0, smooth_px=0, largest_only=False)


def refine_mask(region: MaskRegion, options: RefineOptions) -> MaskRegion:
    """``region`` cleaned as ``options`` say, in its smallest window; the region given is not changed.

    The frame's edge is no edge of the object: closing adds nothing along it, smoothing takes nothing away from it.
    """
    if options == RefineOptions.NONE or region.bits.size == 0:
        return region
    reshapes = options.close_px > 0 or options.smooth_px > 0
    # Parts may grow together below: the largest is chosen when that is done.
    first = replace(options, largest_only=False) if reshapes else options
    region = _clean_parts(region, first)
    if options.close_px and region.bits.size:
        region = _close(region, options.close_px)
    if options.smooth_px and region.bits.size:
        smoothed = _smooth(region, options.smooth_px)
        # An object narrower than the window would vanish: it stays as it is.
        region = smoothed if smoothed.bits.any() else region
    if reshapes and options.largest_only:
        region = _clean_parts(region, replace(RefineOptions.NONE, largest_only=True))
    elif reshapes:
        region = region.tight()
    return region


def _clean_parts(region: MaskRegion, options: RefineOptions) -> MaskRegion:
    if not (options.min_area_px > 1 or options.max_hole_px or options.largest_only):
        return region.tight()
    bits = np.ascontiguousarray(region.bits).view(np.uint8)
    contours, hierarchy = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return MaskRegion.empty(region.width, region.height)
    links = hierarchy[0]
    holes_of = _holes_by_part(contours, links)
    parts = {part: _enclosed_by_part(contours[part]) - sum(holes.values()) for part, holes in holes_of.items()}
    largest = max(parts, key=parts.__getitem__)
    kept = [
        part
        for part, area in parts.items()
        if part == largest or not (options.largest_only or area < options.min_area_px)
    ]
    filled = [hole for part in kept for hole, area in holes_of[part].items() if area <= options.max_hole_px]
    if len(kept) < len(parts) or filled:
        bits = bits.copy()
    if len(kept) < len(parts):
        for part in parts.keys() - set(kept):
            _erase_part(bits, contours[part])
    for hole in filled:
        cv2.drawContours(bits, [contours[hole]], 0, 1, cv2.FILLED)
    return _cropped(region, bits, [cv2.boundingRect(contours[part]) for part in kept])


def _holes_by_part(contours: Any, links: NDArray[np.int32]) -> dict[int, dict[int, int]]:
    """For each part (by contour number) its holes, each with the pixels that it encloses."""
    parents = links[:, _PARENT].tolist()
    holes_of: dict[int, dict[int, int]] = {number: {} for number, parent in enumerate(parents) if parent < 0}
    for number, parent in enumerate(parents):
        if parent >= 0:
            holes_of[parent][number] = _enclosed_by_hole(contours[number])
    return holes_of


# A contour runs through the centres of pixels in steps to a neighbour, so Pick's theorem gives exact counts: a polygon
# of area A with B such steps has A - B/2 + 1 pixels inside and B on it (spurs, walked both ways, count right as well).
def _enclosed_by_part(contour: Contour) -> int:
    steps = len(contour) if len(contour) > 1 else 0
    return round(cv2.contourArea(contour) + steps / 2 + 1)


def _enclosed_by_hole(contour: Contour) -> int:
    return round(cv2.contourArea(contour) - len(contour) / 2 + 1)


def _erase_part(bits: ByteMask, contour: Contour) -> None:
    # Painting inside the contour would also take what lies in the part's holes; flooding takes the part alone. It is
    # done in the part's own box because OpenCV prepares as many pixels as the array has.
    left, top, w, h = cv2.boundingRect(contour)
    x, y = contour[0, 0]
    cv2.floodFill(bits[top : top + h, left : left + w], None, (int(x) - left, int(y) - top), 0, flags=8)


def _cropped(region: MaskRegion, bits: ByteMask, boxes_xywh: list[Sequence[int]]) -> MaskRegion:
    left = min(x for x, _, _, _ in boxes_xywh)
    top = min(y for _, y, _, _ in boxes_xywh)
    right = max(x + w for x, _, w, _ in boxes_xywh)
    bottom = max(y + h for _, y, _, h in boxes_xywh)
    window = np.ascontiguousarray(bits[top:bottom, left:right]).view(np.bool_)
    return MaskRegion(region.width, region.height, region.x0 + left, region.y0 + top, window)


def _close(region: MaskRegion, radius_px: int) -> MaskRegion:
    # A closing stays within the bounding box of the mask; the empty margin, also beyond the frame, is there so that
    # nothing grows towards the window's border.
    margin = radius_px
    bits = region.bits.view(np.uint8)
    wide = np.asarray(cv2.copyMakeBorder(bits, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0), np.uint8)
    closed = _closed_by_disc(wide, radius_px) if radius_px <= MAX_DISC_PX else _closed_by_distance(wide, radius_px)
    h, w = bits.shape
    inner = np.ascontiguousarray(closed[margin : margin + h, margin : margin + w]).view(np.bool_)
    return replace(region, bits=inner)


def _closed_by_disc(bits: ByteMask, radius_px: int) -> ByteMask:
    size = 2 * radius_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.morphologyEx(bits, cv2.MORPH_CLOSE, disc), dtype=np.uint8)


def _closed_by_distance(bits: ByteMask, radius_px: int) -> ByteMask:
    # OpenCV's discs, too, are half a pixel wider than their radius.
    reach_px = radius_px + 0.5
    beyond = _farther(np.equal(bits, 0).view(np.uint8), reach_px)
    return _farther(np.equal(beyond, 0).view(np.uint8), reach_px)


def _farther(bits: ByteMask, reach_px: float) -> ByteMask:
    """The pixels that are farther than ``reach_px`` from everything outside ``bits``."""
    distance = cv2.distanceTransform(bits, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.greater(distance, reach_px).view(np.uint8)


def _smooth(region: MaskRegion, radius_px: int) -> MaskRegion:
    # Where the window ends inside the frame there is background beyond it, where it ends at the frame's edge the
    # object goes on as it is there. Smoothing, too, stays within the bounding box.
    h, w = region.bits.shape
    left, top = min(radius_px, region.x0), min(radius_px, region.y0)
    right = min(radius_px, region.width - region.x0 - w)
    bottom = min(radius_px, region.height - region.y0 - h)
    wide = np.zeros((h + top + bottom, w + left + right), dtype=np.uint8)
    np.multiply(region.bits.view(np.uint8), 255, out=wide[top : top + h, left : left + w])
    size = 2 * radius_px + 1
    soft = cv2.GaussianBlur(wide, (size, size), 0, borderType=cv2.BORDER_REPLICATE)
    inner = soft[top : top + h, left : left + w]
    return replace(region, bits=inner > 127)
