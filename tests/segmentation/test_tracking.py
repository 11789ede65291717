"""Objects that are tracked come, go and are found again, each without a word about the others (embedded nano)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamseg.errors import BadPromptError, NotFoundError, TooLargeError
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.segmentation.embedding import FrameFeatures, encode
from streamseg.segmentation.prompts import Prompt, PromptLimits
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import (
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
    red_box,
    scene,
    step,
)


def test_objects_are_followed_to_where_they_move(small: LoadedModel) -> None:
    found = follow(Tracker(small.image_size), small, range(16), [box_red(0), click_blue(0)])
    x, y = blue_xy(15)
    assert iou(found[15][RED], red_box(15)) > 0.6
    assert iou(found[15][RED], red_box(0)) < 0.3
    assert iou(found[15][BLUE], (x - 25, y - 25, x + 25, y + 25)) > 0.6


def test_objects_join_at_any_time_and_leave_the_others_as_they_were(small: LoadedModel) -> None:
    alone = follow(Tracker(small.image_size), small, range(12), [box_red(0)])
    together = follow(Tracker(small.image_size), small, range(12), [box_red(0), click_blue(4), mask_green(7)])
    assert [list(frame) for frame in together] == [[RED]] * 4 + [[RED, BLUE]] * 3 + [[RED, BLUE, GREEN]] * 5
    assert difference(alone, only(together, RED)) <= ROUNDING


def test_answers_come_in_the_order_of_the_first_prompts(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    for object_id in (8, 3, 5):
        tracker.add_prompt(click(object_id, 0, 30, 30))
    assert list(step(tracker, small, scene(0))) == [8, 3, 5]
    tracker.add_prompt(click(8, 0, 50, 50))
    tracker.add_prompt(click(4, 0, 30, 30))
    assert list(step(tracker, small, scene(1))) == [8, 3, 5, 4]


def test_an_answer_has_the_coarse_mask_and_its_score(small: LoadedModel) -> None:
    answer = step(Tracker(small.image_size), small, scene(0), [box_red(0)])[RED]
    assert answer.logits.shape == (1, *small.mask_input_size)
    assert answer.logits.dtype == answer.scores.dtype == np.float32
    assert answer.scores.shape == (1,)
    assert 0.3 < float(answer.scores[0]) <= 1
    assert (answer.best, answer.lost) == (0, False)


def test_without_objects_there_are_no_answers(small: LoadedModel) -> None:
    assert follow(Tracker(small.image_size), small, range(2)) == [{}, {}]


def test_a_removed_object_is_gone_and_the_others_go_on(small: LoadedModel) -> None:
    alone = follow(Tracker(small.image_size), small, range(9), [box_red(0)])
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(4), [box_red(0), click_blue(0)])
    tracker.remove(BLUE)
    assert tracker.object_ids == (RED,)
    with pytest.raises(NotFoundError, match="no object 2"):
        tracker.remove(BLUE)
    assert difference(alone, only(found, RED) + follow(tracker, small, range(4, 9))) <= ROUNDING


def test_an_object_of_a_removed_ones_id_knows_nothing_of_it(small: LoadedModel) -> None:
    used = Tracker(small.image_size)
    follow(used, small, range(3), [box_red(0), click(BLUE, 0, 30, 30)])
    used.remove(BLUE)
    fresh = Tracker(small.image_size)
    follow(fresh, small, range(3), [box_red(0)])
    expected = follow(fresh, small, range(3, 7), [click_blue(3)])
    assert difference(expected, follow(used, small, range(3, 7), [click_blue(3)])) <= ROUNDING


def test_a_prompt_of_a_removed_object_that_waits_goes_with_it(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    tracker.add_prompt(click_blue(3))
    tracker.add_prompt(box_red(0))
    tracker.remove(BLUE)
    assert [list(frame) for frame in follow(tracker, small, range(5))] == [[RED]] * 5


def test_after_a_reset_objects_start_anew(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    tracker.add_prompt(mask_green(4))
    follow(tracker, small, range(3), [box_red(0), click_blue(0)])
    tracker.reset()
    assert tracker.object_ids == ()
    found = follow(tracker, small, range(3, 7), [click_blue(3)])
    expected = follow(Tracker(small.image_size), small, range(3, 7), [click_blue(3)])
    assert difference(expected, found) == 0


def test_a_cleared_tracker_is_as_a_new_one(small: LoadedModel) -> None:
    cleared, fresh = Tracker(small.image_size), Tracker(small.image_size)
    follow(cleared, small, range(12), [box_red(0)])
    cleared.clear()
    assert cleared.last_frame is None
    assert cleared.object_ids == ()
    wide = Frame(np.ascontiguousarray(scene(0).rgb[:80]), 2)
    runs = []
    for tracker in (cleared, fresh):
        assert step(tracker, small, wide) == {}
        # Said of a frame that was left out: the first one that was not takes it.
        tracker.add_prompt(Prompt(RED, 0, box_xyxy_px=red_box(0)))
        runs.append([again(tracker, small)])
    assert difference(*runs) == 0


def test_a_prompt_for_a_frame_to_come_waits_for_it(small: LoadedModel) -> None:
    expected = follow(Tracker(small.image_size), small, range(6), [box_red(0), click_blue(4)])
    tracker = Tracker(small.image_size)
    tracker.add_prompt(click_blue(4))
    tracker.add_prompt(box_red(0))
    assert tracker.object_ids == (BLUE, RED)
    found = [dict(sorted(frame.items())) for frame in follow(tracker, small, range(6))]
    assert difference(expected, found) <= ROUNDING


def test_a_prompt_for_a_frame_to_come_waits_while_the_last_frame_is_corrected(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    tracker.add_prompt(click_blue(4))
    tracker.add_prompt(click(RED, 1, 30, 120, label=0))
    assert list(again(tracker, small)) == [RED]
    found = follow(tracker, small, range(2, 6))
    assert [list(frame) for frame in found] == [[RED], [RED], [RED, BLUE], [RED, BLUE]]
    expected = follow(Tracker(small.image_size), small, range(2, 6), [click_blue(4)])
    assert difference(expected[2:], only(found[2:], BLUE)) <= ROUNDING


@pytest.mark.parametrize("named", [0, 3, 90])
def test_a_prompt_for_the_next_frame_goes_there_whichever_it_names(small: LoadedModel, named: int) -> None:
    expected = follow(Tracker(small.image_size), small, range(3, 6), [click_blue(3)])
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(3), [box_red(0)])
    x, y = blue_xy(3)
    tracker.add_prompt(click(BLUE, named, x, y), on_next=True)
    assert difference(expected, only(follow(tracker, small, range(3, 6)), BLUE)) <= ROUNDING


@pytest.mark.parametrize("late", [False, True])
def test_a_prompt_on_a_frame_that_was_left_out_goes_to_the_next_tracked_one(small: LoadedModel, late: bool) -> None:
    """Every third frame is tracked; the prompt names frame 4. ``late``: it comes when frame 6 was tracked already."""
    expected = follow(Tracker(small.image_size), small, (0, 3, 6, 9), [box_red(0), click_blue(6)])
    tracker = Tracker(small.image_size)
    follow(tracker, small, (0, 3, 6) if late else (0, 3), [box_red(0)])
    x, y = blue_xy(6)
    tracker.add_prompt(click(BLUE, 4, x, y))
    found = [again(tracker, small)] if late else follow(tracker, small, [6])
    assert difference(expected[2:], found + follow(tracker, small, [9])) <= ROUNDING


def test_a_lost_object_has_no_mask_and_is_found_when_it_returns(model: LoadedModel) -> None:
    tracker = Tracker(model.image_size)
    follow(tracker, model, range(8), [box_red(0), click_blue(0)])
    for number in range(8, 12):
        away = step(tracker, model, scene(number, without=[RED]))
        assert away[RED].lost
        assert not (away[RED].logits > 0).any()
        assert not away[BLUE].lost
    for number in range(12, 18):
        back = step(tracker, model, scene(number))
    assert not back[RED].lost
    assert iou(back[RED].logits[0], red_box(17)) > 0.5


@pytest.mark.parametrize("together", [True, False])
def test_a_prompt_under_which_nothing_is_seen_makes_no_object(small: LoadedModel, together: bool) -> None:
    """nano sees something everywhere: whatever is decoded on its own, and that is the prompt, gets a low score."""
    plain = follow(Tracker(small.image_size), small, range(7), [box_red(0), click_blue(0)])
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(4), [box_red(0), click_blue(0)])
    nothing = click(GREEN, 4, 120, 80)

    def lower(module: torch.nn.Module, given: Any, scores: torch.Tensor) -> torch.Tensor:
        return scores - 1000 if len(scores) == 1 else scores

    handle = small.predictor.sam_mask_decoder.pred_obj_score_head.register_forward_hook(lower)
    try:
        if together:
            found += follow(tracker, small, [4], [nothing])
        else:
            tracker.add_prompt(nothing, tag="the third")
            found += follow(tracker, small, [4])
    finally:
        handle.remove()
    (rejected,) = tracker.take_rejected()
    assert (rejected.object_id, rejected.tag) == (GREEN, None if together else "the third")
    assert isinstance(rejected.error, BadPromptError)
    assert "nothing was found" in rejected.error.message
    assert tracker.object_ids == (RED, BLUE)
    assert tracker.take_rejected() == []
    assert difference(plain, found + follow(tracker, small, range(5, 7))) <= ROUNDING


def test_prompts_that_do_not_fit_their_frame_are_reported_and_the_others_count(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    tracker.add_prompt(click(RED, 0, 5000, 5), tag="the first")
    tracker.add_prompt(click_blue(0))
    small_mask = Prompt(GREEN, 0, mask=np.ones((10, 10), bool))
    assert list(step(tracker, small, scene(0), [small_mask])) == [BLUE]
    assert tracker.object_ids == (BLUE,)
    rejected = {one.object_id: one for one in tracker.take_rejected()}
    assert sorted(rejected) == [RED, GREEN]
    assert rejected[RED].tag == "the first"
    assert "outside the 240 x 160 frame" in rejected[RED].error.message
    assert "must be (160, 240)" in rejected[GREEN].error.message


def test_a_prompt_that_does_not_fit_a_known_frame_changes_nothing(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    step(tracker, small, scene(0))
    with pytest.raises(BadPromptError, match="outside"):
        tracker.add_prompt(click(RED, 0, 240, 5))
    assert tracker.object_ids == ()


def test_rejected_prompts_do_not_pile_up(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    for object_id in range(60):
        tracker.add_prompt(click(object_id, 0, 5000, 5))
    wrong = [click(object_id, 0, 5000, 5) for object_id in range(100, 160)]
    assert step(tracker, small, scene(0), wrong) == {}
    assert len(tracker.take_rejected()) == 100


def test_objects_are_limited(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, limits=PromptLimits(max_objects=2))
    tracker.add_prompt(box_red(0))
    assert list(step(tracker, small, scene(0), [click_blue(0), mask_green(0)])) == [RED, BLUE]
    (rejected,) = tracker.take_rejected()
    assert "2 objects are the limit" in rejected.error.message
    with pytest.raises(BadPromptError, match="2 objects are the limit"):
        tracker.add_prompt(mask_green(0))
    tracker.remove(BLUE)
    tracker.add_prompt(mask_green(0))
    assert list(again(tracker, small)) == [RED, GREEN]


def test_points_on_a_frame_are_limited_whether_they_wait_or_not(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, limits=PromptLimits(max_points=2))
    tracker.add_prompt(click(RED, 0, 30, 30))
    tracker.add_prompt(click(RED, 0, 50, 50))
    with pytest.raises(BadPromptError, match="3 points for object 1"):
        tracker.add_prompt(click(RED, 0, 60, 60))
    step(tracker, small, scene(0))
    with pytest.raises(BadPromptError, match="3 points for object 1"):
        tracker.add_prompt(click(RED, 0, 60, 60))
    tracker.add_prompt(click(RED, 0, 60, 60), replace=True)
    tracker.add_prompt(click(BLUE, 0, 60, 60))
    assert list(again(tracker, small)) == [RED, BLUE]


def test_points_of_former_frames_do_not_count_against_the_limit(small: LoadedModel) -> None:
    """``max_points`` are those of one object on one frame: who corrects it now and then must not run out of clicks."""
    tracker = Tracker(small.image_size, limits=PromptLimits(max_points=2))

    def two_clicks(frame: int) -> Prompt:
        return Prompt(RED, frame, points_xy_px=[(30 + 3 * frame, 40), (200, 80)], labels=[1, 0])

    follow(tracker, small, range(3), [two_clicks(0), two_clicks(2)])
    assert tracker.take_rejected() == []
    tracker.add_prompt(two_clicks(1))
    assert list(again(tracker, small)) == [RED]
    with pytest.raises(BadPromptError, match="3 points for object 1"):
        tracker.add_prompt(click(RED, 1, 40, 40))


def test_many_objects_on_a_large_frame_are_refused_before_they_fill_the_memory(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, limits=PromptLimits(max_mask_pixels=2 * 160 * 240))
    for prompt in (box_red(0), click_blue(0), mask_green(0)):
        tracker.add_prompt(prompt)
    with pytest.raises(TooLargeError, match="3 objects on a 240 x 160 frame"):
        step(tracker, small, scene(0))
    tracker.remove(BLUE)
    assert list(step(tracker, small, scene(0))) == [RED, GREEN]


def test_what_is_too_much_for_one_frame_leaves_the_tracker_as_it_was(small: LoadedModel) -> None:
    plain = follow(Tracker(small.image_size), small, range(5), [box_red(0)])
    tracker = Tracker(small.image_size, limits=PromptLimits(max_mask_pixels=160 * 240))
    found = follow(tracker, small, range(3), [box_red(0)])
    with pytest.raises(TooLargeError):
        step(tracker, small, scene(3), [click_blue(3)])
    assert tracker.object_ids == (RED,)
    found += follow(tracker, small, range(3, 5))
    assert difference(plain, found) == 0


def test_what_happens_during_the_work_counts_on_the_next_step(
    small: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = follow(Tracker(small.image_size), small, range(5), [box_red(0), click_blue(3)])
    tracker = Tracker(small.image_size)
    found = follow(tracker, small, range(2), [box_red(0), mask_green(0)])

    def encode_while_someone_clicks(*given: Any) -> FrameFeatures:
        tracker.remove(GREEN)
        tracker.add_prompt(click_blue(3))
        monkeypatch.setattr("streamseg.segmentation.tracked_object.encode", encode)
        return encode(*given)

    monkeypatch.setattr("streamseg.segmentation.tracked_object.encode", encode_while_someone_clicks)
    found += follow(tracker, small, range(2, 5))
    assert [list(frame) for frame in found[2:]] == [[RED], [RED, BLUE], [RED, BLUE]]
    assert difference(expected, only(found, RED, BLUE)) <= ROUNDING
