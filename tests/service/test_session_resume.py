"""The session machine whose client comes back over another connection."""

from __future__ import annotations

from typing import Any

import pytest
from session_machine import RESULT, Machine, said

from streamseg.errors import NotFoundError
from streamseg.service.effects import Rejoin, Segment, Send
from streamseg.service.protocol.client_messages import Resume
from streamseg.service.protocol.server_messages import Resumed

REQUEST = Resume(type="resume", version=1, session_id="the-session", request_id="back")


def resume(machine: Machine, answered: tuple[str, ...] = ()) -> Resumed:
    """What the client is told first."""
    (effect,) = machine.session.resumed(REQUEST, (3, 1), answered)
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Resumed)
    return effect.message


def test_a_client_that_comes_back_asks_for_its_session() -> None:
    machine = Machine()
    (effect,) = machine.session.handle(REQUEST)
    assert effect == Rejoin(REQUEST)
    assert machine.session.take() is None


@pytest.mark.parametrize("source", ["frames", "image"])
def test_who_has_a_session_goes_on_with_no_other(source: str) -> None:
    machine = Machine().open(source)
    assert machine.text("resume", version=1, session_id="another") == ["error bad_state"]
    assert Machine().text("resume", version=2, session_id="another") == ["error unsupported_version"]


@pytest.mark.parametrize("fields", [{}, {"session_id": ""}, {"session_id": "a" * 65}, {"session_id": 1}])
def test_a_session_is_named_by_a_text(fields: dict[str, Any]) -> None:
    assert Machine().text("resume", version=1, **fields) == ["error bad_message"]


def test_a_live_session_can_go_on_from_ready_until_stop() -> None:
    machine = Machine()
    assert machine.session.resumable_id is None
    machine.start("frames")
    assert machine.session.resumable_id is None
    machine.work()
    assert machine.session.resumable_id == "the-session"
    machine.frame()
    machine.take()
    machine.text("stop")
    assert machine.session.resumable_id is None
    assert machine.end(RESULT) == ["result 0", "done", "release"]
    assert machine.session.resumable_id is None


def test_what_ends_with_its_connection_cannot_go_on() -> None:
    assert Machine().open("image", keep=True).session.resumable_id is None
    machine = Machine().open("file", size_bytes=1)
    assert machine.session.resumable_id is None
    machine = Machine().open("frames")
    machine.session.close(1008, "a rule was broken")
    assert machine.session.resumable_id is None


def test_it_is_told_where_the_session_stands() -> None:
    machine = Machine().open("frames", request_id="s")
    told = resume(machine)
    assert (told.session_id, told.request_id, told.resumed) == ("the-session", "back", True)
    assert (told.newest_index, told.object_ids, told.received) == (None, [3, 1], [])
    machine.frame(index=7)
    machine.work()
    machine.frame(request_id="f")
    assert resume(machine).newest_index == 8


def test_it_is_told_which_requests_arrived() -> None:
    machine = Machine().open("frames")
    machine.prompt(request_id="a")
    machine.work(NotFoundError("done"))
    machine.prompt(request_id="b")
    machine.take()
    machine.prompt()
    machine.frame(request_id="f")
    machine.text("remove", object_id=1, request_id="c")
    assert resume(machine, answered=("a",)).received == ["a", "b", "c", "f"]
    # What was waiting is done, in its order.
    assert [*machine.end(), *machine.work(), *machine.work(), *machine.work()] == ["ok", "ok", "ok", "result 0 f"]


def test_frames_are_counted_on() -> None:
    machine = Machine().open("frames")
    machine.frame()
    machine.work()
    machine.clock.now += 5
    resume(machine)
    assert machine.frame(index=0) == ["error bad_message"]
    machine.frame()
    work = machine.session.take()
    assert isinstance(work, Segment)
    assert work.time_s == 5.0
    assert machine.end(RESULT) == ["result 1"]
    machine.text("stop")
    assert said(machine.session.ended(None)) == []
