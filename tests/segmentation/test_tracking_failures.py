"""What goes wrong costs one frame, and nothing else (embedded nano)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from streamseg.errors import FrameSizeError
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Logits
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import (
    APART,
    BLUE,
    GREEN,
    RED,
    ROUNDING,
    again,
    blue_xy,
    box_red,
    click,
    click_blue,
    difference,
    follow,
    iou,
    mask_green,
    only,
    out_of_memory,
    red_box,
    scene,
    step,
)

START = (box_red(0), click_blue(1))


@pytest.fixture(scope="module")
def plain(small: LoadedModel) -> list[dict[int, Logits]]:
    """Nine frames with nothing but ``START``."""
    return follow(Tracker(small.image_size), small, range(9), START)


def test_a_frame_of_another_shape_is_refused_and_the_next_right_one_goes_on(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(4), START)
    tracker.add_prompt(mask_green(4))
    tall = Frame(np.ascontiguousarray(scene(4).rgb[:, :160]), 4)
    with pytest.raises(FrameSizeError, match="160 x 160 pixels, the ones before had 240 x 160"):
        step(tracker, small, tall, [click(9, 4, 20, 20)])
    last = tracker.last_frame
    assert last is not None
    assert last.index == 3
    assert tracker.object_ids == (RED, BLUE, GREEN)
    found += follow(tracker, small, range(4, 9))
    assert difference(plain, only(found, RED, BLUE)) <= ROUNDING
    assert [list(frame) for frame in found[4:]] == [[RED, BLUE, GREEN]] * 5


def test_a_frame_of_another_shape_is_welcome_where_nothing_is_followed(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    tracker.remove(RED)
    tall = Frame(np.ascontiguousarray(scene(2).rgb[:, :160]), 2)
    assert list(step(tracker, small, tall, [box_red(2)])) == [RED]


@pytest.mark.parametrize("size", [(480, 320), (120, 80), (242, 160)])
def test_a_frame_of_another_size_and_the_same_shape_goes_on(small: LoadedModel, size: tuple[int, int]) -> None:
    """(242, 160): cameras and encoders round to even sides."""
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), START)
    for number in range(4, 8):
        resized = cv2.resize(scene(number).rgb, size, interpolation=cv2.INTER_LINEAR)
        found = step(tracker, small, Frame(resized, number))
    assert list(found) == [RED, BLUE]
    assert iou(found[RED].logits[0], red_box(7)) > 0.6


@pytest.mark.parametrize("part", ["image_encoder", "sam_mask_decoder", "memory_encoder"])
def test_without_memory_a_frame_is_lost_and_the_next_goes_on(
    small: LoadedModel, plain: list[dict[int, Logits]], part: str
) -> None:
    """The frame came with a prompt, which is lost with it."""
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(4), START)
    # After the first call of the decoder and the memory encoder, so in the middle: the third object has been made.
    with (
        out_of_memory(getattr(small.predictor, part), after=int(part != "image_encoder")),
        pytest.raises(torch.OutOfMemoryError),
    ):
        step(tracker, small, scene(40, index=4), [click(GREEN, 4, 60, 100)])
    last = tracker.last_frame
    assert last is not None
    assert last.index == 3
    assert tracker.object_ids == (RED, BLUE)
    assert difference(plain, found + follow(tracker, small, range(4, 9))) == 0


def test_without_memory_for_the_first_frame_the_next_one_is_the_first(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    with out_of_memory(small.predictor.memory_encoder), pytest.raises(torch.OutOfMemoryError):
        step(tracker, small, scene(0, index=90), [box_red(0)])
    assert tracker.object_ids == ()
    assert tracker.last_frame is None
    assert difference(plain[:4], follow(tracker, small, range(4), START)) == 0


def test_a_correction_that_could_not_be_made_is_made_with_the_next_frame(small: LoadedModel) -> None:
    """It did not come with the frame that was lost."""
    correction = click(RED, 3, *blue_xy(3))
    runs = []
    for fails in (False, True):
        tracker = Tracker(small.image_size)
        found = follow(tracker, small, range(4), START)
        tracker.add_prompt(correction)
        if fails:
            # The correction is decoded, and the frame after it no longer.
            with out_of_memory(small.predictor.sam_mask_decoder, after=1), pytest.raises(torch.OutOfMemoryError):
                step(tracker, small, scene(4))
            assert tracker.object_ids == (RED, BLUE)
        found += follow(tracker, small, range(4, 7))
        runs.append(found)
    assert difference(*runs) <= ROUNDING


def test_an_object_that_waits_is_not_lost_with_a_frame(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    tracker.add_prompt(click_blue(1))
    with out_of_memory(small.predictor.image_encoder), pytest.raises(torch.OutOfMemoryError):
        step(tracker, small, scene(2))
    assert tracker.object_ids == (RED, BLUE)
    assert [list(frame) for frame in follow(tracker, small, range(2, 4))] == [[RED, BLUE]] * 2


def test_an_undo_that_could_not_be_done_is_done_with_the_next_frame(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), START)
    tracker.add_prompt(click(RED, 3, *blue_xy(3)))
    corrected = again(tracker, small)
    assert difference(plain[3:4], [corrected]) > APART
    assert tracker.undo() == RED
    with out_of_memory(small.predictor.memory_encoder), pytest.raises(torch.OutOfMemoryError):
        step(tracker, small, scene(4))
    assert difference(plain[4:7], follow(tracker, small, range(4, 7))) <= ROUNDING


def test_without_memory_on_the_last_frame_again_it_stays_as_it_was(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), START)
    tracker.add_prompt(click(RED, 3, *blue_xy(3)))
    with out_of_memory(small.predictor.memory_encoder), pytest.raises(torch.OutOfMemoryError):
        again(tracker, small)
    assert tracker.undo() == RED
    assert difference(plain[3:6], [again(tracker, small), *follow(tracker, small, range(4, 6))]) == 0
