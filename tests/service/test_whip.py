"""Streams that FFmpeg publishes over WHIP, players that watch them over WHEP, and clicks of a third client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mjpeg_camera import HEIGHT as CAMERA_HEIGHT
from mjpeg_camera import WIDTH as CAMERA_WIDTH
from mjpeg_camera import open_camera
from peer_client import LOOPBACK, frees_all_of, held, lossy, peer, read_counter
from whip_client import (
    CLICK,
    HEIGHT,
    WIDTH,
    acall,
    call,
    disc,
    eventually_a,
    ffmpeg,
    offer_of,
    offer_only,
    playing,
    publishing,
)
from wire_client import Wire, eventually, metric, open_wire, settings_for_tests

from streamseg.models.build import LoadedModel
from streamseg.segmentation.masks import MaskRegion
from streamseg.service.server import Server
from streamseg.settings import StreamsSettings, WebrtcSettings


@pytest.fixture(scope="module")
def shared(model: LoadedModel) -> Iterator[Server]:
    settings = settings_for_tests(webrtc=LOOPBACK, streams=StreamsSettings(keep_s=2))
    with Server(settings, model) as running:
        yield running


def mask_of(fields: dict[str, Any]) -> np.ndarray:
    return MaskRegion.from_rle(fields["rle"]).full()


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def listed(server: Server) -> list[dict[str, Any]]:
    return json.loads(call(server, "GET", "/v1/streams").body)["streams"]


def state_of(server: Server, name: str = "cam") -> str | None:
    return next((one["state"] for one in listed(server) if one["name"] == name), None)


def is_gone(server: Server, within_s: float = 60.0) -> bool:
    """Whether the server comes to hold nothing of a stream, its publisher and its players."""
    held = ("publications", "watchers", "connections")
    return eventually(lambda: listed(server) == [] and not any(metric(server, name) for name in held), within_s)


async def result_with_mask(wire: Wire, within: int = 60) -> dict[str, Any]:
    """The next result in which the object is seen."""
    for _ in range(within):
        got = (await wire.until("result"))[-1]
        if got["objects"] and got["objects"][0]["state"] == "tracked":
            return got
    raise AssertionError("the object was not seen")


def test_one_publishes_another_clicks_a_third_watches(shared: Server) -> None:
    async def go() -> None:
        async with open_wire(shared) as wire, playing(shared) as player:
            plain = (await player.some(3))[-1]
            assert plain.shape == (HEIGHT, WIDTH, 3)
            # Without an object the picture is as it was sent: an orange disc.
            assert abs(plain[HEIGHT // 2, WIDTH // 2].astype(int) - (240, 90, 30)).max() < 40
            await wire.start("stream", name="cam", masks="rle", prompts=[CLICK])
            await wire.expect("ready")
            got = await result_with_mask(wire)
            (one,) = got["objects"]
            assert overlap(mask_of(one), disc()) > 0.7
            tinted = (await player.some(6))[-1]
            change = abs(tinted.astype(int) - plain.astype(int)).sum(axis=2)
            assert np.median(change[disc()]) > 100
            assert np.median(change[:60]) < 20
            assert player.times_s == sorted(player.times_s)

    with ffmpeg(shared):
        asyncio.run(go())
    assert is_gone(shared)


def test_sound_is_never_decoded_and_every_profile_is(shared: Server) -> None:
    async def go() -> None:
        async with playing(shared, sound=True) as player:
            await player.some(3)
            assert not [one.name for one in threading.enumerate() if one.name == "audio-decoder"]

    with ffmpeg(shared, sound=True, profile="high"):
        asyncio.run(go())
    assert is_gone(shared)


def test_a_browser_may_publish_vp8_and_say_the_mode(shared: Server) -> None:
    async def go() -> None:
        async with publishing(shared, "/v1/whip/cam?mode=image"), playing(shared) as player:
            numbers = [read_counter(one) for one in await player.some(5)]
            assert numbers == sorted(numbers)
            assert listed(shared)[0] == {
                "name": "cam", "state": "live", "mode": "image", "viewers": 1, "frames": listed(shared)[0]["frames"]
            }  # fmt: skip

    asyncio.run(go())
    assert is_gone(shared)


def test_a_publisher_comes_back_to_the_same_objects(shared: Server) -> None:
    """In half the size, which is the same shape: the object is followed on."""

    async def go() -> None:
        async with open_wire(shared) as wire, contextlib.AsyncExitStack() as stack:
            with ffmpeg(shared):
                player = await stack.enter_async_context(playing(shared))
                await wire.start("stream", name="cam", masks="rle", prompts=[CLICK])
                await wire.expect("ready")
                await result_with_mask(wire)
            assert state_of(shared) == "lost"
            with ffmpeg(shared, size=(WIDTH // 2, HEIGHT // 2)):
                while (got := await result_with_mask(wire))["width"] != WIDTH // 2:
                    pass
                assert overlap(mask_of(got["objects"][0]), disc(WIDTH // 2, HEIGHT // 2)) > 0.6
                await player.some(5)
                assert player.pictures[-1].shape == (HEIGHT // 2, WIDTH // 2, 3)
                assert player.times_s == sorted(player.times_s)

    asyncio.run(go())
    assert is_gone(shared)


def test_pictures_of_another_shape_wait_for_a_reset(shared: Server) -> None:
    async def go() -> None:
        async with open_wire(shared) as wire:
            with ffmpeg(shared):
                await wire.start("stream", name="cam", masks="rle", prompts=[CLICK])
                await wire.expect("ready")
                await result_with_mask(wire)
            with ffmpeg(shared, size=(HEIGHT, HEIGHT)):
                assert (await wire.until("error"))[-1]["code"] == "frame_size"
                await wire.text(type="reset")
                while (await wire.until("result"))[-1]["width"] != HEIGHT:
                    pass

    asyncio.run(go())
    assert is_gone(shared)


def test_there_is_one_publisher_at_a_time(shared: Server) -> None:
    async def go() -> None:
        async with publishing(shared) as first:
            offer = await offer_only()
            reply = await acall(shared, "POST", "/v1/whip/cam", offer, content_type="application/sdp")
            assert (reply.status, reply.error) == (409, "bad_state")
            assert int(reply.headers["Retry-After"]) >= 1
            await eventually_a(lambda: state_of(shared) == "live")
            assert (await acall(shared, "DELETE", first)).status == 200
            assert state_of(shared) == "lost"
            # Its own resource is gone, and the mode of what waits stands.
            assert (await acall(shared, "DELETE", first)).status == 404
            other = "/v1/whip/cam?mode=image"
            assert (await acall(shared, "POST", other, offer, content_type="application/sdp")).status == 409
            async with publishing(shared):
                await eventually_a(lambda: state_of(shared) == "live")

    asyncio.run(go())
    assert is_gone(shared)


def test_a_publisher_that_falls_silent_is_lost(model: LoadedModel) -> None:
    webrtc = WebrtcSettings(loopback=True, lost_after_s=3)
    with Server(settings_for_tests(webrtc=webrtc, streams=StreamsSettings(keep_s=600)), model) as server:
        with ffmpeg(server) as publisher:
            assert eventually(lambda: state_of(server) == "live", 60)
            # FFmpeg answers no requests for consent; its pictures say that it is there.
            time.sleep(2 * webrtc.lost_after_s)
            assert state_of(server) == "live"
            publisher.kill()
            assert eventually(lambda: state_of(server) == "lost", 60)
        # The stream keeps its place as long as it keeps its objects.
        assert metric(server, "publications") == 1
    assert eventually(lambda: held()["peers"] == 0)


def test_a_publisher_that_sends_nothing_is_ended(make_server) -> None:
    server = make_server({"idle_timeout_s": 1.0}, webrtc=LOOPBACK)

    async def go() -> None:
        pc = peer()
        pc.addTransceiver("video", "sendonly")
        reply = await acall(server, "POST", "/v1/whip/cam", await offer_of(pc), content_type="application/sdp")
        assert reply.status == 201
        # Nothing was ever seen of it, so nothing is kept.
        await eventually_a(lambda: listed(server) == [])
        await pc.close()

    asyncio.run(go())
    assert is_gone(server)


def test_a_camera_of_the_settings_is_opened_by_watching_it(make_server) -> None:
    with open_camera() as camera:
        streams = StreamsSettings(keep_s=1, cameras={"door": camera.url})
        server = make_server(webrtc=LOOPBACK, streams=streams)
        assert state_of(server, "door") == "closed"

        async def go() -> None:
            async with playing(server, "door") as player:
                pictures = await player.some(5)
                assert pictures[-1].shape == (CAMERA_HEIGHT, CAMERA_WIDTH, 3)
                assert listed(server)[0]["viewers"] == 1

        asyncio.run(go())
        assert eventually(lambda: state_of(server, "door") == "closed", 60)


def test_players_are_counted(make_server) -> None:
    server = make_server(webrtc=LOOPBACK, streams=StreamsSettings(keep_s=1, max_watchers=1))

    async def go() -> None:
        async with publishing(server):
            async with playing(server) as player:
                offer = await offer_only("recvonly")
                reply = await acall(server, "POST", "/v1/whep/cam", offer, content_type="application/sdp")
                assert (reply.status, reply.error, reply.headers["Retry-After"]) == (503, "overloaded", "5")
                assert (await acall(server, "DELETE", player.location)).status == 200
            async with playing(server) as player:
                await player.some(1)

    asyncio.run(go())
    assert is_gone(server)


def test_sessions_are_counted(make_server) -> None:
    server = make_server({"max_sessions": 1}, webrtc=LOOPBACK, streams=StreamsSettings(keep_s=1))

    async def go() -> None:
        async with publishing(server):
            offer = await offer_only()
            reply = await acall(server, "POST", "/v1/whip/other", offer, content_type="application/sdp")
            assert (reply.status, reply.error) == (503, "overloaded")

    asyncio.run(go())
    assert is_gone(server)
    # The place was given back.
    asyncio.run(go())


def test_nothing_stays_of_publishers_and_players(model: LoadedModel) -> None:
    """Those that say goodbye and those that vanish."""

    async def visit(server: Server, vanish: bool) -> None:
        async with publishing(server) as publisher, playing(server) as first, playing(server) as second:
            await first.some(2)
            await second.some(2)
            if vanish:
                lossy(first.pc, 1.0)
                lossy(second.pc, 1.0)
                await eventually_a(lambda: listed(server)[0]["viewers"] == 0)
            else:
                await acall(server, "DELETE", first.location)
                await acall(server, "DELETE", publisher)

    webrtc = WebrtcSettings(loopback=True, lost_after_s=3)
    with Server(settings_for_tests(webrtc=webrtc, streams=StreamsSettings(keep_s=0.5)), model) as server:
        asyncio.run(visit(server, False))
        assert is_gone(server)
        before = held()
        assert before["peers"] == before["decoders"] == 0
        asyncio.run(visit(server, True))
        assert is_gone(server)
        asyncio.run(visit(server, False))
        assert is_gone(server)
        assert frees_all_of(before), (before, held())


def test_a_server_that_ends_ends_its_publishers_and_players(model: LoadedModel) -> None:
    server = Server(settings_for_tests(webrtc=LOOPBACK), model)
    server.start()

    async def go() -> None:
        async with publishing(server), playing(server) as player:
            await player.some(1)
            await asyncio.to_thread(server.stop)

    asyncio.run(go())
    assert eventually(lambda: held()["peers"] == held()["decoders"] == 0)
