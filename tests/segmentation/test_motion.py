"""Whether a mask can have moved the way it did."""

from __future__ import annotations

import pytest
import torch

from streamseg.segmentation.memory import CellBox, Memory
from streamseg.segmentation.motion import box_of_logits, located, overlap


def memory(box: CellBox | None, size: int = 40) -> Memory:
    """With a mask of 40 x 40 cells that fills ``box``."""
    logits = torch.full((1, 1, size, size), -5.0)
    if box is not None:
        x1, y1, x2, y2 = box
        logits[0, 0, y1:y2, x1:x2] = 5.0
    return Memory(logits, torch.zeros(1, 4), None, object_score=1.0, score=0.9)


def known(box: CellBox | None) -> Memory:
    return located(memory(box), None, None)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (3, 5, 10, 7), (39, 39, 40, 40), (0, 0, 40, 40)])
def test_the_box_of_a_mask_holds_it(box: CellBox) -> None:
    logits = memory(box).logits
    assert logits is not None
    assert box_of_logits(logits) == box


def test_the_box_of_a_mask_in_parts_holds_all_of_them() -> None:
    logits = torch.full((1, 1, 20, 30), -1.0)
    logits[0, 0, 4, 25] = logits[0, 0, 17, 2] = 1.0
    # A logit of zero is not inside.
    logits[0, 0, 0, 0] = 0.0
    assert box_of_logits(logits) == (2, 4, 26, 18)


def test_an_empty_mask_has_no_box() -> None:
    assert box_of_logits(torch.full((1, 1, 4, 4), -1.0)) is None


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ((5, 5, 9, 9), True),
        ((9, 9, 20, 20), True),
        ((10, 0, 20, 10), False),
        ((0, 10, 10, 20), False),
        ((0, 0, 40, 40), True),
        ((30, 0, 40, 10), False),
    ],
)
def test_boxes_overlap_if_they_share_an_area(other: CellBox, shared: bool) -> None:
    assert overlap((0, 0, 10, 10), other) == overlap(other, (0, 0, 10, 10)) == shared


def test_what_is_located_knows_its_box_and_is_otherwise_as_before() -> None:
    one = memory((3, 5, 10, 7))
    found = located(one, None, None)
    assert (found.box_cells, found.plausible) == ((3, 5, 10, 7), True)
    assert found.logits is one.logits
    assert (found.score, found.object_score) == (one.score, one.object_score)


@pytest.mark.parametrize(
    ("box", "plausible"), [((11, 0, 17, 6), True), ((5, 5, 8, 8), True), ((20, 20, 26, 26), False)]
)
def test_after_one_frame_a_mask_has_to_touch_where_it_was(box: CellBox, plausible: bool) -> None:
    assert located(memory(box), known((6, 0, 12, 6)), None).plausible == plausible


@pytest.mark.parametrize(
    ("box", "plausible"),
    [
        ((20, 0, 24, 4), True),
        ((23, 3, 27, 7), True),
        # Where it was on the frame before: a thing that moves does not stop at once.
        ((10, 0, 14, 4), False),
        ((30, 0, 34, 4), False),
    ],
)
def test_after_two_frames_a_mask_has_to_touch_where_its_motion_leads(box: CellBox, plausible: bool) -> None:
    assert located(memory(box), known((10, 0, 14, 4)), known((0, 0, 4, 4))).plausible == plausible


def test_what_shrinks_to_nothing_is_still_looked_for_somewhere() -> None:
    """From ten cells to two: the next box would be turned inside out."""
    before, earlier = known((14, 14, 16, 16)), known((10, 10, 20, 20))
    assert located(memory((18, 18, 19, 19)), before, earlier).plausible
    assert not located(memory((10, 10, 12, 12)), before, earlier).plausible


def test_what_is_gone_or_was_gone_before_is_plausible() -> None:
    assert located(memory(None), known((0, 0, 4, 4)), known((0, 0, 4, 4))).plausible
    assert located(memory((30, 30, 34, 34)), known(None), known((0, 0, 4, 4))).plausible
    # One frame without a mask, so no velocity: the place before it counts.
    assert not located(memory((30, 30, 34, 34)), known((0, 0, 4, 4)), known(None)).plausible
