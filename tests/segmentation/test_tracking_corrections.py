"""Corrections of frames that were tracked: the newest one, and those before it (embedded nano)."""

from __future__ import annotations

import contextlib
import weakref

import pytest

from streamseg.errors import BadPromptError
from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Logits
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import (
    APART,
    BLUE,
    GREEN,
    HEIGHT,
    RED,
    ROUNDING,
    WIDTH,
    again,
    blue_xy,
    box_red,
    click,
    click_blue,
    difference,
    follow,
    mask_green,
    only,
    scene,
    step,
)

BESIDE_RED = (85, 40)


def at(logits: Logits, x: float, y: float) -> float:
    """The logit at a place in pixels of the frame."""
    rows, columns = logits.shape
    return float(logits[int(y / HEIGHT * rows), int(x / WIDTH * columns)])


def test_clicks_on_the_frame_just_tracked_change_that_object_there_and_later(small: LoadedModel) -> None:
    start = [box_red(0), click_blue(0)]
    plain = follow(Tracker(small.image_size), small, range(8), start)
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), start)
    # A click on the other disc: it is taken for a part of the object far more, ...
    tracker.add_prompt(click(RED, 3, *blue_xy(3)))
    more = again(tracker, small)
    assert at(plain[3][RED], *blue_xy(3)) + 2 < at(more[RED], *blue_xy(3))
    # ... and one beside the object, which pushes it away from there.
    tracker.add_prompt(click(RED, 3, *BESIDE_RED, label=0))
    less = again(tracker, small)
    assert at(less[RED], *BESIDE_RED) < at(more[RED], *BESIDE_RED)
    later = follow(tracker, small, range(4, 8))
    assert difference(only(plain[4:], RED), only(later, RED)) > APART
    others = only([plain[3], plain[3], *plain[4:]], BLUE)
    assert difference(others, only([more, less, *later], BLUE)) <= ROUNDING


def test_the_same_frame_again_without_news_gives_the_same_answers(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(4), [box_red(0), click_blue(2)])
    assert difference([found[3]], [again(tracker, small)]) == 0
    rest = follow(tracker, small, range(4, 6))
    expected = follow(Tracker(small.image_size), small, range(6), [box_red(0), click_blue(2)])
    assert difference(expected[4:], rest) == 0


@pytest.mark.parametrize("label", [1, 0])
@pytest.mark.parametrize("keep", [True, False])
def test_a_correction_some_frames_back_is_as_if_it_had_been_made_then(
    small: LoadedModel, label: int, keep: bool
) -> None:
    options = TrackOptions(keep_corrections=keep)
    start = [box_red(0), click_blue(0)]
    correction = click(RED, 3, *blue_xy(3), label)
    in_time, late = Tracker(small.image_size, options), Tracker(small.image_size, options)
    follow(in_time, small, range(4), start)
    in_time.add_prompt(correction)
    again(in_time, small)
    expected = follow(in_time, small, range(4, 10))

    plain = follow(late, small, range(8), start)
    late.add_prompt(correction)
    found = [again(late, small), *follow(late, small, range(8, 10))]
    assert difference(only(plain[7:8], RED), only(found[:1], RED)) > APART
    assert difference(expected[3:], found) <= ROUNDING
    # Once more with what comes before the next frame, not on the last one again.
    waiting = Tracker(small.image_size, options)
    follow(waiting, small, range(8), start)
    waiting.add_prompt(correction)
    assert difference(expected[4:], follow(waiting, small, range(8, 10))) <= ROUNDING


def test_an_object_that_is_pointed_at_some_frames_back_is_as_if_it_had_joined_then(small: LoadedModel) -> None:
    expected = follow(Tracker(small.image_size), small, range(9), [box_red(0), click_blue(2), mask_green(4)])
    tracker = Tracker(small.image_size)
    plain = follow(tracker, small, range(7), [box_red(0)])
    tracker.add_prompt(click_blue(2))
    tracker.add_prompt(mask_green(4))
    assert difference(only(expected[:7], RED), plain) <= ROUNDING
    assert difference(expected[7:], follow(tracker, small, range(7, 9))) <= ROUNDING


