"""The session machine with pictures, frames and a camera."""

from __future__ import annotations

import pytest
from session_machine import RESULT, Machine, image_in_work, kept, live, live_in_work, said

from streamseg.errors import BadPromptError, OverloadedError, UnsupportedMediaError
from streamseg.service.effects import Change, Segmented, Send, SendResult
from streamseg.service.protocol.server_messages import Failure
from streamseg.service.work_queue import MAX_WAITING

# An image


def test_a_picture_gives_its_result_and_the_session_is_done() -> None:
    machine = Machine()
    machine.start(request_id="s")
    machine.frame(request_id="f", timestamp_ms=5)
    assert machine.work() == ["ready"]
    assert machine.take() == "Segment"
    effects = machine.session.ended(RESULT)
    assert said(effects) == ["result 0 f", "done", "release"]
    assert isinstance(effects[0], SendResult)
    assert effects[0].message.timestamp_ms == 5
    assert effects[0].message.width == 4
    assert machine.start() == []


def test_a_bad_picture_ends_an_image_session() -> None:
    machine = Machine().open()
    machine.frame(index=7, request_id="f")
    machine.session.take()
    effects = machine.session.ended(UnsupportedMediaError("no picture"))
    assert said(effects) == ["error unsupported_media f", "done", "release"]
    assert isinstance(effects[0], Send)
    assert isinstance(effects[0].message, Failure)
    assert effects[0].message.index == 7


def test_a_full_queue_ends_an_image_session_with_a_time_to_come_back() -> None:
    machine = Machine().open()
    machine.frame()
    machine.session.take()
    effects = machine.session.ended(OverloadedError("full", retry_after_s=2.0))
    assert said(effects) == ["error overloaded", "done", "release"]
    assert isinstance(effects[0], Send)
    assert isinstance(effects[0].message, Failure)
    assert effects[0].message.retry_after_s == 2.0


def test_prompts_before_the_picture_are_only_confirmed() -> None:
    machine = Machine().open()
    machine.prompt()
    machine.frame()
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 0", "done", "release"]


def test_a_bad_prompt_keeps_the_session() -> None:
    machine = Machine().open()
    machine.prompt(request_id="p")
    assert machine.work(BadPromptError("outside")) == ["error bad_prompt p"]
    machine.frame()
    assert machine.work() == ["result 0", "done", "release"]


def test_prompts_that_turn_out_not_to_fit_are_told_before_the_result() -> None:
    machine = Machine().open()
    machine.frame()
    rejected = (("p", BadPromptError("outside")), (None, BadPromptError("outside")))
    outcome = Segmented(width=4, height=3, timings_ms={}, objects=[], rejected=rejected)
    assert machine.work(outcome) == ["error bad_prompt p", "error bad_prompt", "result 0", "done", "release"]


def test_stop_while_the_picture_is_in_work_gives_one_done() -> None:
    machine = image_in_work()
    assert machine.text("stop", request_id="e") == []
    effects = machine.session.ended(RESULT)
    assert said(effects) == ["result 0", "done", "release"]
    assert isinstance(effects[1], Send)
    assert effects[1].message.request_id == "e"


# A kept image


def test_a_prompt_on_a_kept_picture_has_a_result_of_its_own() -> None:
    machine = kept()
    machine.prompt(request_id="p1")
    machine.prompt(request_id="p2")
    assert machine.work() == ["ok"]
    assert machine.take() == "Again"
    assert machine.end(RESULT) == ["result 0 p1"]
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 0 p2"]
    assert machine.take() is None


def test_prompts_sent_right_behind_a_kept_picture_wait_for_it() -> None:
    machine = Machine()
    machine.start(keep=True)
    machine.frame(request_id="f")
    machine.prompt(request_id="p")
    assert machine.work() == ["ready"]
    assert machine.work() == ["result 0 f"]
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 0 p"]


def test_removing_from_a_kept_picture_is_only_confirmed() -> None:
    machine = kept()
    machine.text("remove", object_id=1)
    machine.text("reset")
    assert machine.work() == ["ok"]
    assert machine.work() == ["ok"]
    assert machine.take() is None


def test_a_kept_session_waits_for_another_picture_after_a_bad_one() -> None:
    machine = Machine().open(keep=True)
    machine.frame()
    assert machine.work(UnsupportedMediaError("no picture")) == ["error unsupported_media"]
    machine.frame()
    assert machine.work() == ["result 0"]


def test_stop_on_a_kept_picture_finishes_the_prompts_before_it() -> None:
    machine = kept()
    machine.prompt()
    machine.text("stop")
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 0", "done", "release"]


