"""Connections that break, on a real server: who comes back in time goes on with the same objects."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from peer_client import LOOPBACK, open_peer
from PIL import Image
from websockets.exceptions import InvalidStatus
from wire_client import CLICK, Wire, check, closing_of, eventually, frees_everything, metric, open_wire, picture

from streamseg.models.build import LoadedModel
from streamseg.pipeline import Pipeline
from streamseg.service.server import Server

WIDTH, HEIGHT = 160, 120
ON_SQUARE = {"object_id": 5, "points_xy_px": [[34, 60]], "labels": [1]}
GONE_FROM, GONE_TO = 5, 6
COUNT = 10


def moving(index: int) -> bytes:
    """A square on its way to the right, which is hidden on two of the pictures."""
    rgb = np.full((HEIGHT, WIDTH, 3), 30, dtype=np.uint8)
    if not GONE_FROM <= index <= GONE_TO:
        left = 20 + 8 * index
        rgb[45:75, left : left + 30] = (240, 90, 30)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def coming_back_for(session_id: str, *more: str) -> dict[str, Any]:
    """How a handshake names the session, whose place it then has."""
    return {"subprotocols": ["streamseg.v1", f"streamseg.session.{session_id}", *more]}


async def resume(wire: Wire, session_id: str) -> dict[str, Any]:
    await wire.text(type="resume", version=1, session_id=session_id, request_id="back")
    told = await wire.expect("ready")
    check(told)
    assert (told["session_id"], told["resumed"], told["request_id"]) == (session_id, True, "back")
    return told


async def assert_session_gone(server: Server, session_id: str) -> None:
    async with open_wire(server) as wire:
        await wire.text(type="resume", version=1, session_id=session_id)
        await wire.expect("error", "session_gone")


def kept(server: Server) -> float:
    return metric(server, "sessions_kept")


async def break_off(server: Server, wire: Wire) -> None:
    """End the connection as a failing network does."""
    before = kept(server)
    wire.socket.transport.abort()
    assert await asyncio.to_thread(eventually, lambda: kept(server) == before + 1)


async def result_of(wire: Wire, index: int, send: bool = True) -> list[dict[str, Any]]:
    """The objects on that picture."""
    if send:
        await wire.frame(moving(index), index=index, time_s=0.1 * index)
    got = await wire.expect("result")
    assert got["index"] == index
    return got["objects"]


@contextlib.contextmanager
def busy_model(server: Server) -> Iterator[None]:
    """Until the end the model does nothing for anybody."""
    free = threading.Event()

    class Wait:
        def run(self, _model: LoadedModel) -> None:
            free.wait(60)

    server.app.state.service.engine.submit(Wait(), "a test")
    try:
        yield
    finally:
        free.set()


@contextlib.asynccontextmanager
async def live(server: Server, **fields: Any) -> AsyncIterator[tuple[Wire, str]]:
    """A live session, and its id."""
    async with open_wire(server) as wire:
        await wire.start("frames", **fields)
        yield wire, (await wire.expect("ready"))["session_id"]


async def uninterrupted(server: Server, **fields: Any) -> list[Any]:
    async with live(server, prompts=[ON_SQUARE], **fields) as (wire, _):
        return [await result_of(wire, index) for index in range(COUNT)]


def pipeline_of(server: Server, session_id: str) -> weakref.ref[Pipeline]:
    entry = server.app.state.service.registry._find(session_id)
    return weakref.ref(entry.session._opened._pipeline)


def is_gone(one: weakref.ref[Pipeline]) -> bool:
    gc.collect()
    return one() is None


@pytest.mark.parametrize("mode", ["track", "image"])
def test_a_session_that_was_interrupted_gives_the_masks_of_one_that_was_not(server: Server, mode: str) -> None:
    async def go() -> None:
        expected = await uninterrupted(server, mode=mode)
        if mode == "track":
            states = [objects[0]["state"] for objects in expected]
            assert states[GONE_FROM] == states[GONE_TO] == "lost"
            assert states[-1] == "tracked", "it is found again by what is remembered of it"
        got = []
        async with live(server, prompts=[ON_SQUARE], mode=mode) as (wire, session_id):
            got += [await result_of(wire, index) for index in range(3)]
            await break_off(server, wire)
        # Again while the object cannot be seen: nothing but the tracker's memory has it then.
        async with open_wire(server) as wire:
            told = await resume(wire, session_id)
            assert (told["newest_index"], told["object_ids"], told["received"]) == (2, [5], [])
            assert await result_of(wire, 2, send=False) == expected[2], "the newest result comes once more"
            got += [await result_of(wire, index) for index in range(3, GONE_TO + 1)]
            await break_off(server, wire)
        async with open_wire(server) as wire:
            await resume(wire, session_id)
            await result_of(wire, GONE_TO, send=False)
            got += [await result_of(wire, index) for index in range(GONE_TO + 1, COUNT)]
            await wire.text(type="stop")
            done = await wire.expect("done")
            assert (done["frames"], done["dropped"]) == (COUNT, 0)
        assert got == expected

    asyncio.run(go())
    assert frees_everything(server)


@pytest.mark.parametrize("back", ["before", "after"])
def test_a_frame_in_work_is_finished_though_its_connection_broke(server: Server, back: str) -> None:
    """Its result comes over the next connection, whether it is there before or after the client is back."""

    async def go() -> None:
        expected = await uninterrupted(server, mode="track")
        async with live(server, prompts=[ON_SQUARE], mode="track") as (wire, session_id):
            got = [await result_of(wire, index) for index in range(3)]
            frames = metric(server, "frames_total")
            with busy_model(server):
                await wire.frame(moving(3), index=3, time_s=0.3)
                assert await asyncio.to_thread(eventually, lambda: server.app.state.service.engine.depth == 1)
                await break_off(server, wire)
                if back == "before":
                    async with open_wire(server) as again:
                        assert (await resume(again, session_id))["newest_index"] == 3
                        await result_of(again, 2, send=False)
                        await break_off(server, again)
            assert await asyncio.to_thread(eventually, lambda: metric(server, "frames_total") == frames + 1)
            async with open_wire(server) as again:
                assert (await resume(again, session_id))["newest_index"] == 3
                got.append(await result_of(again, 3, send=False))
                got += [await result_of(again, index) for index in range(4, COUNT)]
        assert got == expected

    asyncio.run(go())
    assert frees_everything(server)


def test_requests_that_arrived_are_carried_out_once_and_answered(server: Server) -> None:
    async def go() -> None:
        async with live(server, mode="track") as (wire, session_id):
            await result_of(wire, 0)
            await wire.text(type="remove", object_id=9, request_id="1")
            await wire.expect("error", "not_found")
            with busy_model(server):
                await wire.frame(moving(1), index=1)
                assert await asyncio.to_thread(eventually, lambda: server.app.state.service.engine.depth == 1)
                await wire.text(type="prompt", request_id="2", **ON_SQUARE)
                await wire.text(type="prompt", request_id="3", **ON_SQUARE | {"object_id": 6})
                await wire.text(type="remove", object_id=5, request_id="4")
                # What comes after it in the same connection is received once this is answered.
                await wire.text(type="bad", request_id="5")
                await wire.expect("error", "bad_message")
                await break_off(server, wire)
            async with open_wire(server) as again:
                told = await resume(again, session_id)
                assert sorted(told["received"]) == ["1", "2", "3", "4", "5"]
                answers = []
                while len(answers) < 5:
                    got = await again.next()
                    if got["type"] != "result":
                        answers.append((got["request_id"], got["type"]))
                assert answers == [("1", "error"), ("5", "error"), ("2", "ok"), ("3", "ok"), ("4", "ok")]
                await again.frame(moving(2), index=2)
                got = (await again.until("result"))[-1]
                while got["index"] < 2:
                    got = (await again.until("result"))[-1]
                assert [one["object_id"] for one in got["objects"]] == [6]
                await again.text(type="undo", request_id="6")
                await again.expect("ok")

    asyncio.run(go())
    assert frees_everything(server)


def test_a_session_is_taken_from_a_connection_that_only_looks_alive(server: Server) -> None:
    async def go() -> None:
        async with live(server, prompts=[ON_SQUARE]) as (wire, session_id):
            await result_of(wire, 0)
            async with open_wire(server) as again:
                assert (await resume(again, session_id))["newest_index"] == 0
                assert await closing_of(wire.next()) == (4001, "resumed elsewhere")
                await result_of(again, 0, send=False)
                assert len(await result_of(again, 1)) == 1
                await again.text(type="stop")
                await again.expect("done")

    asyncio.run(go())
    assert frees_everything(server)
    assert kept(server) == 0


def test_a_session_that_is_not_there_can_be_started_anew_on_the_same_connection(server: Server) -> None:
    async def gone(wire: Wire, session_id: str) -> None:
        await wire.text(type="resume", version=1, session_id=session_id, request_id="back")
        got = await wire.expect("error", "session_gone")
        assert got["request_id"] == "back"

    async def go() -> None:
        # Stopped, left with a goodbye, of one picture, never heard of: none of these is kept.
        async with live(server) as (wire, stopped):
            await wire.text(type="stop")
            await wire.expect("done")
            await gone(wire, stopped)
        async with live(server) as (_, left):
            pass
        async with open_wire(server) as wire:
            await wire.start(keep=True, prompts=[CLICK])
            one_picture = (await wire.expect("ready"))["session_id"]
            wire.socket.transport.abort()
        assert await asyncio.to_thread(frees_everything, server)
        async with open_wire(server) as wire:
            for session_id in (stopped, left, one_picture, "0" * 32, "\N{SNOWMAN}"):
                await gone(wire, session_id)
            await wire.segment()
            await wire.start("frames", prompts=[ON_SQUARE])
            session_id = (await wire.expect("ready"))["session_id"]
            await wire.text(type="resume", version=1, session_id=session_id)
            await wire.expect("error", "bad_state")
            assert len(await result_of(wire, 0)) == 1

    asyncio.run(go())
    assert frees_everything(server)


def test_a_session_is_freed_when_nobody_comes_back(make_server: Callable[..., Server]) -> None:
    server = make_server({"resume_s": 0.3})

    async def go() -> tuple[str, weakref.ref[Pipeline]]:
        async with live(server, prompts=[ON_SQUARE], mode="track") as (wire, session_id):
            await result_of(wire, 0)
            pipeline = pipeline_of(server, session_id)
            await wire.frame(moving(1))
            await break_off(server, wire)
            return session_id, pipeline

    session_id, pipeline = asyncio.run(go())
    assert frees_everything(server)
    assert kept(server) == 0
    assert eventually(lambda: is_gone(pipeline))

    asyncio.run(assert_session_gone(server, session_id))


def test_sessions_are_kept_only_where_that_is_wanted(make_server: Callable[..., Server]) -> None:
    server = make_server({"resume_s": 0})

    async def go() -> str:
        async with open_wire(server) as wire:
            await wire.start("frames")
            ready = await wire.expect("ready")
            assert ready["limits"]["resume_s"] == 0
            wire.socket.transport.abort()
            return ready["session_id"]

    session_id = asyncio.run(go())
    assert frees_everything(server)

    asyncio.run(assert_session_gone(server, session_id))


def test_the_token_is_asked_for_as_ever(make_server: Callable[..., Server]) -> None:
    server = make_server(token="right")
    allowed = {"additional_headers": {"Authorization": "Bearer right"}}

    async def go() -> None:
        async with open_wire(server, **allowed) as wire:
            await wire.start("frames", prompts=[ON_SQUARE])
            session_id = (await wire.expect("ready"))["session_id"]
            await break_off(server, wire)
        for refused in ({}, coming_back_for(session_id)):
            with pytest.raises(InvalidStatus) as caught:
                async with open_wire(server, **refused):
                    pass
            assert caught.value.response.status_code == 401
        async with open_wire(server, **allowed, **coming_back_for(session_id)) as wire:
            assert (await resume(wire, session_id))["object_ids"] == [5]

    asyncio.run(go())
    assert frees_everything(server)


def test_neither_token_nor_id_is_ever_logged(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(token="a-secret", log_level="debug")
    allowed = {"additional_headers": {"Authorization": "Bearer a-secret"}, "logger": logging.getLogger("the client's")}
    logging.getLogger("the client's").setLevel(logging.ERROR)

    async def go() -> str:
        async with open_wire(server, **allowed) as wire:
            await wire.start("frames")
            session_id = (await wire.expect("ready"))["session_id"]
            await break_off(server, wire)
        async with open_wire(server, **allowed, **coming_back_for(session_id)) as wire:
            await resume(wire, session_id)
        async with open_wire(server, **allowed) as wire:
            await wire.text(type="resume", version=1, session_id=session_id + "0")
            await wire.expect("error", "session_gone")
        return session_id

    with caplog.at_level(logging.DEBUG):
        session_id = asyncio.run(go())
        assert frees_everything(server)
    assert caplog.text
    assert "a-secret" not in caplog.text
    assert session_id[:6] not in caplog.text


def test_a_client_finds_back_to_its_own_place_on_a_full_server(make_server: Callable[..., Server]) -> None:
    server = make_server({"max_sessions": 1})

    async def refused(**options: Any) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with open_wire(server, **options):
                pass
        assert caught.value.response.status_code == 503

    async def go() -> None:
        async with live(server, prompts=[ON_SQUARE]) as (wire, session_id):
            await break_off(server, wire)
        await refused()
        await refused(**coming_back_for("0" * 32))
        async with open_wire(server, **coming_back_for(session_id)) as wire:
            assert wire.socket.subprotocol == "streamseg.v1"
            await resume(wire, session_id)
            assert kept(server) == 0
            await refused()
            # The same from a connection that still looks alive.
            async with open_wire(server, **coming_back_for(session_id)) as again:
                # It has no place for another session.
                await again.start()
                assert (await again.expect("error", "overloaded"))["retry_after_s"] > 0
                await resume(again, session_id)
                assert len(await result_of(again, 0)) == 1
                await refused()
        assert await asyncio.to_thread(frees_everything, server)
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(go())


def test_many_broken_connections_take_no_more_than_the_places_that_there_are(
    make_server: Callable[..., Server],
) -> None:
    server = make_server({"max_sessions": 3, "resume_s": 2.0})
    pipelines: list[weakref.ref[Pipeline]] = []
    refusals: list[int] = []

    async def once() -> None:
        async with live(server, prompts=[ON_SQUARE], mode="track") as (wire, session_id):
            await result_of(wire, 0)
            pipelines.append(pipeline_of(server, session_id))
            wire.socket.transport.abort()

    for _ in range(12):
        try:
            asyncio.run(once())
        except InvalidStatus as refused:
            refusals.append(refused.response.status_code)
        assert kept(server) <= 3
    assert set(refusals) == {503}
    assert len(pipelines) >= 3
    assert frees_everything(server)
    assert eventually(lambda: all(is_gone(one) for one in pipelines))
    service = server.app.state.service
    assert (service.registry._entries, service.engine.depth, service._places.taken) == ({}, 0, 0)


def test_a_server_that_ends_frees_what_it_keeps(make_server: Callable[..., Server]) -> None:
    server = make_server({"resume_s": 3600.0})

    async def go() -> weakref.ref[Pipeline]:
        async with live(server, prompts=[ON_SQUARE]) as (_, at_work), live(server, prompts=[ON_SQUARE]) as (wire, id_):
            await result_of(wire, 0)
            pipeline = pipeline_of(server, id_)
            await break_off(server, wire)
            assert at_work != id_
            await asyncio.to_thread(server.stop)
            return pipeline

    pipeline = asyncio.run(go())
    assert (kept(server), metric(server, "sessions"), metric(server, "connections")) == (0, 0, 0)
    assert eventually(lambda: is_gone(pipeline))


def test_a_camera_goes_on_over_webrtc_while_its_websocket_is_away(make_server: Callable[..., Server]) -> None:
    server = make_server(webrtc=LOOPBACK)

    async def go() -> None:
        async with open_peer(server) as client:
            session_id = (await client.start(mode="track"))["session_id"]
            await client.connect()
            await client.some_results(2)
            await break_off(server, client.wire)
            results = await client.some_results(5)
            assert [one["object_id"] for one in results[-1]["objects"]] == [1]
            async with open_wire(server) as wire:
                client.wire = wire
                told = await resume(wire, session_id)
                assert told["object_ids"] == [1]
                assert told["ice_servers"] == []
                assert told["newest_index"] >= results[-1]["index"]
                await client.some_results(2)
                # Another offer of the same peer is taken as ever, and so is a frame of the websocket.
                await client.offer()
                await client.some_results(2)
                await wire.frame(picture(), request_id="f")
                await wire.text(type="stop")
                await wire.until("done")

    asyncio.run(go())
    assert frees_everything(server)
