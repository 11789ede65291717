"""Mask windows and their conversions, and what hostile RLE meets."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from streamseg.errors import BadPromptError
from streamseg.segmentation.masks import FrameResult, MaskRegion, ObjectResult
from tests.segmentation.drawing import drawn

# Mask, its window (x0, y0, x1, y1) or None, its COCO RLE counts: runs down the columns, background first.
MASKS = {
    "empty": ("... ...", None, [6]),
    "full": ("## ## ##", (0, 0, 2, 3), [0, 6]),
    "one pixel": ("#", (0, 0, 1, 1), [0, 1]),
    "in the middle": ("..... ..##. .....", (2, 1, 4, 2), [7, 1, 2, 1, 4]),
    "in a corner": ("... ..# ..#", (2, 1, 3, 3), [7, 2]),
    "two parts": ("#.. ... ..#", (0, 0, 3, 3), [0, 1, 7, 1]),
    "a ring": ("### #.# ###", (0, 0, 3, 3), [0, 4, 1, 4]),
}


def packed(counts: list[int], size: list[int]) -> str:
    """COCO's own packing of the counts."""
    text: bytes = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
    return text.decode()


@pytest.mark.parametrize(("text", "box", "counts"), MASKS.values(), ids=MASKS.keys())
def test_window_area_and_rle(text: str, box: tuple[int, ...] | None, counts: list[int]) -> None:
    mask = drawn(text)
    region = MaskRegion.from_mask(mask)
    assert region.box_xyxy_px == box
    assert region.area_px == mask.sum()
    assert np.array_equal(region.full(), mask)
    size = list(mask.shape)
    assert region.to_rle() == {"size": size, "counts": packed(counts, size)}
    assert json.loads(json.dumps(region.to_rle())) == region.to_rle()
    assert np.array_equal(MaskRegion.from_rle(region.to_rle()).full(), mask)


@pytest.mark.parametrize(("text", "box", "counts"), MASKS.values(), ids=MASKS.keys())
def test_png_is_0_and_255_at_the_frames_size(text: str, box: object, counts: object) -> None:
    mask = drawn(text)
    with Image.open(io.BytesIO(MaskRegion.from_mask(mask).to_png())) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(picture), mask * 255)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("... ...", []),
        ("... .#. ...", []),
        ("..... .###. .###. .....", [[1, 1, 1, 2, 3, 2, 3, 1]]),
        ("##.## ##.##", [[0, 0, 0, 1, 1, 1, 1, 0], [3, 0, 3, 1, 4, 1, 4, 0]]),
        ("#### #..# #..# ####", [[0, 0, 0, 3, 3, 3, 3, 0]]),
    ],
)
def test_polygons_are_the_outer_corners_in_frame_pixels(text: str, expected: list[list[float]]) -> None:
    polygons = MaskRegion.from_mask(drawn(text)).to_polygons(tolerance_px=0.5)
    assert sorted(polygons) == expected


def test_a_window_need_not_be_tight() -> None:
    bits = drawn(".... .##. ....")
    region = MaskRegion(10, 8, 4, 3, bits)
    assert region.box_xyxy_px == (5, 4, 7, 5)
    tight = region.tight()
    assert (tight.x0, tight.y0, tight.bits.shape) == (5, 4, (1, 2))
    assert np.array_equal(tight.full(), region.full())
    assert region.to_rle() == tight.to_rle()
    assert region.to_polygons() == tight.to_polygons()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decode
@pytest.mark.parametrize("seed", range(5))
def test_rle_round_trip_of_random_masks_agrees_with_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) < rng.uniform(0.05, 0.95)
    rle = MaskRegion.from_mask(mask).to_rle()
    assert np.array_equal(coco_mask.decode(rle), mask)
    assert np.array_equal(MaskRegion.from_rle(rle).full(), mask)
    assert np.array_equal(MaskRegion.from_rle({**rle, "counts": rle["counts"].encode()}).full(), mask)


