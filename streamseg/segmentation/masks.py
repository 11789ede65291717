"""The result types, and their conversions to COCO RLE, PNG and polygons.

A mask is kept as the window around the object, because most objects cover a small part of the frame and every later
stage (refine, draw, encode) then costs in proportion to the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import BadPromptError
from streamseg.media.frame import Frame, RgbImage
from streamseg.render import RenderOptions, draw_overlay, encode_png

BoolMask: TypeAlias = NDArray[np.bool_]
IntBox: TypeAlias = tuple[int, int, int, int]
Polygons: TypeAlias = list[list[float]]
State: TypeAlias = Literal["tracked", "lost", "low_score"]

MAX_RLE_COUNTS = 16 * 2**20
# A few characters can claim any size; decoding costs a byte for each pixel.
MAX_RLE_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class MaskRegion:
    """A mask of a ``width`` x ``height`` frame, stored as a window of it.

    ``bits``: bool (h, w), the pixels from column ``x0`` and row ``y0`` on; everything outside is False. The window need
    not be tight.
    """

    width: int
    height: int
    x0: int
    y0: int
    bits: BoolMask

    @classmethod
    def empty(cls, width: int, height: int) -> MaskRegion:
        return cls(width, height, 0, 0, np.zeros((0, 0), dtype=bool))

    @classmethod
    def from_mask(cls, mask: BoolMask) -> MaskRegion:
        """The tight window around a bool (H, W) mask."""
        height, width = mask.shape
        return cls(width, height, 0, 0, np.ascontiguousarray(mask, dtype=bool)).tight()

    @classmethod
    def from_rle(cls, rle: Mapping[str, Any], max_pixels: int = MAX_RLE_PIXELS) -> MaskRegion:
        """From COCO compressed RLE; raises BadPromptError if it is none, or claims more than ``max_pixels``."""
        size, counts = rle.get("size"), rle.get("counts")
        if (
            not isinstance(size, list | tuple)
            or len(size) != 2
            or not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= 2**16 for side in size)
            or not isinstance(counts, str | bytes)
            or len(counts) > MAX_RLE_COUNTS
        ):
            raise BadPromptError('an RLE mask is {"size": [height, width], "counts": "..."}')
        data = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
        if size[0] * size[1] > max_pixels:
            raise BadPromptError(f"the mask claims {size[1]} x {size[0]} pixels; at most {max_pixels} are taken")
        runs = _rle_runs(data, size[0] * size[1])
        columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0])
        return cls.from_mask(columns.T)

    def tight(self) -> MaskRegion:
        """The same mask in its smallest window."""
        rows = np.flatnonzero(self.bits.any(axis=1))
        if rows.size == 0:
            return MaskRegion.empty(self.width, self.height)
        bits = self.bits[rows[0] : rows[-1] + 1]
        columns = np.flatnonzero(bits.any(axis=0))
        bits = np.ascontiguousarray(bits[:, columns[0] : columns[-1] + 1])
        return MaskRegion(self.width, self.height, self.x0 + int(columns[0]), self.y0 + int(rows[0]), bits)

    def full(self) -> BoolMask:
        """The mask as bool (H, W) of the source frame."""
        mask = np.zeros((self.height, self.width), dtype=bool)
        h, w = self.bits.shape
        mask[self.y0 : self.y0 + h, self.x0 : self.x0 + w] = self.bits
        return mask

    @property
    def area_px(self) -> int:
        return int(np.count_nonzero(self.bits))

    @property
    def box_xyxy_px(self) -> IntBox | None:
        """Pixel edges of the mask, or None if it is empty."""
        tight = self.tight()
        h, w = tight.bits.shape
        return None if h == 0 else (tight.x0, tight.y0, tight.x0 + w, tight.y0 + h)

    def to_rle(self) -> dict[str, Any]:
        """COCO compressed RLE: ``size`` [h, w], ``counts`` text."""
        # pycocotools reads columns: an array laid out that way from the start saves a transposed copy.
        mask = np.zeros((self.height, self.width), dtype=np.uint8, order="F")
        h, w = self.bits.shape
        mask[self.y0 : self.y0 + h, self.x0 : self.x0 + w] = self.bits
        rle = coco_mask.encode(mask)
        return {"size": [self.height, self.width], "counts": rle["counts"].decode("ascii")}

    def to_png(self) -> bytes:
        """An 8-bit grey PNG of the frame's size: 255 object, 0 elsewhere."""
        return encode_png(self.full().astype(np.uint8) * 255)

    def to_polygons(self, tolerance_px: float = 1.0) -> Polygons:
        """Outer outlines as flat lists [x1, y1, x2, y2, ...] in pixels; parts under three corners are left out.

        Holes cannot be said in this form (it is COCO's); take the RLE where they matter.
        """
        if self.bits.size == 0:
            return []
        contours, _ = cv2.findContours(self.bits.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        polygons = []
        for contour in contours:
            line = cv2.approxPolyDP(contour, tolerance_px, True).reshape(-1, 2)
            if len(line) >= 3:
                polygons.append((line + np.array([self.x0, self.y0])).astype(float).ravel().tolist())
        return polygons


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the model's readings of an ambiguous prompt."""

    region: MaskRegion
    score: float

    @property
    def mask(self) -> BoolMask:
        return self.region.full()


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """One object on one frame.

    ``score``: the model's predicted IoU. ``state``: ``tracked``, or ``lost`` / ``low_score``, for which the mask is
    all False. ``candidates``: the other readings, where they were asked for.
    """

    object_id: int
    region: MaskRegion
    score: float
    state: State = "tracked"
    candidates: tuple[Candidate, ...] = ()

    @property
    def mask(self) -> BoolMask:
        """bool (H, W) at the size of the source frame."""
        return self.region.full()

    @property
    def area_px(self) -> int:
        return self.region.area_px

    @property
    def box_xyxy_px(self) -> IntBox | None:
        return self.region.box_xyxy_px

    def to_json(self) -> dict[str, Any]:
        """The object as one entry of a masks.jsonl line."""
        box = self.box_xyxy_px
        return {
            "object_id": self.object_id,
            "state": self.state,
            "score": round(self.score, 4),
            "area_px": self.area_px,
            "box_xyxy_px": None if box is None else list(box),
            "rle": self.region.to_rle(),
        }


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Everything about one frame, the same type on every way in.

    ``objects`` holds every object that was asked for, in the order of the requests. ``timings_ms``: milliseconds per
    stage. ``held``: the masks are those of the last segmented frame, because sampling passed over this one.
    ``rejected``: prompts that turned out not to fit this frame, as (object_id, error); filled in Python only.
    """

    index: int
    time_s: float
    width: int
    height: int
    objects: tuple[ObjectResult, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    held: bool = False
    rejected: tuple[tuple[int, BadPromptError], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One line of masks.jsonl, as a dict that ``json.dumps`` takes; ``held`` is there where it is true."""
        return {
            "index": self.index,
            "time_s": round(self.time_s, 6),
            "width": self.width,
            "height": self.height,
            **({"held": True} if self.held else {}),
            "objects": [one.to_json() for one in self.objects],
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> FrameResult:
        """The inverse of ``to_json``."""
        return cls(
            index=int(line["index"]),
            time_s=float(line["time_s"]),
            width=int(line["width"]),
            height=int(line["height"]),
            objects=tuple(
                ObjectResult(
                    object_id=int(one["object_id"]),
                    region=MaskRegion.from_rle(one["rle"]),
                    score=float(one["score"]),
                    state=one["state"],
                )
                for one in line["objects"]
            ),
            held=bool(line.get("held", False)),
        )

    def to_coco(self, image_id: int | None = None, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations, one for each object that has a mask; ``bbox`` is xywh, as COCO has it."""
        annotations = []
        for number, one in enumerate(self.objects, start=1):
            box = one.box_xyxy_px
            if box is None:
                continue
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": number,
                    "image_id": self.index if image_id is None else image_id,
                    "category_id": category_id,
                    "segmentation": one.region.to_rle(),
                    "area": one.area_px,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": 0,
                    "score": one.score,
                    "attributes": {"object_id": one.object_id},
                }
            )
        return annotations

    def to_polygons(self, tolerance_px: float = 1.0) -> dict[int, Polygons]:
        """Outer outlines of each object, by object id."""
        return {one.object_id: one.region.to_polygons(tolerance_px) for one in self.objects}

    def overlay(self, frame: Frame | RgbImage, options: RenderOptions | None = None) -> RgbImage:
        """The frame with the masks drawn over it: uint8 (H, W, 3) RGB."""
        return draw_overlay(frame, self, options)


def _rle_runs(counts: bytes, pixels: int) -> list[int]:
    """Lengths of the runs, zeros first; refuses counts that do not add up to ``pixels``.

    pycocotools would read and write past its buffers on such counts, so it only encodes here. The packing is COCO's
    (``rleToString`` in maskApi.c): 5 bits a character from 48 on, bit 5 continues, and from the fourth count on the
    difference to the count before the last.
    """
    runs: list[int] = []
    total, position = 0, 0
    while position < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(counts) or shift > 30:
                raise BadPromptError("the RLE counts are damaged")
            symbol = counts[position] - 48
            if not 0 <= symbol < 64:
                raise BadPromptError("the RLE counts hold a character that is none of COCO's")
            value |= (symbol & 0x1F) << shift
            more = bool(symbol & 0x20)
            position += 1
            shift += 5
            if not more and symbol & 0x10:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0 or total + value > pixels:
            raise BadPromptError("the RLE counts do not fit the size of the mask")
        runs.append(value)
        total += value
    if total != pixels:
        raise BadPromptError("the RLE counts do not fit the size of the mask")
    return runs
