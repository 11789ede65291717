"""A prompt that is taken back leaves the masks of a run that never had it (embedded nano)."""

from __future__ import annotations

from typing import Any

import pytest

from streamseg.errors import BadStateError
from streamseg.models.build import LoadedModel
from streamseg.segmentation import tracked_object
from streamseg.segmentation.decode import Logits
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions
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
    mask_green,
    only,
    red_box,
    scene,
    step,
)

START = (box_red(0), click_blue(0))
WRONG = click(RED, 3, *blue_xy(3))


@pytest.fixture(scope="module")
def plain(small: LoadedModel) -> list[dict[int, Logits]]:
    """Twelve frames with nothing but ``START``."""
    return follow(Tracker(small.image_size), small, range(12), START)


def test_a_prompt_that_waits_is_taken_back(small: LoadedModel, plain: list[dict[int, Logits]]) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), START)
    tracker.add_prompt(click(RED, 4, *blue_xy(4)))
    tracker.add_prompt(mask_green(3))
    assert tracker.undo() == GREEN
    assert tracker.object_ids == (RED, BLUE)
    assert tracker.undo() == RED
    assert difference(plain[2:6], follow(tracker, small, range(2, 6))) == 0


def test_a_prompt_that_waits_for_a_known_frame_is_taken_back(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), START)
    tracker.add_prompt(WRONG)
    assert tracker.undo() == RED
    assert difference(plain[3:6], [again(tracker, small), *follow(tracker, small, range(4, 6))]) == 0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("rerun", [True, False])
@pytest.mark.parametrize("frames_back", [0, 3])
def test_a_correction_is_taken_back(
    small: LoadedModel, plain: list[dict[int, Logits]], frames_back: int, rerun: bool, keep: bool
) -> None:
    """Of the last frame or of one some frames back, on that frame again (``rerun``) or with the next one."""
    tracker = Tracker(small.image_size, TrackOptions(keep_corrections=keep))
    follow(tracker, small, range(4), START)
    tracker.add_prompt(WRONG)
    corrected = [again(tracker, small), *follow(tracker, small, range(4, 4 + frames_back))]
    newest = 3 + frames_back
    assert difference(plain[newest : newest + 1], corrected[-1:]) > APART
    assert tracker.undo() == RED
    found = [again(tracker, small)] if rerun else []
    found += follow(tracker, small, range(newest + 1, 10))
    assert difference(plain[newest if rerun else newest + 1 : 10], found) <= ROUNDING


def test_one_of_two_prompts_on_a_frame_is_taken_back(small: LoadedModel) -> None:
    runs = []
    for undone in (False, True):
        tracker = Tracker(small.image_size)
        follow(tracker, small, range(4), START)
        tracker.add_prompt(WRONG)
        again(tracker, small)
        if undone:
            tracker.add_prompt(click(RED, 3, 120, 150))
            again(tracker, small)
            follow(tracker, small, range(4, 6))
            assert tracker.undo() == RED
            runs.append(follow(tracker, small, range(6, 8)))
        else:
            runs.append(follow(tracker, small, range(4, 8))[2:])
    assert difference(*runs) <= ROUNDING


def test_the_second_prompt_of_a_first_frame_is_taken_back(small: LoadedModel, plain: list[dict[int, Logits]]) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(3), [*START, click(BLUE, 0, 30, 30)])
    assert tracker.undo() == BLUE
    assert difference(plain[2:5], [again(tracker, small), *follow(tracker, small, range(3, 5))]) <= ROUNDING


def test_a_new_start_of_a_known_object_is_taken_back(small: LoadedModel, plain: list[dict[int, Logits]]) -> None:
    """A box that came together with its frame stands for itself; without it the frame is tracked like any other."""
    tracker = Tracker(small.image_size)
    box = Prompt(RED, 3, box_xyxy_px=(0, 0, 60, 80))
    started = follow(tracker, small, range(5), [*START, box])
    assert difference(plain[3:5], started[3:]) > APART
    assert tracker.undo() == RED
    assert difference(plain[4:8], [again(tracker, small), *follow(tracker, small, range(5, 8))]) <= ROUNDING


def test_an_object_whose_first_prompt_is_taken_back_was_never_there(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(5), [*START, mask_green(2)])
    assert tracker.undo() == GREEN
    found = [again(tracker, small), *follow(tracker, small, range(5, 8))]
    assert tracker.object_ids == (RED, BLUE)
    assert difference(plain[4:8], found) <= ROUNDING


def test_an_object_that_was_pointed_at_earlier_afterwards_begins_later_again(small: LoadedModel) -> None:
    """Pointed at on frame 3, then on frame 1; the second prompt is taken back."""
    expected = follow(Tracker(small.image_size), small, range(7), [click_blue(3)])
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(5), [click_blue(3)])
    tracker.add_prompt(Prompt(BLUE, 1, box_xyxy_px=red_box(1)))
    again(tracker, small)
    assert tracker.undo() == BLUE
    assert difference(expected[4:7], [again(tracker, small), *follow(tracker, small, range(5, 7))]) <= ROUNDING