GOOD = {"size": [3, 3], "counts": packed([4, 1, 4], [3, 3])}
HOSTILE: dict[str, Any] = {
    "no size": {"counts": GOOD["counts"]},
    "no counts": {"size": [3, 3]},
    "three sides": {"size": [3, 3, 3], "counts": GOOD["counts"]},
    "a side of zero": {"size": [0, 3], "counts": ""},
    "a negative side": {"size": [-3, -3], "counts": GOOD["counts"]},
    "a side that is true": {"size": [True, 9], "counts": GOOD["counts"]},
    "a side of text": {"size": ["3", 3], "counts": GOOD["counts"]},
    "a side of a float": {"size": [3.0, 3], "counts": GOOD["counts"]},
    "a huge side": {"size": [2**40, 2**40], "counts": GOOD["counts"]},
    "more pixels than the size": {"size": [3, 3], "counts": packed([4, 100], [8, 13])},
    "fewer pixels than the size": {"size": [30, 30], "counts": GOOD["counts"]},
    "an uncompressed list": {"size": [3, 3], "counts": [4, 1, 4]},
    "no text": {"size": [3, 3], "counts": None},
    "empty counts": {"size": [3, 3], "counts": ""},
    "an open end": {"size": [3, 3], "counts": GOOD["counts"] + "o"},
    "a number without end": {"size": [3, 3], "counts": "o" * 1000},
    "a negative run": {"size": [3, 3], "counts": "O"},
    "foreign characters": {"size": [3, 3], "counts": "4 1 4"},
    "letters beyond ASCII": {"size": [3, 3], "counts": "ÄÖÜ"},
    "bytes under the range": {"size": [3, 3], "counts": b"\x00\x01\x02"},
    "a run of almost 2**32": {"size": [3, 3], "counts": "nooooo3"},
}


@pytest.mark.parametrize("rle", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_rle_is_refused(rle: dict[str, Any]) -> None:
    with pytest.raises(BadPromptError, match="RLE"):
        MaskRegion.from_rle(rle)


def test_random_counts_give_a_mask_or_a_named_error() -> None:
    """Whatever the text, the decoder behind is never led past its buffer."""
    rng = np.random.default_rng(3)
    for _ in range(3000):
        counts = bytes(rng.integers(48, 112, rng.integers(1, 8)).astype(np.uint8))
        try:
            region = MaskRegion.from_rle({"size": [5, 7], "counts": counts})
        except BadPromptError:
            continue
        assert region.full().shape == (5, 7)


def result() -> FrameResult:
    mask = drawn("..... .##.. .##.. .....")
    return FrameResult(
        index=4,
        time_s=0.16,
        width=5,
        height=4,
        objects=(
            ObjectResult(7, MaskRegion.from_mask(mask), 0.91234),
            ObjectResult(2, MaskRegion.empty(5, 4), 0.1, "lost"),
        ),
        timings_ms={"segment": 3.0},
    )


def test_a_result_survives_json() -> None:
    line = json.loads(json.dumps(result().to_json()))
    assert line["objects"][0]["box_xyxy_px"] == [1, 1, 3, 3]
    assert line["objects"][1] == {
        "object_id": 2,
        "state": "lost",
        "score": 0.1,
        "area_px": 0,
        "box_xyxy_px": None,
        "rle": MaskRegion.empty(5, 4).to_rle(),
    }
    back = FrameResult.from_json(line)
    assert [one.object_id for one in back.objects] == [7, 2]
    assert np.array_equal(back.objects[0].mask, result().objects[0].mask)
    assert back.to_json() == line


def test_coco_has_xywh_boxes_and_leaves_empty_objects_out() -> None:
    annotations = result().to_coco(image_id=11)
    assert len(annotations) == 1
    assert annotations[0]["bbox"] == [1, 1, 2, 2]
    assert annotations[0]["area"] == 4
    assert annotations[0]["image_id"] == 11
    assert annotations[0]["attributes"] == {"object_id": 7}
    assert coco_mask.area(annotations[0]["segmentation"]) == 4


def test_polygons_by_object_id() -> None:
    polygons = result().to_polygons(tolerance_px=0.5)
    assert polygons[2] == []
    assert polygons[7] == [[1, 1, 1, 2, 2, 2, 2, 1]]


def test_an_rle_that_claims_too_many_pixels_is_refused_before_decoding() -> None:
    counts = coco_mask.encode(np.zeros((40, 50), dtype=np.uint8, order="F"))["counts"]
    with pytest.raises(BadPromptError, match="50 x 40 pixels; at most 1999"):
        MaskRegion.from_rle({"size": [40, 50], "counts": counts}, max_pixels=1999)
