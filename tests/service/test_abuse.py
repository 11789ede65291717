"""Clients that flood, stall, leave or stay silent cost one connection, never the server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from wire_client import CLICK, closing_of, eventually, frees_everything, metric, noise, open_wire, picture

from streamseg.service.server import Server


def test_a_flood_is_closed_with_1008(make_server: Callable[..., Server]) -> None:
    server = make_server({"messages_per_s": 10})

    async def go() -> None:
        async with open_wire(server) as wire:

            async def flood() -> None:
                for _ in range(1000):
                    await wire.text(type="reset")
                while True:
                    await wire.next()

            assert (await closing_of(flood()))[0] == 1008
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(go())
    assert frees_everything(server)
    assert metric(server, "errors_total", code="rate_limited") == 1


def test_a_flood_of_frames_is_dropped_not_kept(server: Server) -> None:
    """200 large frames while one is in work: the newest is segmented, the others are gone at once."""
    large = picture(640, 480)

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("frames", prompts=[CLICK])
            await wire.expect("ready")
            for _ in range(200):
                await wire.frame(large)
            await wire.text(type="stop")
            done = (await wire.until("done"))[-1]
            assert done["frames"] + done["dropped"] == 200
            assert done["dropped"] > 100

    asyncio.run(go())


def test_a_full_queue_is_said_and_the_session_goes_on(make_server: Callable[..., Server]) -> None:
    server = make_server({"queue_length": 1})

    async def client() -> list[str]:
        async with open_wire(server) as wire:
            await wire.start("frames", prompts=[CLICK])
            await wire.expect("ready")
            heard = []
            for _ in range(4):
                await wire.frame()
                got = await wire.next()
                heard.append(got.get("code", got["type"]))
                if got["type"] == "error":
                    assert got["retry_after_s"] > 0
            await wire.text(type="stop")
            await wire.expect("done")
            return heard

    async def go() -> list[str]:
        return [word for heard in await asyncio.gather(*(client() for _ in range(6))) for word in heard]

    heard = asyncio.run(go())
    assert set(heard) == {"result", "overloaded"}


@pytest.mark.parametrize("farewell", ["close", "abort"])
def test_leaving_in_the_middle_of_a_frame_frees_the_session(make_server: Callable[..., Server], farewell: str) -> None:
    # Who breaks off is waited for; who says goodbye is not.
    server = make_server({"resume_s": 0.2 if farewell == "abort" else 3600.0})

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("frames", prompts=[CLICK])
            await wire.expect("ready")
            for _ in range(5):
                await wire.frame(picture(640, 480))
            if farewell == "abort":
                wire.socket.transport.abort()

    asyncio.run(go())
    assert frees_everything(server)
    assert eventually(lambda: server.app.state.service.engine.depth == 0)

    async def still_well() -> None:
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(still_well())


def test_a_reader_that_stalls_is_dropped_and_frames_do_not_pile_up(make_server: Callable[..., Server]) -> None:
    server = make_server({"send_timeout_s": 0.5, "resume_s": 0.2})
    large = noise(1280, 960)

    async def go() -> None:
        # A small receive buffer and nobody who reads from it: the server's own buffers fill up soon.
        async with open_wire(server, max_queue=1, max_size=None, close_timeout=0.1) as wire:
            wire.socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await wire.start("frames", prompts=[CLICK], overlay=True, overlay_quality=100)

            async def only_send() -> None:
                until = time.monotonic() + 120
                while time.monotonic() < until:
                    await wire.frame(large)
                    await asyncio.sleep(0.01)

            assert (await closing_of(only_send()))[0] == 1006

    asyncio.run(go())
    assert frees_everything(server)


def test_a_slow_reader_gets_the_newest_and_all_answers(server: Server) -> None:
    """Results wait for the reader, frames give way to newer ones, and no answer is lost."""

    async def go() -> None:
        async with open_wire(server, max_queue=1) as wire:
            await wire.start("frames", prompts=[CLICK], overlay=True)
            for number in range(20):
                await wire.frame(picture(640, 480))
                await wire.text(type="prompt", request_id=str(number), **CLICK)
                await asyncio.sleep(0.02)
            await wire.text(type="stop")
            got = await wire.until("done")
            answered = [one["request_id"] for one in got if one["type"] in ("ok", "error")]
            assert answered == [str(number) for number in range(20)]
            results = [one["index"] for one in got if one["type"] == "result"]
            assert results == sorted(results)
            assert got[-1]["frames"] + got[-1]["dropped"] == 20

    asyncio.run(go())


def test_a_silent_client_is_closed_with_1001(make_server: Callable[..., Server]) -> None:
    server = make_server({"idle_timeout_s": 0.3})

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.segment()
            assert await closing_of(wire.next()) == (1001, "nothing received for 0.3 s")

    asyncio.run(go())
    assert frees_everything(server)


def test_a_connection_that_never_says_anything_is_closed_sooner(make_server: Callable[..., Server]) -> None:
    server = make_server({"handshake_timeout_s": 0.3, "idle_timeout_s": 2.0})

    async def go() -> None:
        async with open_wire(server) as silent, open_wire(server) as speaking:
            await speaking.start(keep=True)
            await speaking.expect("ready")
            assert await closing_of(silent.next()) == (1001, "nothing received for 0.3 s")
            await asyncio.sleep(0.3)
            await speaking.text(type="stop")
            await speaking.expect("done")

    asyncio.run(go())


@pytest.mark.parametrize("begun", [b"", b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_request_that_never_comes_is_cut_off(make_server: Callable[..., Server], begun: bytes) -> None:
    server = make_server({"handshake_timeout_s": 0.3})
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stalled:
        stalled.sendall(begun)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert stalled.recv(1) == b""
        assert time.monotonic() - began < 4


def test_one_connection_too_many_is_told_when_to_come_back(make_server: Callable[..., Server]) -> None:
    server = make_server({"max_sessions": 2})

    async def go() -> None:
        async with open_wire(server) as first, open_wire(server):
            with pytest.raises(InvalidStatus) as caught:
                async with open_wire(server):
                    pass
            response = caught.value.response
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert b"overloaded" in response.body
            await first.segment()

    asyncio.run(go())
    assert frees_everything(server)

    async def again() -> None:
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(again())


def test_garbage_on_the_port_does_not_matter(server: Server) -> None:
    address = urlsplit(server.url)
    for garbage in (b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection((address.hostname, address.port), timeout=5) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(go())