def test_a_prompt_on_another_frame_than_the_kept_one_is_refused() -> None:
    assert kept().prompt(frame=3, request_id="p") == ["error bad_prompt p"]
    assert kept().prompt(frame=0) == []


# Live frames


def test_the_newest_frame_wins() -> None:
    machine = live_in_work()
    assert machine.frame() == []
    assert machine.frame() == ["drop 1"]
    assert machine.frame() == ["drop 2"]
    assert machine.end(RESULT) == ["result 0"]
    assert machine.take() == "Segment"
    effects = machine.session.ended(RESULT)
    assert said(effects) == ["result 3"]
    assert isinstance(effects[0], SendResult)
    assert effects[0].message.dropped == 2


def test_a_frame_is_chosen_when_it_is_taken_not_when_the_former_one_ended() -> None:
    machine = live_in_work()
    machine.frame()
    machine.end(RESULT)
    machine.frame()
    assert machine.work() == ["result 2"]


def test_frames_answered_dropped_and_failed_add_up() -> None:
    machine = live_in_work()
    for _ in range(3):
        machine.frame()
    machine.end(UnsupportedMediaError("no picture"))
    machine.work()
    (done, _) = machine.session.receive('{"type": "stop"}')
    assert isinstance(done, Send)
    assert done.message.type == "done"
    assert (done.message.frames, done.message.dropped) == (1, 2)


def test_a_prompt_is_applied_before_the_frame_that_waits() -> None:
    machine = live_in_work()
    machine.frame()
    machine.prompt()
    machine.text("remove", object_id=2)
    machine.end(RESULT)
    assert machine.work() == ["ok"]
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 1"]


def test_a_frame_that_replaces_another_keeps_the_prompts_before_it() -> None:
    machine = live_in_work()
    machine.prompt()
    machine.frame()
    machine.frame()
    machine.end(RESULT)
    assert machine.work() == ["ok"]
    assert machine.work() == ["result 2"]


def test_a_bad_frame_does_not_end_a_live_session() -> None:
    machine = live_in_work()
    assert machine.end(UnsupportedMediaError("no picture")) == ["error unsupported_media"]
    machine.frame()
    assert machine.work() == ["result 1"]


def test_stop_finishes_what_is_there() -> None:
    machine = live_in_work()
    machine.frame()
    assert machine.text("stop") == []
    assert machine.end(RESULT) == ["result 0"]
    assert machine.work() == ["result 1", "done", "release"]


def test_indices_are_counted_unless_they_are_given() -> None:
    machine = live()
    machine.frame()
    machine.work()
    machine.frame(index=10)
    assert machine.work() == ["result 10"]
    machine.frame()
    assert machine.work() == ["result 11"]


@pytest.mark.parametrize("index", [0, 4, 5])
def test_an_index_that_does_not_increase_is_refused(index: int) -> None:
    machine = live()
    machine.frame(index=5)
    assert machine.frame(index=index) == ["error bad_message"]
    assert machine.work() == ["result 5"]


def test_time_runs_from_the_first_frame_unless_it_is_given() -> None:
    machine = live()
    times = []
    for wait_s, header in ((0.0, {}), (0.5, {}), (0.5, {"time_s": 7.25})):
        machine.clock.now += wait_s
        machine.frame(**header)
        machine.session.take()
        (effect,) = machine.session.ended(RESULT)
        assert isinstance(effect, SendResult)
        times.append(effect.message.time_s)
    assert times == [0.0, 0.5, 7.25]


def test_a_prompt_on_a_frame_of_the_future_is_refused() -> None:
    machine = live_in_work()
    assert machine.prompt(frame=1, request_id="p") == ["error bad_prompt p"]


def test_a_prompt_is_made_on_the_newest_frame_by_default() -> None:
    machine = live()
    machine.frame(index=5)
    machine.work()
    machine.prompt()
    work = machine.session.take()
    assert isinstance(work, Change)
    assert work.newest_frame == 5


def test_prompts_beyond_reason_are_refused_until_there_is_room() -> None:
    machine = live_in_work()
    for _ in range(MAX_WAITING):
        assert machine.prompt() == []
    assert machine.prompt(request_id="p") == ["error overloaded p"]
    machine.end(RESULT)
    machine.work()
    assert machine.prompt() == []


def test_memory_stays_bounded_whatever_is_sent() -> None:
    machine = live_in_work()
    for _ in range(500):
        machine.frame()
        machine.prompt()
        machine.text("reset")
    machine.end(RESULT)
    waiting = 0
    while machine.take():
        machine.end()
        waiting += 1
    assert waiting <= MAX_WAITING + 1