def test_prompts_on_the_way_are_said_again_after_an_earlier_correction(small: LoadedModel) -> None:
    """Frame 4 was corrected first, then frame 2: the click on 4 corrects what is tracked there now."""
    first, second = click(RED, 2, *blue_xy(2)), click(RED, 4, *blue_xy(4), label=0)
    in_order, reverse = Tracker(small.image_size), Tracker(small.image_size)
    for number in range(7):
        step(in_order, small, scene(number), [box_red(0)] if number == 0 else [])
        for prompt in (first, second):
            if prompt.frame == number:
                in_order.add_prompt(prompt)
                again(in_order, small)
    follow(reverse, small, range(6), [box_red(0)])
    for prompt in (second, first):
        reverse.add_prompt(prompt)
        again(reverse, small)
    follow(reverse, small, [6])
    assert difference(follow(in_order, small, range(7, 9)), follow(reverse, small, range(7, 9))) <= ROUNDING


def test_a_box_on_a_past_frame_before_the_object_was_known_leaves_its_later_start_as_it_is(small: LoadedModel) -> None:
    x, y = blue_xy(1)
    earlier = Prompt(BLUE, 1, box_xyxy_px=(x - 28, y - 28, x + 28, y + 28))
    expected = follow(Tracker(small.image_size), small, range(7), [earlier, click_blue(3)])
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(6), [click_blue(3)])
    tracker.add_prompt(earlier)
    assert difference(expected[6:], follow(tracker, small, [6])) <= ROUNDING


def test_to_replace_an_object_on_a_past_frame_is_to_start_it_there(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(6), [Prompt(BLUE, 0, box_xyxy_px=(10, 10, 65, 65))])
    tracker.add_prompt(click_blue(3), replace=True)
    found = [again(tracker, small), *follow(tracker, small, range(6, 8))]
    expected = follow(Tracker(small.image_size), small, range(3, 8), [click_blue(3)])
    assert difference(expected[2:], found) <= ROUNDING


def test_a_mask_on_a_tracked_frame_is_taken_as_it_is(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(3), [click(GREEN, 0, 30, 30)])
    wanted = mask_green(2)
    tracker.add_prompt(wanted)
    assert wanted.mask is not None
    share = (again(tracker, small)[GREEN] > 0).mean()
    assert share == pytest.approx(wanted.mask.mean(), rel=0.1)


@pytest.mark.parametrize("keep", [True, False])
def test_a_corrected_frame_becomes_a_conditioning_frame_if_that_is_wanted(small: LoadedModel, keep: bool) -> None:
    tracker = Tracker(small.image_size, TrackOptions(keep_corrections=keep))
    follow(tracker, small, range(4), [box_red(0)])
    tracker.add_prompt(click(RED, 2, *BESIDE_RED, label=0))
    again(tracker, small)
    bank = tracker._objects[RED].bank
    assert list(bank.conditioning) == ([0, 2] if keep else [0])
    assert sorted({*bank.conditioning, *bank.recent}) == [0, 1, 2, 3]


def test_the_oldest_frame_of_the_window_can_be_corrected_and_the_one_before_it_cannot(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, TrackOptions(correction_window_frames=3))
    follow(tracker, small, range(8), [box_red(0)])
    with pytest.raises(BadPromptError, match="frame 4 has passed: the last 3 frames"):
        tracker.add_prompt(click_blue(4))
    assert tracker.object_ids == (RED,)
    tracker.add_prompt(click_blue(5))
    found = [again(tracker, small), *follow(tracker, small, range(8, 10))]
    expected = follow(Tracker(small.image_size), small, range(5, 10), [click_blue(5)])
    assert difference(expected[2:], only(found, BLUE)) <= ROUNDING


def test_a_frame_that_was_left_out_stands_for_the_next_one_as_long_as_that_can_be_corrected(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, TrackOptions(correction_window_frames=2))
    follow(tracker, small, (0, 4, 8, 12), [box_red(0)])
    with pytest.raises(BadPromptError, match="frame 4 has passed: the last 2 frames"):
        tracker.add_prompt(click_blue(4))
    tracker.add_prompt(click(BLUE, 5, *blue_xy(8)))
    found = [again(tracker, small), *follow(tracker, small, [16])]
    expected = follow(Tracker(small.image_size), small, (8, 12, 16), [click_blue(8)])
    assert difference(expected[1:], only(found, BLUE)) <= ROUNDING


