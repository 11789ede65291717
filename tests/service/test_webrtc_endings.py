"""Peers that stop, leave, break off or vanish: whatever the end, nothing of them stays in the server."""

from __future__ import annotations

import asyncio
import time

import pytest
from peer_client import LOOPBACK, PeerClient, frees_all_of, held, lossy, open_peer
from wire_client import eventually, frees_everything, settings_for_tests

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import WebrtcSettings


async def live(client: PeerClient) -> None:
    await client.start(overlay=True)
    await client.connect()
    await client.some_results(1)


async def stopping(client: PeerClient) -> None:
    await client.wire.text(type="stop")
    await client.wire.until("done")


async def leaving(client: PeerClient) -> None:
    await client.wire.socket.close()


async def breaking_off(client: PeerClient) -> None:
    client.wire.socket.transport.abort()


async def closing_the_peer(client: PeerClient) -> None:
    await client.pc.close()
    error = (await client.wire.until("error"))[-1]
    assert error["code"] == "webrtc_failed"
    # The session goes on without it.
    await client.wire.frame()
    await client.wire.until("result")


@pytest.mark.parametrize("end", [stopping, leaving, breaking_off, closing_the_peer], ids=lambda end: end.__name__)
def test_nothing_stays_of_many_sessions(model: LoadedModel, end) -> None:
    async def session(server: Server) -> None:
        async with open_peer(server) as client:
            await live(client)
            await end(client)

    with Server(settings_for_tests({"resume_s": 0.2}, webrtc=LOOPBACK), model) as server:
        asyncio.run(session(server))
        assert frees_everything(server)
        before = held()
        assert before["peers"] == before["decoders"] == 0
        for _ in range(3):
            asyncio.run(session(server))
        assert frees_everything(server)
        assert frees_all_of(before), (before, held())


def test_a_peer_that_vanishes_is_given_up(model: LoadedModel) -> None:
    """Not one packet comes any more, as when a network goes away; the websocket, on another way, still works."""
    settings = settings_for_tests(webrtc=WebrtcSettings(loopback=True, lost_after_s=3))

    async def go(server: Server) -> None:
        async with open_peer(server) as client:
            await live(client)
            lossy(client.pc, 1.0)
            vanished_at = time.monotonic()
            error = (await client.wire.until("error"))[-1]
            assert error["code"] == "webrtc_failed"
            assert time.monotonic() - vanished_at < 8
            assert "lost" in error["message"]
            assert eventually(lambda: held()["decoders"] <= 1)
            # Its objects wait for the frames of the websocket.
            await client.wire.frame()
            assert [one["object_id"] for one in (await client.wire.until("result"))[-1]["objects"]] == [1]

    with Server(settings, model) as server:
        asyncio.run(go(server))
        assert frees_everything(server)
        assert eventually(lambda: held()["peers"] == 0)


def test_a_peer_that_floods_the_server_is_ended(model: LoadedModel) -> None:
    """Every picture under a stream name of its own, each of which aiortc would keep."""

    async def go(server: Server) -> None:
        async with open_peer(server) as client:
            await client.start(prompts=[])
            await client.connect(fps=30)
            await client.some_results(1)
            sender = client.pc.getSenders()[0]
            honest = client.camera.recv

            async def recv():
                sender._ssrc += 1
                return await honest()

            client.camera.recv = recv
            error = (await client.wire.until("error"))[-1]
            assert (error["code"], "streams" in error["message"]) == ("webrtc_failed", True)

    with Server(settings_for_tests(webrtc=LOOPBACK), model) as server:
        asyncio.run(go(server))
        assert frees_everything(server)


def test_a_server_that_ends_ends_its_peers(model: LoadedModel) -> None:
    async def go(server: Server) -> None:
        async with open_peer(server) as client:
            await live(client)
            await asyncio.to_thread(server.stop)

    server = Server(settings_for_tests(webrtc=LOOPBACK), model)
    server.start()
    asyncio.run(go(server))
    assert eventually(lambda: held()["peers"] == 0)
    assert held()["decoders"] == 0
