"""The session machine with a file."""

from __future__ import annotations

from typing import Any

import pytest
from session_machine import RESULT, Machine, file_in_work, image_open, live, said, uploading
from wire_client import pack

from streamseg.errors import BadStateError, OverloadedError, UnsupportedMediaError
from streamseg.service.effects import Outcome, Processed, Release, Send, Store
from streamseg.service.protocol.client_messages import CHUNK_BYTES, WINDOW_BYTES, PromptRequest
from streamseg.service.protocol.server_messages import Done, Failure, FileFields, Progress, Ready, Received


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


@pytest.mark.parametrize(
    ("outcome", "says"), [(Processed([], []), []), (UnsupportedMediaError("broken"), ["error unsupported_media"])]
)
def test_a_change_that_came_before_the_file_ended_is_answered_before_the_session_is(
    outcome: Outcome, says: list[str]
) -> None:
    machine = file_in_work()
    requests = [PromptRequest(type="prompt", object_id=1, box_xyxy_px=[0, 0, 4, 4], request_id=one) for one in "pq"]
    for one in requests:
        assert machine.prompt(box_xyxy_px=[0, 0, 4, 4], request_id=one.request_id) == ["amend prompt"]
    assert machine.end(outcome) == says
    assert machine.prompt(request_id="late") == ["error bad_state late"]
    late = BadStateError("the file has been processed")
    assert said(machine.session.amended(requests[0], late)) == ["error bad_state p"]
    assert said(machine.session.amended(requests[1], late)) == ["error bad_state q", "done", "release"]
    assert machine.start() == []


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
