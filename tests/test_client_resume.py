"""Streams of the Python client whose connection breaks, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamseg.client import AsyncClient, Client
from streamseg.client.live import AsyncStream
from streamseg.errors import BadPromptError, CancelledWorkError, ConnectionLostError, NotFoundError, SessionGoneError
from streamseg.segmentation.prompts import Prompt

if TYPE_CHECKING:
    from streamseg.client.opened import Stream
    from streamseg.client.wire import RemoteResult
    from streamseg.models.build import LoadedModel
    from streamseg.service.server import Server

WIDTH, HEIGHT = 160, 120
CLICK = Prompt(object_id=5, points_xy_px=[(34, 60)], labels=[1])


def moving(index: int) -> np.ndarray[Any, Any]:
    """A square on its way to the right: uint8 (120, 160, 3)."""
    rgb = np.full((HEIGHT, WIDTH, 3), 30, dtype=np.uint8)
    left = 20 + 8 * index
    rgb[45:75, left : left + 30] = (240, 90, 30)
    return rgb


def cut(stream: Stream | AsyncStream) -> None:
    """Break its connection as a failing network does, without a goodbye."""
    inner = stream if isinstance(stream, AsyncStream) else stream._remote
    socket = inner._connection._connection._socket
    socket.loop.call_soon_threadsafe(socket.transport.abort)


def masks(result: RemoteResult) -> list[Any]:
    return [(one.object_id, one.state, one.score, one.region.to_rle()) for one in result.objects]


class Relay:
    """Stands between client and server, and can be cut."""

    def __init__(self, port: int) -> None:
        self.to_port = port
        self.port = 0
        self.refused = asyncio.Event()
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
            self.down()
            await listening.wait_closed()

    def down(self) -> None:
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def up(self) -> None:
        self._up = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            self.refused.set()
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def test_a_stream_that_is_cut_again_and_again_gives_the_masks_of_one_that_is_not(client: Client) -> None:
    with client.stream(prompts=[CLICK]) as stream:
        expected = [masks(stream.segment(moving(index))) for index in range(10)]
    got = []
    with client.stream(prompts=[CLICK]) as stream:
        for index in range(10):
            if index in (3, 4, 7):
                cut(stream)
            got.append(masks(stream.segment(moving(index))))
        assert stream.poll() == []
        stream.stop()
        assert list(stream) == []
    assert got == expected


def test_a_stream_that_is_cut_while_a_frame_is_in_work_gets_its_result(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client, await client.stream(prompts=[CLICK]) as stream:
            for index in range(12):
                waiting = asyncio.create_task(stream.segment(moving(index % 5)))
                # From before the frame leaves until after its result is there.
                await asyncio.sleep(0.01 * index)
                cut(stream)
                result = await waiting
                assert (result.index, [one.object_id for one in result.objects]) == (index, [5])
            assert stream.poll() == []

    asyncio.run(run())


def test_requests_wait_for_the_connection_and_frames_give_way_to_newer_ones(server: Server) -> None:
    async def run() -> None:
        async with (
            Relay(server.port).running() as relay,
            AsyncClient(f"127.0.0.1:{relay.port}") as client,
            await client.stream(prompts=[CLICK]) as stream,
        ):
            await stream.segment(moving(0))
            relay.down()
            asked = [
                asyncio.create_task(one)
                for one in (
                    stream.prompt(Prompt(object_id=6, box_xyxy_px=(20, 45, 50, 75))),
                    stream.prompt(Prompt(object_id=7, points_xy_px=[(999, 0)], labels=[1])),
                    stream.remove(5),
                    stream.remove(8),
                )
            ]
            await asyncio.sleep(0)
            # It returns at once, as ever.
            assert [await stream.send(moving(0)) for _ in range(5)] == [1, 2, 3, 4, 5]
            await relay.refused.wait()
            assert not any(one.done() for one in asked)
            relay.up()
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(one) for one in outcomes] == [type(None), BadPromptError, type(None), NotFoundError]
            result = await anext(stream)
            assert (result.index, [one.object_id for one in result.objects]) == (5, [6])
            await stream.undo()

    asyncio.run(run())


def test_a_session_that_has_ended_is_said_to_be_gone(model: LoadedModel) -> None:
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    settings = load_settings(None, {"port": 0})

    async def run() -> None:
        with Server(settings, model) as first, Server(settings, model) as second:
            async with (
                Relay(first.port).running() as relay,
                AsyncClient(f"127.0.0.1:{relay.port}") as client,
                await client.stream(prompts=[CLICK]) as stream,
            ):
                await stream.segment(moving(0))
                relay.to_port = second.port
                relay.down()
                waiting = asyncio.create_task(stream.segment(moving(1)))
                await asyncio.sleep(0)
                relay.up()
                for failing in (waiting, stream.send(moving(2)), anext(stream), stream.undo()):
                    with pytest.raises(SessionGoneError, match="since"):
                        await failing

    asyncio.run(run())


def test_a_way_back_is_looked_for_as_long_as_the_session_is_kept(model: LoadedModel) -> None:
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    async def run() -> None:
        with Server(load_settings(None, {"port": 0, "limits": {"resume_s": 0.6}}), model) as server:
            async with (
                Relay(server.port).running() as relay,
                AsyncClient(f"127.0.0.1:{relay.port}") as client,
                await client.stream(prompts=[CLICK]) as stream,
            ):
                relay.down()
                with pytest.raises(ConnectionLostError, match=r"no way back was found within 0\.6 s"):
                    await anext(stream)

    asyncio.run(run())


def test_who_wants_no_reconnect_hears_of_a_broken_connection(server: Server) -> None:
    with Client(server.url, reconnect=False) as client, client.stream(prompts=[CLICK]) as stream:
        stream.segment(moving(0))
        cut(stream)
        with pytest.raises(ConnectionLostError, match="broke"):
            next(stream)


def test_a_stream_is_closed_while_it_looks_for_a_way_back(server: Server) -> None:
    async def run() -> None:
        async with Relay(server.port).running() as relay, AsyncClient(f"127.0.0.1:{relay.port}") as client:
            stream = await client.stream(prompts=[CLICK])
            relay.down()
            await relay.refused.wait()
            await stream.close()
            with pytest.raises(CancelledWorkError):
                await stream.send(moving(0))

    asyncio.run(run())
