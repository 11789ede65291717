"""What a user points at: points, boxes and masks, in pixels of the upright source frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamseg.errors import BadPromptError

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]
PointsLike: TypeAlias = Sequence[Sequence[float]] | NDArray[Any]
LabelsLike: TypeAlias = Sequence[int] | NDArray[Any]
BoxLike: TypeAlias = Sequence[float] | NDArray[Any]

FOREGROUND = 1
BACKGROUND = 0
MAX_OBJECT_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """How much one session may ask for: objects at a time, points of one object on one frame, and pixels of all masks
    of one frame together, which bounds the memory of many objects on a large picture."""

    max_objects: int = 64
    max_points: int = 64
    max_mask_pixels: int = 400_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What was said about one object on one frame.

    ``points_xy_px``: (x, y) pixels of the source frame, 0 <= x < W, 0 <= y < H, each with a label in ``labels``:
    1 belongs to the object, 0 does not. ``box_xyxy_px``: pixel edges, 0 <= x1 < x2 <= W.
    ``mask``: bool (H, W). ``frame``: index of the frame it was made on.

    Lists, tuples, numpy arrays and numpy scalars are all accepted. Raises BadPromptError for anything that could not
    be meant: no content, a point without label, NaN, infinities, a box without area.
    """

    object_id: int = 1
    frame: int = 0
    points_xy_px: PointsLike = ()
    labels: LabelsLike = ()
    box_xyxy_px: BoxLike | None = None
    mask: NDArray[np.bool_] | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "object_id", _whole_number(self.object_id, "object_id", MAX_OBJECT_ID))
        put(self, "frame", _whole_number(self.frame, "frame", 2**53))
        points = _points(self.points_xy_px)
        labels = _labels(self.labels)
        if len(points) != len(labels):
            raise BadPromptError(
                f"{len(points)} points but {len(labels)} labels: give one label (1 object, 0 background) for each point"
            )
        put(self, "points_xy_px", points)
        put(self, "labels", labels)
        put(self, "box_xyxy_px", None if self.box_xyxy_px is None else _box(self.box_xyxy_px))
        put(self, "mask", None if self.mask is None else _mask(self.mask))
        if self.text is not None:
            raise BadPromptError("text prompts need a model that reads text; SAM 2 takes points, a box or a mask")
        if not points and self.box_xyxy_px is None and self.mask is None:
            raise BadPromptError("an empty prompt: give at least one point, a box or a mask")

    @property
    def points(self) -> tuple[Point, ...]:
        """The points as plain tuples."""
        return tuple((float(x), float(y)) for x, y in self.points_xy_px)

    @property
    def point_labels(self) -> tuple[int, ...]:
        return tuple(int(label) for label in self.labels)

    @property
    def box(self) -> Box | None:
        if self.box_xyxy_px is None:
            return None
        x1, y1, x2, y2 = self.box_xyxy_px
        return float(x1), float(y1), float(x2), float(y2)

    def check(self, width: int, height: int, limits: PromptLimits | None = None) -> None:
        """Raise BadPromptError if the prompt does not fit a frame of ``width`` x ``height`` pixels."""
        most = (limits or PromptLimits()).max_points
        if len(self.points) > most:
            raise BadPromptError(f"{len(self.points)} points for object {self.object_id}; at most {most} are allowed")
        check_points(self.points, width, height)
        if self.box is not None:
            check_box(self.box, width, height)
        if self.mask is not None:
            check_mask_shape(self.mask.shape, width, height)


def check_points(points: Iterable[Point], width: int, height: int) -> None:
    """Raise BadPromptError if a point is outside a ``width`` x ``height`` frame."""
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise BadPromptError(
                f"the point ({x:.9g}, {y:.9g}) is outside the {width} x {height} frame: "
                f"0 <= x < {width} and 0 <= y < {height}"
            )


def check_box(box: Box, width: int, height: int) -> None:
    """Raise BadPromptError if a box does not fit a ``width`` x ``height`` frame."""
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise BadPromptError(
            f"the box ({x1:.9g}, {y1:.9g}, {x2:.9g}, {y2:.9g}) does not fit the {width} x {height} frame: "
            f"0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}"
        )


def check_mask_shape(shape_hw: tuple[int, ...], width: int, height: int) -> None:
    """Raise BadPromptError if a mask of this shape is none of a ``width`` x ``height`` frame."""
    if shape_hw != (height, width):
        raise BadPromptError(f"the mask has shape {shape_hw}; for this frame it must be ({height}, {width}) (H, W)")


def _whole_number(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not 0 <= int(value) <= most:
        raise BadPromptError(f"{name} must be a whole number from 0 to {most}, not {_short(value)}")
    return int(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise BadPromptError(f"{what} must be a number, not {_short(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise BadPromptError(f"{what} must be a number that a double can hold") from None
    if not math.isfinite(number):
        raise BadPromptError(f"{what} must be finite, not {number}")
    return number


def _row(value: Any, length: int, what: str, form: str) -> tuple[float, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise BadPromptError(f"{what} must be {form}, not {_short(value)}")
    row = list(value)
    if len(row) != length:
        raise BadPromptError(f"{what} must be {form}, not {len(row)} numbers")
    return tuple(_number(number, f"a coordinate of {what}") for number in row)


def _points(value: Any) -> tuple[Point, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise BadPromptError(f"points_xy_px must be a list of (x, y), not {_short(value)}")
    rows = [_row(row, 2, "a point", "(x, y)") for row in value]
    return tuple((row[0], row[1]) for row in rows)


def _labels(value: Any) -> tuple[int, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise BadPromptError(f"labels must be a list of 1 (object) and 0 (background), not {_short(value)}")
    labels = [_number(label, "a label") for label in value]
    for label in labels:
        if label not in (FOREGROUND, BACKGROUND):
            raise BadPromptError(f"a label is 1 (object) or 0 (background), not {label:g}")
    return tuple(int(label) for label in labels)


def _box(value: Any) -> Box:
    x1, y1, x2, y2 = _row(value, 4, "a box", "(x1, y1, x2, y2)")
    if x1 >= x2 or y1 >= y2:
        raise BadPromptError(f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area: x1 < x2 and y1 < y2 must hold")
    return x1, y1, x2, y2


def _mask(value: Any) -> NDArray[np.bool_]:
    mask = np.asarray(value)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise BadPromptError(f"a mask is a bool array (H, W), not {mask.dtype} {mask.shape}")
    mask = mask.astype(bool)
    if not mask.any():
        raise BadPromptError("the mask is empty: at least one pixel must belong to the object")
    return mask


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python does not write out whole numbers of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."
