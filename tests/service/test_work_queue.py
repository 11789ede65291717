"""The order in which a session does what it was asked for."""

from __future__ import annotations

import pytest

from streamseg.errors import OverloadedError
from streamseg.service.effects import Change, Open, Process, Segment, Work
from streamseg.service.protocol.client_messages import FrameHeader, FrameMessage, Reset, Start
from streamseg.service.work_queue import MAX_WAITING, WorkQueue

OPEN = Open(Start(type="start", version=1, source="frames"))
CHANGE = Change(Reset(type="reset"), 0)


def frame(index: int) -> Segment:
    return Segment(FrameMessage(FrameHeader(type="frame"), b""), index, 0.0)


def queue(*works: Work, newest_wins: bool = True) -> WorkQueue:
    made = WorkQueue(newest_wins=newest_wins)
    for work in works:
        made.put(work)
    return made


def test_one_work_is_under_way_until_it_has_ended() -> None:
    works = queue(OPEN, CHANGE)
    assert works.take() is OPEN
    assert works.take() is None
    assert works.end() is OPEN
    assert works.take() is CHANGE
    assert works.waiting == ()
    assert works.busy
    assert works.end() is CHANGE
    assert works.end() is None
    assert not works.busy


def test_the_newest_frame_takes_the_place_of_one_that_waits() -> None:
    works = queue(OPEN)
    first, second = frame(0), frame(1)
    assert works.put_frame(first) is None
    assert works.put_frame(second) is first
    assert works.waiting == (OPEN, second)


def test_where_every_frame_counts_all_wait() -> None:
    works = queue(frame(0), newest_wins=False)
    assert works.put_frame(frame(1)) is None
    works.put_early(CHANGE)
    assert works.waiting == (frame(0), frame(1), CHANGE)


@pytest.mark.parametrize("shows_it", [frame(0), Process()])
def test_a_change_comes_before_what_should_show_it(shows_it: Work) -> None:
    works = queue(OPEN, shows_it)
    works.put_early(CHANGE)
    assert works.waiting == (OPEN, CHANGE, shows_it)


def test_the_line_is_bounded() -> None:
    works = queue(*[CHANGE] * (MAX_WAITING - 1))
    works.check_room()
    works.put(CHANGE)
    with pytest.raises(OverloadedError):
        works.check_room()


def test_who_gives_up_still_answers_the_start() -> None:
    works = queue(OPEN, CHANGE, frame(0))
    works.give_up()
    assert works.waiting == (OPEN,)
