"""The state machine of one connection, without sockets: every state with every message, and the rules between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from wire_client import pack

from streamseg.errors import BadPromptError, BadStateError, OverloadedError, UnsupportedMediaError
from streamseg.service.effects import (
    Again,
    Amend,
    Change,
    Close,
    Drop,
    Effect,
    Halt,
    Open,
    Outcome,
    Processed,
    Release,
    Segment,
    Segmented,
    Send,
    SendResult,
    Store,
)
from streamseg.service.protocol.client_messages import CHUNK_BYTES, WINDOW_BYTES, PromptRequest, Start
from streamseg.service.protocol.server_messages import (
    Done,
    Failure,
    FileFields,
    ModelInfo,
    Progress,
    Ready,
    Received,
    SessionLimits,
)
from streamseg.service.rate import TokenBucket
from streamseg.service.session import Session
from streamseg.service.work_queue import MAX_WAITING

MODEL = ModelInfo(name="nano", device="cpu", reason="a test", licence="none")
RESULT = Segmented(width=4, height=3, timings_ms={"segment": 1.0}, objects=[])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _limits(start: Start) -> SessionLimits:
    return SessionLimits(
        max_objects=start.limits.max_objects or 64,
        max_points=64,
        max_image_pixels=100,
        max_image_bytes=100,
        max_message_bytes=CHUNK_BYTES + 512,
        messages_per_s=1e6,
        idle_timeout_s=1.0,
        resume_s=30.0,
        max_video_bytes=100 * CHUNK_BYTES,
        max_video_seconds=60.0,
        max_video_frames=1000,
    )


class Machine:
    """A session, and short words for what a client and a worker do with it."""

    def __init__(self, messages_per_s: float = 1e6) -> None:
        self.clock = Clock()
        self.session = Session(
            MODEL, _limits, messages_per_s=messages_per_s, clock=self.clock, new_id=lambda: "the-session"
        )

    def text(self, kind: str, **fields: Any) -> list[str]:
        return said(self.session.receive(json.dumps({"type": kind, **fields})))

    def start(self, source: str = "image", **fields: Any) -> list[str]:
        return self.text("start", version=1, source=source, **fields)

    def frame(self, **header: Any) -> list[str]:
        return said(self.session.receive(pack({"type": "frame", **header}, b"jpeg")))

    def prompt(self, **fields: Any) -> list[str]:
        return self.text("prompt", object_id=1, **fields)

    def take(self) -> str | None:
        """The kind of the next work, taken."""
        work = self.session.take()
        return None if work is None else type(work).__name__

    def chunk(self, offset: int, length: int, **header: Any) -> list[str]:
        return said(self.session.receive(pack({"type": "chunk", "offset": offset, **header}, bytes(length))))

    def end(self, outcome: Outcome = None) -> list[str]:
        return said(self.session.ended(outcome))

    def work(self, outcome: Outcome = None) -> list[str]:
        """Take the next work and end it well, unless another outcome is given."""
        work = self.session.take()
        assert work is not None
        if outcome is None and isinstance(work, Segment | Again):
            outcome = RESULT
        return self.end(outcome)

    def open(self, source: str = "image", **fields: Any) -> Machine:
        assert self.start(source, **fields) == []
        assert self.work() == ["ready"]
        return self


def said(effects: Iterable[Effect]) -> list[str]:
    """Effects in short: ``ready``, ``error bad_state``, ``result 3``, ``close 1008``, ..."""
    words = []
    for effect in effects:
        match effect:
            case Send(Failure() as failure):
                words.append(f"error {failure.code}" + (f" {failure.request_id}" if failure.request_id else ""))
            case Send(message):
                words.append(message.type)
            case SendResult(result):
                words.append(f"result {result.index}" + (f" {result.request_id}" if result.request_id else ""))
            case Close(code=code):
                words.append(f"close {code}")
            case Drop(index):
                words.append(f"drop {index}")
            case Release():
                words.append("release")
            case Halt():
                words.append("halt")
            case Amend(request):
                words.append(f"amend {request.type}")
    return words


def idle() -> Machine:
    return Machine()


def starting() -> Machine:
    machine = Machine()
    machine.start()
    return machine


def image_open() -> Machine:
    return Machine().open()


def image_in_work() -> Machine:
    machine = Machine().open()
    machine.frame()
    machine.take()
    return machine


def kept() -> Machine:
    machine = Machine().open(keep=True)
    machine.frame()
    machine.work()
    return machine


def live() -> Machine:
    return Machine().open("frames")


def live_in_work() -> Machine:
    machine = live()
    machine.frame()
    machine.take()
    return machine


def stopping() -> Machine:
    machine = live_in_work()
    machine.text("stop")
    return machine


def uploading() -> Machine:
    return Machine().open("file", size_bytes=10)


def file_in_work() -> Machine:
    machine = uploading()
    machine.chunk(0, 10, last=True)
    machine.work()
    assert machine.take() == "Process"
    return machine


def ended() -> Machine:
    machine = image_open()
    machine.frame()
    machine.work()
    return machine


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


def test_ready_tells_who_answers_and_what_holds() -> None:
    machine = Machine()
    machine.start(limits={"max_objects": 3}, request_id="s")
    machine.session.take()
    (effect,) = machine.session.ended(None)
    assert isinstance(effect, Send)
    ready = effect.message
    assert ready.type == "ready"
    assert (ready.request_id, ready.session_id, ready.limits.max_objects) == ("s", "the-session", 3)


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


def test_stop_while_the_picture_is_in_work_gives_one_done() -> None:
    machine = image_in_work()
    assert machine.text("stop", request_id="e") == []
    effects = machine.session.ended(RESULT)
    assert said(effects) == ["result 0", "done", "release"]
    assert isinstance(effects[1], Send)
    assert effects[1].message.request_id == "e"


@pytest.mark.parametrize("fields", [{"keep": True, "source": "frames"}, {"window": [5, 5]}, {"window": [9, 1]}])
def test_a_start_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    assert Machine().start(**fields) == ["error bad_message"]


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


# A file


def test_a_file_is_stored_piece_by_piece_then_processed() -> None:
    machine = Machine()
    machine.start("file", size_bytes=10, request_id="s")
    (effect,) = (machine.session.take(), machine.session.ended(None))[1]
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Ready)
    assert (effect.message.window_bytes, effect.message.chunk_bytes) == (WINDOW_BYTES, CHUNK_BYTES)
    assert machine.chunk(0, 4) == []
    assert machine.chunk(4, 6, last=True) == []
    work = machine.session.take()
    assert isinstance(work, Store)
    assert (work.chunk.header.offset, work.total_bytes) == (0, 4)
    (effect,) = machine.session.ended(None)
    assert isinstance(effect, Send)
    assert effect.message == Received(type="received", bytes=4)
    assert machine.work() == ["received"]
    assert machine.take() == "Process"
    progress = Progress(type="progress", frames=1, total=None, time_s=0.0, fps=1.0, eta_s=None)
    assert said(machine.session.report(progress)) == ["progress"]
    assert said(machine.session.emit(3, 0.5, RESULT)) == ["result 3"]
    file = FileFields(name="masks.jsonl", url="/v1/files/x/masks.jsonl", bytes=3, media_type="application/jsonl")
    done, release = machine.session.ended(Processed([file], ["cut off"]))
    assert isinstance(done, Send)
    assert done.message == Done(type="done", frames=1, dropped=0, files=[file], problems=["cut off"])
    assert isinstance(release, Release)
    assert machine.start() == []


def test_a_file_session_names_no_files_where_none_were_made() -> None:
    machine = uploading()
    (done, _) = machine.session.receive('{"type": "stop", "request_id": "e"}')
    assert isinstance(done, Send)
    assert done.message == Done(type="done", request_id="e", frames=0, dropped=0)


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([(1, 2, {})], "the next one is 0"),
        ([(0, 4, {}), (0, 4, {})], "the next one is 4"),
        ([(0, 4, {}), (5, 4, {})], "the next one is 4"),
        ([(0, 11, {})], "beyond its size_bytes"),
        ([(0, 4, {"last": True})], "the last chunk ends at 4"),
        ([(0, 0, {})], "without bytes"),
    ],
)
def test_a_file_that_is_not_what_was_announced_ends_its_session(pieces: list[Any], says: str) -> None:
    machine = uploading()
    for offset, length, header in pieces[:-1]:
        assert machine.chunk(offset, length, **header) == []
        assert machine.work() == ["received"]
    offset, length, header = pieces[-1]
    effects = machine.session.receive(pack({"type": "chunk", "offset": offset, **header}, bytes(length)))
    assert said(effects) == ["error bad_message", "done", "release"]
    assert isinstance(effects[0], Send)
    assert isinstance(effects[0].message, Failure)
    assert says in effects[0].message.message


def test_a_piece_that_is_too_long_or_too_early_ends_the_session() -> None:
    machine = Machine().open("file", size_bytes=WINDOW_BYTES + CHUNK_BYTES)
    assert machine.chunk(0, CHUNK_BYTES + 1) == ["error bad_message", "done", "release"]
    machine = Machine().open("file", size_bytes=WINDOW_BYTES + CHUNK_BYTES)
    for offset in range(0, WINDOW_BYTES, CHUNK_BYTES):
        assert machine.chunk(offset, CHUNK_BYTES) == []
    assert machine.take() == "Store"
    assert machine.chunk(WINDOW_BYTES, 1) == ["error bad_message"]
    assert machine.end() == ["done", "release"]


def test_pieces_behind_one_that_was_refused_are_passed_over_until_the_next_start() -> None:
    machine = uploading()
    assert machine.chunk(3, 1) == ["error bad_message", "done", "release"]
    assert machine.chunk(4, 1) == []
    machine.open("file", size_bytes=3)
    assert machine.chunk(0, 3) == []
    assert machine.work() == ["received"]
    assert machine.take() == "Process"


def test_a_piece_that_could_not_be_stored_ends_the_session() -> None:
    machine = uploading()
    machine.chunk(0, 4)
    machine.chunk(4, 6)
    assert machine.work(OverloadedError("the disk is full")) == ["error overloaded", "done", "release"]
    assert machine.take() is None


def test_pieces_behind_a_refused_start_are_passed_over() -> None:
    machine = Machine()
    machine.start("file", size_bytes=10)
    machine.chunk(0, 4)
    machine.prompt(request_id="p")
    assert machine.work(OverloadedError("full")) == ["error overloaded", "error bad_state p", "release"]
    assert machine.chunk(4, 4) == []


def test_prompts_before_the_last_piece_are_carried_out() -> None:
    machine = uploading()
    machine.prompt(time_s=0.5, request_id="p")
    machine.chunk(0, 10)
    assert machine.work() == ["ok"]
    assert machine.work() == ["received"]
    assert machine.take() == "Process"


def test_prompts_between_the_last_piece_and_the_turn_of_the_file_count_from_its_start() -> None:
    machine = uploading()
    machine.chunk(0, 10)
    assert machine.prompt(request_id="p") == []
    assert machine.work() == ["received"]
    assert machine.work() == ["ok"]
    assert machine.take() == "Process"


def test_what_comes_of_a_change_to_a_file_in_work_is_told() -> None:
    machine = file_in_work()
    request = PromptRequest(type="prompt", object_id=1, box_xyxy_px=[0, 0, 4, 4], request_id="p")
    assert said(machine.session.amended(request, None)) == ["ok"]
    assert said(machine.session.amended(request, BadStateError("done"))) == ["error bad_state p"]


def test_frames_that_are_told_again_do_not_count_again() -> None:
    machine = file_in_work()
    for index in (0, 1, 2, 1, 2, 3):
        assert said(machine.session.emit(index, 0.0, RESULT)) == [f"result {index}"]
    (send, _) = machine.session.ended(Processed([], []))
    assert isinstance(send, Send)
    assert isinstance(send.message, Done)
    assert send.message.frames == 4


def test_stop_halts_a_file_in_work_and_keeps_what_there_is() -> None:
    machine = file_in_work()
    assert machine.text("stop", request_id="e") == ["halt"]
    assert said(machine.session.emit(0, 0.0, RESULT)) == ["result 0"]
    assert machine.end(Processed([], [])) == ["done", "release"]


def test_stop_before_a_file_is_complete_gives_it_up() -> None:
    machine = uploading()
    machine.chunk(0, 4)
    assert machine.take() == "Store"
    assert machine.text("stop") == []
    assert machine.chunk(4, 6) == []
    assert machine.end() == ["done", "release"]


def test_stop_right_behind_the_start_of_a_file_still_gets_its_ready() -> None:
    machine = Machine()
    machine.start("file", size_bytes=10)
    machine.chunk(0, 10)
    machine.text("stop")
    assert machine.work() == ["ready", "done", "release"]


def test_a_file_that_cannot_be_processed_ends_its_session() -> None:
    machine = file_in_work()
    assert machine.end(UnsupportedMediaError("no video")) == ["error unsupported_media", "done", "release"]
    assert said(machine.session.emit(0, 0.0, RESULT)) == []


def test_large_pieces_do_not_count_as_messages_and_small_ones_do() -> None:
    machine = Machine(messages_per_s=2)
    machine.start("file", size_bytes=40 * CHUNK_BYTES)
    machine.work()
    for piece in range(20):
        assert machine.chunk(piece * CHUNK_BYTES, CHUNK_BYTES) == []
        assert machine.work() == ["received"]
    words = []
    for byte in range(5):
        words += machine.chunk(20 * CHUNK_BYTES + byte, 1)
    assert words == ["error rate_limited", "close 1008"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"source": "file"}, "bad_message"),
        ({"source": "file", "size_bytes": 0}, "bad_message"),
        ({"source": "file", "size_bytes": 101 * CHUNK_BYTES}, "too_large"),
        ({"source": "file", "size_bytes": 1, "masks": "png"}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "overlay": True}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "keep": True}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "sampling": {"fps": 2.0, "every": 3}}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "sampling": {"fps": 0}}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "sampling": {"start_s": 2.0, "end_s": 1.0}}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "video": {"container": "avi"}}, "bad_message"),
        ({"source": "file", "size_bytes": 1, "prompts": [{"object_id": 1, "frame": 1, "time_s": 1.0}]}, "bad_message"),
        ({"source": "frames", "size_bytes": 1}, "bad_message"),
        ({"source": "image", "video": None}, "bad_message"),
        ({"source": "image", "prompts": [{"object_id": 1, "time_s": 1.0}]}, "bad_message"),
    ],
)
def test_a_start_of_a_file_that_cannot_be_meant_is_refused(fields: dict[str, Any], code: str) -> None:
    assert Machine().start(**fields) == [f"error {code}"]


def test_pieces_and_moments_are_for_files_only() -> None:
    assert image_open().chunk(0, 1) == ["error bad_state"]
    assert live().prompt(time_s=1.0) == ["error bad_message"]
    assert uploading().prompt(time_s=1.0, frame=3) == ["error bad_message"]