def test_a_correction_is_checked_against_the_frame_that_it_names(small: LoadedModel) -> None:
    """The camera changed to twice the size in between; coordinates are pixels of the frame that is pointed at."""
    tracker = Tracker(small.image_size)
    step(tracker, small, scene(0, scale=2.0), [Prompt(RED, 0, box_xyxy_px=(20, 20, 130, 130))])
    step(tracker, small, scene(1))
    x, y = blue_xy(0)
    tracker.add_prompt(click(BLUE, 0, 2 * x, 2 * y))
    with pytest.raises(BadPromptError, match="outside the 240 x 160 frame"):
        tracker.add_prompt(click(BLUE, 1, 2 * x, 2 * y))
    found = [again(tracker, small), *follow(tracker, small, range(2, 4))]
    tracker = Tracker(small.image_size)
    step(tracker, small, scene(0, scale=2.0), [click(BLUE, 0, 2 * x, 2 * y)])
    assert difference(follow(tracker, small, range(1, 4)), only(found, BLUE)) <= ROUNDING


def test_points_on_the_same_frame_add_up_and_a_mask_makes_them_void(small: LoadedModel) -> None:
    first, second = click(RED, 0, 30, 30), click(RED, 0, 120, 30, label=0)
    said_twice = follow(Tracker(small.image_size), small, range(3), [first, second])
    one_by_one = Tracker(small.image_size)
    step(one_by_one, small, scene(0))
    for prompt in (first, second):
        one_by_one.add_prompt(prompt)
        again(one_by_one, small)
    assert difference(said_twice[1:], follow(one_by_one, small, range(1, 3))) <= ROUNDING

    mask = Prompt(RED, 0, mask=mask_green(0).mask)
    drawn_over = follow(Tracker(small.image_size), small, range(3), [first, second, mask])
    drawn = follow(Tracker(small.image_size), small, range(3), [mask])
    assert difference(drawn, drawn_over) <= ROUNDING


def test_large_masks_are_not_kept(small: LoadedModel) -> None:
    """Of the size of the picture: 8 MB each for one of 4K, and what waits or can be undone may be hundreds."""
    tracker = Tracker(small.image_size)
    waiting, together = mask_green(0), mask_green(1)
    large = [weakref.ref(one.mask) for one in (waiting, together)]
    tracker.add_prompt(waiting)
    del waiting
    assert large[0]() is None
    step(tracker, small, scene(0))
    step(tracker, small, scene(1), [together])
    del together
    assert large[1]() is None


def test_waiting_masks_do_not_pile_up(small: LoadedModel) -> None:
    """Without any frame in between: a client could otherwise fill the memory with them."""
    tracker = Tracker(small.image_size)
    with contextlib.suppress(BadPromptError):
        for _ in range(300):
            tracker.add_prompt(mask_green(0))
    assert sum(1 for one in tracker._waiting if one.mask is not None) <= 64
    expected = follow(Tracker(small.image_size), small, range(2), [mask_green(0)])
    assert difference(expected, follow(tracker, small, range(2))) <= ROUNDING


def test_masks_on_one_frame_do_not_pile_up(small: LoadedModel) -> None:
    """A picture that is looked at for long is one frame, however often it is drawn on."""
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    for _ in range(4):
        with contextlib.suppress(BadPromptError):
            for _ in range(30):
                tracker.add_prompt(Prompt(RED, 1, mask=mask_green(1).mask))
        again(tracker, small)
    kept = tracker._objects[RED].spoken[1].told
    assert sum(1 for told in kept if told.mask is not None) <= 64


@pytest.mark.parametrize("most", [1, 2])
def test_a_prompt_on_an_earlier_frame_stays_whatever_the_cap(small: LoadedModel, most: int) -> None:
    tracker = Tracker(small.image_size, TrackOptions(max_conditioning_frames=most))
    follow(tracker, small, range(4), [box_red(2)])
    tracker.add_prompt(click(RED, 3, 5.0, 150.0, label=0))
    again(tracker, small)
    tracker.add_prompt(click(RED, 2, 40.0, 40.0))
    again(tracker, small)
    assert tracker.take_rejected() == []
    assert tracker.object_ids == (RED,)
    assert not step(tracker, small, scene(4))[RED].lost
