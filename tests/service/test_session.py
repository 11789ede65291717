"""The state machine of one connection, without sockets: every state with every message, and the rules between them."""

from __future__ import annotations

from typing import Any

import pytest
from session_machine import (
    RESULT,
    Clock,
    Machine,
    ended,
    file_in_work,
    idle,
    image_in_work,
    image_open,
    kept,
    live,
    live_in_work,
    said,
    starting,
    stopping,
    uploading,
)

from streamseg.errors import BadPromptError
from streamseg.service.codec import COMMAS_OF_A_MESSAGE
from streamseg.service.effects import Close, Open, Send
from streamseg.service.rate import TokenBucket

NO = ["error bad_state"]
#            start, frame, prompt, remove, reset, stop
TABLE = [
    (idle, [], NO, NO, NO, NO, NO),
    (starting, NO, [], [], [], [], []),
    (image_open, NO, [], [], [], [], ["done", "release"]),
    (image_in_work, NO, NO, NO, NO, NO, []),
    (kept, NO, NO, [], [], [], ["done", "release"]),
    (live, NO, [], [], [], [], ["done", "release"]),
    (live_in_work, NO, [], [], [], [], []),
    (stopping, NO, NO, NO, NO, NO, NO),
    (uploading, NO, NO, [], [], [], ["done", "release"]),
    (file_in_work, NO, NO, ["amend prompt"], ["amend remove"], ["amend reset"], ["halt"]),
    (ended, [], NO, NO, NO, NO, NO),
]


@pytest.mark.parametrize(("state", "start", "frame", "prompt", "remove", "reset", "stop"), TABLE)
def test_every_message_in_every_state(
    state: Any,
    start: list[str],
    frame: list[str],
    prompt: list[str],
    remove: list[str],
    reset: list[str],
    stop: list[str],
) -> None:
    assert state().start() == start
    assert state().frame() == frame
    assert state().prompt() == prompt
    assert state().text("remove", object_id=1) == remove
    assert state().text("reset") == reset
    assert state().text("stop") == stop


@pytest.mark.parametrize("state", [row[0] for row in TABLE])
@pytest.mark.parametrize(
    "nonsense", ["", "{", '{"type": "dance"}', '{"type": "start", "version": 9}', b"", b"\x00\x00\x00\x02{}"]
)
def test_nonsense_is_refused_and_changes_nothing(state: Any, nonsense: str | bytes) -> None:
    machine = state()
    before = (machine.session.open, machine.session.busy)
    assert said(machine.session.receive(nonsense))[0].startswith("error ")
    assert (machine.session.open, machine.session.busy) == before


# Starts


def test_ready_tells_who_answers_and_what_holds() -> None:
    machine = Machine()
    machine.start(limits={"max_objects": 3}, request_id="s")
    machine.session.take()
    (effect,) = machine.session.ended(None)
    assert isinstance(effect, Send)
    ready = effect.message
    assert ready.type == "ready"
    assert (ready.request_id, ready.session_id, ready.limits.max_objects) == ("s", "the-session", 3)


def test_a_refused_start_leaves_the_connection_idle() -> None:
    machine = Machine()
    machine.start(request_id="s")
    assert machine.work(BadPromptError("no label")) == ["error bad_prompt s", "release"]
    assert not machine.session.open
    assert machine.start() == []


def test_what_was_sent_after_a_refused_start_is_answered() -> None:
    machine = Machine()
    machine.start("frames", request_id="s")
    machine.prompt(request_id="p")
    machine.frame(request_id="f")
    machine.text("stop", request_id="e")
    assert machine.work(BadPromptError("no label")) == [
        "error bad_prompt s",
        "error bad_state p",
        "error bad_state f",
        "error bad_state e",
        "release",
    ]
    assert machine.take() is None


@pytest.mark.parametrize("fields", [{"keep": True, "source": "frames"}, {"window": [5, 5]}, {"window": [9, 1]}])
def test_a_start_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    assert Machine().start(**fields) == ["error bad_message"]


# Rates, ends


def test_the_bucket_lets_bursts_through_and_then_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(8.0, 5.0, clock)
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    clock.now += 0.125
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.now += 1e6
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]


def test_a_flood_is_cut_off() -> None:
    machine = Machine(messages_per_s=5)
    words = [machine.text("reset") for _ in range(12)]
    assert words[:10] == [NO] * 10
    assert words[10] == ["error rate_limited", "close 1008"]
    assert words[11] == []
    assert machine.session.closed


def test_what_costs_more_takes_more_out_of_the_bucket() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 8.0, clock)
    assert [bucket.take(3), bucket.take(3), bucket.take(3)] == [True, True, False]
    clock.now += 1.0
    assert bucket.take(3)
    assert not bucket.take(100)
    clock.now += 8.0
    # More than ever fits in costs all that is there.
    assert bucket.take(100)
    assert not bucket.take()


def test_messages_of_very_many_values_count_as_several() -> None:
    machine = Machine(messages_per_s=20)
    dense = '{"type": "reset", "x": [' + ",".join(["1"] * 20 * COMMAS_OF_A_MESSAGE) + "]}"
    assert [said(machine.session.receive(dense))[0] for _ in range(3)] == [
        "error bad_message",
        "error bad_message",
        "error rate_limited",
    ]


def test_a_patient_client_is_not_cut_off() -> None:
    machine = Machine(messages_per_s=5)
    for _ in range(50):
        machine.clock.now += 0.2
        assert machine.text("reset") == NO


def test_nothing_happens_after_the_end() -> None:
    machine = live_in_work()
    machine.frame()
    assert said(machine.session.close(1001, "bye")) == ["close 1001"]
    assert machine.session.close(1001, "bye") == []
    assert machine.frame() == []
    assert machine.end(RESULT) == []
    assert machine.take() is None


def test_a_silent_client_is_let_go_unless_it_waits_for_us() -> None:
    assert said(image_in_work().session.idle(5)) == []
    assert said(starting().session.idle(5)) == []
    assert said(live().session.idle(5)) == ["close 1001"]
    (close,) = kept().session.idle(5)
    assert close == Close(1001, "nothing received for 5 s")


def test_only_one_work_is_under_way() -> None:
    machine = Machine()
    machine.start()
    machine.frame()
    assert isinstance(machine.session.take(), Open)
    assert machine.session.take() is None
    assert machine.session.busy


def test_an_outcome_that_nobody_waits_for_is_ignored() -> None:
    assert Machine().end(RESULT) == []