def test_everything_can_be_taken_back_and_then_nothing_is_left(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    with pytest.raises(BadStateError, match="no prompt left"):
        tracker.undo()
    follow(tracker, small, range(4), START)
    tracker.add_prompt(WRONG)
    again(tracker, small)
    tracker.add_prompt(mask_green(6))
    assert [tracker.undo() for _ in range(4)] == [GREEN, RED, BLUE, RED]
    with pytest.raises(BadStateError, match="no prompt left"):
        tracker.undo()
    assert again(tracker, small) == {}
    assert tracker.object_ids == ()
    expected = follow(Tracker(small.image_size), small, range(4, 7), [mask_green(4)])
    assert difference(expected, follow(tracker, small, range(4, 7), [mask_green(4)])) == 0


def test_a_prompt_out_of_the_window_is_forgotten_from_here_on(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size, TrackOptions(correction_window_frames=3))
    follow(tracker, small, range(4), START)
    tracker.add_prompt(WRONG)
    again(tracker, small)
    follow(tracker, small, range(4, 8))
    assert list(tracker._objects[RED].bank.conditioning) == [0, 3]
    assert tracker.undo() == RED
    found = follow(tracker, small, range(8, 10))
    assert list(tracker._objects[RED].bank.conditioning) == [0]
    assert difference(only(plain[8:10], BLUE), only(found, BLUE)) <= ROUNDING
    assert [list(frame) for frame in found] == [[RED, BLUE]] * 2


def test_a_first_prompt_out_of_the_window_takes_its_object_with_it(
    small: LoadedModel, plain: list[dict[int, Logits]]
) -> None:
    tracker = Tracker(small.image_size, TrackOptions(correction_window_frames=2))
    follow(tracker, small, range(6), [*START, mask_green(1)])
    assert tracker.undo() == GREEN
    assert difference(plain[6:8], follow(tracker, small, range(6, 8))) <= ROUNDING
    assert tracker.undo() == BLUE
    assert difference(only(plain[8:10], RED), follow(tracker, small, range(8, 10))) <= ROUNDING


def test_prompts_of_removed_objects_are_passed_over(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0), click_blue(0), mask_green(1)])
    tracker.remove(GREEN)
    tracker.remove(BLUE)
    assert tracker.undo() == RED
    with pytest.raises(BadStateError):
        tracker.undo()


def test_a_reset_leaves_nothing_to_take_back(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(1), START)
    tracker.reset()
    with pytest.raises(BadStateError):
        tracker.undo()


def test_prompts_that_were_rejected_cannot_be_taken_back(small: LoadedModel, plain: list[dict[int, Logits]]) -> None:
    tracker = Tracker(small.image_size)
    for prompt in (*START, click(BLUE, 0, 5000, 5), click(GREEN, 0, 5000, 5)):
        tracker.add_prompt(prompt)
    step(tracker, small, scene(0), [click(RED, 0, 5000, 5)])
    assert sorted(one.object_id for one in tracker.take_rejected()) == [RED, BLUE, GREEN]
    assert tracker.undo() == BLUE
    assert difference(only(plain[1:3], RED), follow(tracker, small, range(1, 3))) <= ROUNDING


def test_points_that_were_taken_back_do_not_count(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    many = Prompt(RED, 0, points_xy_px=[(30, 30)] * 60, labels=[1] * 60)
    follow(tracker, small, range(1), [click(RED, 0, 40, 40)])
    for _ in range(3):
        tracker.add_prompt(many)
        again(tracker, small)
        assert tracker.undo() == RED
        again(tracker, small)
    assert list(follow(tracker, small, range(1, 2))[0]) == [RED]


@pytest.mark.parametrize("most", [1, 2])
def test_a_conditioning_frame_that_had_to_leave_for_a_prompt_comes_back_without_it(
    small: LoadedModel, most: int
) -> None:
    options = TrackOptions(max_conditioning_frames=most)
    before = [Prompt(RED, number, box_xyxy_px=red_box(number)) for number in range(most)]
    expected = follow(Tracker(small.image_size, options), small, range(8), before)
    tracker = Tracker(small.image_size, options)
    follow(tracker, small, range(5), [*before, Prompt(RED, 3, box_xyxy_px=(100, 90, 200, 150))])
    assert tracker.undo() == RED
    assert difference(expected[4:8], [again(tracker, small), *follow(tracker, small, range(5, 8))]) <= ROUNDING


def test_an_object_whose_first_prompt_is_at_the_model_survives_the_undo_of_another(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(small.image_size)
    look = tracked_object.encode

    def encode(*arguments: Any) -> Any:
        tracker.add_prompt(click(RED, 1, 30.0, 30.0))
        assert tracker.undo() == RED
        return look(*arguments)

    tracker.add_prompt(box_red(0))
    monkeypatch.setattr(tracked_object, "encode", encode)
    step(tracker, small, scene(0))
    monkeypatch.undo()
    assert tracker.object_ids == (RED,)
    assert not step(tracker, small, scene(1))[RED].lost
