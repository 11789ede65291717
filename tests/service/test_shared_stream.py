"""A stream that several look at, without a network: pictures made here, the real engine, the nano model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from streamseg.engine import Engine
from streamseg.errors import BadStateError, ObjectTakenError, OverloadedError, StreamsegError, UnsupportedMediaError
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.pipeline import StreamOptions
from streamseg.segmentation.masks import FrameResult
from streamseg.service.protocol.client_messages import PromptFields, PromptRequest, Reset, Undo
from streamseg.service.shared_stream import MOST_CHANGES, MOST_CHANGES_STILL, SharedStream, SourceState
from streamseg.settings import Limits

BOX = {"box_xyxy_px": [20, 20, 60, 60]}


@dataclass(frozen=True)
class Square:
    """A picture of the source; one that is ``broken`` cannot be unpacked."""

    broken: bool = False
    time_s: float = 0.0

    def frame(self, index: int) -> Frame:
        if self.broken:
            raise UnsupportedMediaError("a kind of pixels that cannot be converted")
        rgb = np.full((80, 100, 3), 20, dtype=np.uint8)
        rgb[20:60, 20:60] = (240, 90, 30)
        return Frame(rgb, index, self.time_s)


@dataclass(eq=False)
class Looker:
    """Takes down what it is told."""

    told: list[Any] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    has_room: bool = True

    def encode(self, frame: Frame, result: FrameResult) -> list[int]:
        return [one.object_id for one in result.objects]

    def show(self, frame_index: int, time_s: float, shown: list[int]) -> None:
        self._take(shown)

    def rejected(self, tag: str | None, error: StreamsegError, frame_index: int) -> None:
        self._take((error.code, tag))

    def source_changed(self, state: SourceState, why: str) -> None:
        self._take((state, why))

    def failed(self, error: StreamsegError, frame_index: int) -> None:
        self._take((error.code, frame_index))

    def _take(self, what: Any) -> None:
        self.told.append(what)
        self.news.set()

    async def hears(self, what: Any) -> None:
        """Wait until it was told that; pictures come meanwhile if somebody makes them."""
        async with asyncio.timeout(60):
            while what not in self.told:
                self.news.clear()
                await self.news.wait()


def with_stream(model: LoadedModel, go: Callable[[SharedStream], Awaitable[None]]) -> None:
    engine = Engine(model, 8)

    async def run() -> None:
        stream = SharedStream("door", engine, StreamOptions(mode="track"), Limits())
        try:
            await go(stream)
        finally:
            stream.close("the test is over")

    try:
        asyncio.run(run())
    finally:
        engine.close()


def prompt(object_id: int, **fields: Any) -> PromptRequest:
    return PromptRequest(type="prompt", object_id=object_id, **{**BOX, **fields})


UNDO = Undo(type="undo")


def test_each_takes_back_what_they_said_and_a_reset_is_for_all(model: LoadedModel) -> None:
    async def go(stream: SharedStream) -> None:
        one, other = Looker(), Looker()
        for looker in (one, other):
            stream.enter(looker)
        await stream.prompt(one, PromptFields(object_id=1, **BOX), None)
        await stream.change(other, prompt(2), 0)
        await stream.change(one, UNDO, 0)
        assert stream.object_ids == (2,)
        stream.take(Square())
        await other.hears([2])
        with pytest.raises(BadStateError, match="no prompt left to take back"):
            await stream.change(one, UNDO, 0)
        # Whoever comes again is somebody else.
        stream.leave(other)
        stream.enter(other)
        stream.take(Square())
        with pytest.raises(BadStateError):
            await stream.change(other, UNDO, 0)
        await stream.change(other, prompt(3), 0)
        await stream.change(one, Reset(type="reset"), 0)
        assert stream.object_ids == ()
        stream.take(Square())
        await one.hears([])
        with pytest.raises(BadStateError):
            await stream.change(other, UNDO, 0)

    with_stream(model, go)


def test_a_new_object_does_not_become_a_correction_of_another_one_s(model: LoadedModel) -> None:
    async def go(stream: SharedStream) -> None:
        one, other = Looker(), Looker()
        await stream.change(one, prompt(5, own=True), 0)
        with pytest.raises(ObjectTakenError):
            await stream.change(other, prompt(5, own=True), 0)
        await stream.change(other, prompt(6, own=True), 0)
        # Said as meant it is a correction, as ever.
        await stream.change(other, prompt(5), 0)
        assert stream.object_ids == (5, 6)

    with_stream(model, go)


def test_a_picture_takes_so_many_changes_and_all_viewers_have_their_turn(model: LoadedModel) -> None:
    async def go(stream: SharedStream) -> None:
        loud, quiet = Looker(), Looker()
        served: list[Looker] = []

        async def say(looker: Looker, often: int) -> None:
            for number in range(often):
                await stream.change(looker, prompt(10 + number), 0)
                served.append(looker)

        stream.take(Square())
        await asyncio.sleep(0)
        flood = asyncio.create_task(say(loud, 3 * MOST_CHANGES))
        await asyncio.sleep(0)
        click = asyncio.create_task(say(quiet, 1))
        await asyncio.sleep(0.05)
        assert len(served) <= 2 * MOST_CHANGES
        while not (flood.done() and click.done()):
            before = len(served)
            stream.take(Square())
            await asyncio.sleep(0.02)
            assert len(served) - before <= MOST_CHANGES
        await asyncio.gather(flood, click)
        assert served.index(quiet) <= 2 * MOST_CHANGES

    with_stream(model, go)


def test_without_pictures_too_many_changes_are_refused_and_after_the_end_all(model: LoadedModel) -> None:
    async def go(stream: SharedStream) -> None:
        looker = Looker()
        for number in range(MOST_CHANGES_STILL):
            await stream.change(looker, prompt(number), 0)
        with pytest.raises(OverloadedError, match="the stream has no pictures now"):
            await stream.change(looker, prompt(99), 0)
        stream.take(Square())
        await asyncio.sleep(0)
        for number in range(MOST_CHANGES):
            await stream.change(looker, prompt(number), 0)
        waiting = asyncio.create_task(stream.change(looker, prompt(99), 0))
        await asyncio.sleep(0)
        stream.tell("lost", "no answer")
        with pytest.raises(OverloadedError):
            await waiting
        stream.tell("ended", "the stream is over")
        with pytest.raises(BadStateError, match="the stream is over"):
            await stream.change(looker, prompt(1), 0)

    with_stream(model, go)


def test_who_comes_later_hears_how_the_stream_is_and_why_its_frames_fail(model: LoadedModel) -> None:
    async def go(stream: SharedStream) -> None:
        first = Looker()
        stream.enter(first)
        for _ in range(2):
            stream.take(Square(broken=True))
            await first.hears(("unsupported_media", 0))
        assert [one for one in first.told if one[0] == "unsupported_media"] == [("unsupported_media", 0)]
        second = Looker()
        stream.enter(second)
        assert second.told == [("live", ""), ("unsupported_media", 0)]
        stream.take(Square())
        await first.hears([])
        third = Looker()
        stream.enter(third)
        assert third.told == [("live", "")]
        stream.tell("lost", "no answer")
        stream.enter(fourth := Looker())
        assert fourth.told == [("lost", "no answer")]

    with_stream(model, go)
