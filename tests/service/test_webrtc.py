"""Whole sessions over WebRTC on loopback: a real server, a real aiortc client, real DTLS and packets."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from aiortc import RTCSessionDescription
from peer_client import (
    CLICK,
    HEIGHT,
    LOOPBACK,
    SQUARE_PX,
    STEP_PX,
    WIDTH,
    PeerClient,
    left_of_square,
    lossy,
    open_peer,
    peer,
)
from wire_client import check, frees_everything, open_wire, picture, settings_for_tests

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.service.webrtc_rules import MAX_PART_BYTES
from streamseg.settings import WebrtcSettings


@pytest.fixture(scope="module")
def live(model: LoadedModel) -> Iterator[Server]:
    async def warm_up(server: Server) -> None:
        # The first picture of a process takes a second, in which the square would be out of sight.
        async with open_wire(server) as wire:
            await wire.segment()

    with Server(settings_for_tests(webrtc=LOOPBACK), model) as running:
        asyncio.run(warm_up(running))
        yield running


def areas(results: list[dict[str, Any]]) -> list[float]:
    """Area of the first object on each result, as a share of the square's; 0 where it is lost."""
    return [result["objects"][0]["area_px"] / SQUARE_PX**2 for result in results if result["objects"]]


async def stop(client: PeerClient) -> dict[str, Any]:
    await client.wire.text(type="stop")
    return (await client.wire.until("done"))[-1]


def test_masks_come_back_over_the_data_channel(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            ready = await client.start()
            check(ready)
            assert ready["ice_servers"] == []
            await client.connect()
            results = await client.some_results(6)
            assert all(len(message) <= MAX_PART_BYTES for message in client.messages)
            for result in results:
                check(result)
                assert (result["type"], result["width"], result["height"]) == ("result", WIDTH, HEIGHT)
                assert result["attachments"] == 0
            (one,) = results[-1]["objects"]
            assert one["state"] == "tracked"
            assert one["polygons"]
            assert "rle" not in one
            assert np.median(areas(results)) == pytest.approx(1, abs=0.3)
            done = await stop(client)
            assert done["frames"] >= 6

    asyncio.run(go())
    assert frees_everything(live)


def test_a_result_names_the_frame_that_it_belongs_to(live: Server) -> None:
    """The square moves by ``STEP_PX`` a frame, so the mask's edge tells which frame was segmented."""

    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(mode="track")
            await client.connect(still=False)
            results = await client.some_results(25)
            errors_px = []
            for result in results:
                number = client.number_of(result["rtp_timestamp"])
                assert number == pytest.approx(round(number), abs=0.01)
                assert 0 <= number < client.camera.sent
                box = result["objects"][0]["box_xyxy_px"]
                if box is not None:
                    left = left_of_square(round(number))
                    # One edge is enough: the small model now and then leaves a piece out, or takes one more.
                    errors_px.append(min(abs(box[0] - left), abs(box[2] - left - SQUARE_PX)))
            assert len(errors_px) >= 15
            assert np.median(errors_px) < STEP_PX / 2
            assert np.percentile(errors_px, 80) <= STEP_PX

    asyncio.run(go())


def test_the_overlay_comes_back_as_a_track(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(overlay=True)
            await client.connect()
            await client.some_results(12)
            counters = await client.some_overlays(6)
            assert counters == sorted(set(counters))
            assert {picture.shape for picture in client.pictures} == {(HEIGHT, WIDTH, 3)}
            # The orange square is tinted with the blue of object 1.
            blue = client.pictures[-1][150, left_of_square(0) + SQUARE_PX // 2, 2]
            assert blue > 90
            # No picture of it is sent over the websocket as well.
            assert all(result["attachments"] == 0 for result in client.results)

    asyncio.run(go())


def test_prompts_go_over_the_websocket(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(prompts=[], masks="rle")
            await client.connect()
            (result,) = await client.some_results(1)
            assert result["objects"] == []
            await client.wire.text(type="prompt", object_id=4, box_xyxy_px=[40, 110, 240, 190], request_id="p")
            assert (await client.wire.expect("ok"))["request_id"] == "p"
            result = (await client.some_results(3))[-1]
            assert [one["object_id"] for one in result["objects"]] == [4]
            assert result["objects"][0]["rle"]["size"] == [HEIGHT, WIDTH]
            await client.wire.text(type="undo")
            await client.wire.expect("ok")
            assert (await client.some_results(3))[-1]["objects"] == []

    asyncio.run(go())


def test_a_client_can_measure_the_way_there_and_back(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(masks="none")
            await client.connect()
            await client.some_results(1)
            for message in ("17.25", "x" * 65, b"binary"):
                client.channel.send(message)
            await client.some_results(3)
            assert client.echoes == ["17.25"]

    asyncio.run(go())


def test_other_channels_are_closed(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(prompts=[])
            await client.connect()
            await client.some_results(1)
            closed = asyncio.Event()
            client.pc.createDataChannel("another").on("close", closed.set)
            await client.some_results(2)
            async with asyncio.timeout(5):
                await closed.wait()

    asyncio.run(go())


def test_results_come_over_the_websocket_where_there_is_no_channel(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start()
            client.pc.addTrack(client.camera)
            await client.offer()
            result = await client.wire.expect("result")
            assert "rtp_timestamp" in result
            assert (await client.wire.expect("result"))["index"] > result["index"]

    asyncio.run(go())


def test_the_camera_may_come_after_the_channel(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(prompts=[])
            client.open_channel()
            opened = asyncio.Event()
            client.channel.on("open", opened.set)
            await client.offer()
            async with asyncio.timeout(10):
                await opened.wait()
            client.pc.addTrack(client.camera)
            await client.offer()
            await client.some_results(2)

    asyncio.run(go())


def test_a_new_peer_finds_its_objects_again(live: Server) -> None:
    """A page that was reloaded or a network that changed: another offer, the same session."""

    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(mode="track")
            await client.connect()
            before = (await client.some_results(3))[-1]
            # The same peer again, as after a change of its tracks.
            await client.offer()
            await client.some_results(2)
            former, client.pc = client.pc, peer()
            await former.close()
            client.camera.stop()
            await client.connect()
            after = (await client.some_results(3))[-1]
            assert after["index"] > before["index"]
            assert after["time_s"] > before["time_s"]
            assert [one["object_id"] for one in after["objects"]] == [1]

    asyncio.run(go())


def test_candidates_may_come_after_the_offer(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start()
            client.pc.addTrack(client.camera)
            client.open_channel()
            await client.pc.setLocalDescription(await client.pc.createOffer())
            lines = client.pc.localDescription.sdp.splitlines()
            later = [line for line in lines if line.startswith("a=candidate")]
            assert later
            bare = "\r\n".join(line for line in lines if line not in later) + "\r\n"
            await client.wire.text(type="offer", sdp=bare)
            answer = await client.wire.expect("answer")
            for line in later:
                await client.wire.text(type="candidate", candidate=line[2:], sdp_mline_index=0)
            await client.wire.text(type="candidate", candidate=None)
            await client.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            await client.some_results(2)

    asyncio.run(go())


def test_masks_keep_coming_when_packets_are_lost(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start()
            await client.connect(fps=30)
            await client.some_results(1)
            dropped = lossy(client.pc, 0.05)
            await client.some_results(60, within_s=60)
            assert dropped() > 0
            # A packet that is lost twice keeps all after it waiting for a second or two. Then the results are of new
            # pictures again: no backlog has come of the losses, which would only grow.
            async with asyncio.timeout(30):
                behind = math.inf
                while behind >= 30:
                    (result,) = await client.some_results(1)
                    behind = client.camera.sent - client.number_of(result["rtp_timestamp"])

    asyncio.run(go())


def test_a_camera_faster_than_the_model_drops_frames_and_not_time(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            await client.start(mode="track", size_px=[4 * WIDTH, 4 * HEIGHT])
            await client.connect(fps=60)
            await client.some_results(3)
            ages_s, times_s = [], []
            for _ in range(25):
                (result,) = await client.some_results(1)
                times_s.append(client.camera.sent / client.camera.fps)
                ages_s.append(times_s[-1] - client.number_of(result["rtp_timestamp"]) / client.camera.fps)
            assert (result["width"], result["height"]) == (4 * WIDTH, 4 * HEIGHT)
            assert result["dropped"] > 25
            assert np.median(ages_s[-8:]) < 1.0
            # In a line, each result would be of the frame after that of the one before, however long it took.
            first, last = slice(8), slice(-8, None)
            passed_s = np.median(times_s[last]) - np.median(times_s[first])
            behind_in_line_s = passed_s - (25 - 8) / client.camera.fps
            assert np.median(ages_s[last]) - np.median(ages_s[first]) < 0.5 * behind_in_line_s

    asyncio.run(go())


def test_what_does_not_connect_goes_on_over_the_websocket(model: LoadedModel) -> None:
    settings = settings_for_tests(webrtc=WebrtcSettings(loopback=True, connect_timeout_s=1.0))

    async def go(server: Server) -> None:
        async with open_peer(server) as client:
            await client.start(masks="rle", prompts=[])
            client.pc.addTrack(client.camera)
            client.open_channel()
            await client.pc.setLocalDescription(await client.pc.createOffer())
            await client.wire.text(type="offer", sdp=client.pc.localDescription.sdp)
            # The answer is never used.
            await client.wire.expect("answer")
            error = await client.wire.expect("error", "webrtc_failed")
            assert "over this websocket" in error["message"]
            await client.wire.text(type="prompt", object_id=2, points_xy_px=[[30, 22]], labels=[1])
            await client.wire.expect("ok")
            await client.wire.frame(timestamp_ms=5)
            result = await client.wire.expect("result")
            assert (result["timestamp_ms"], len(result["objects"])) == (5, 1)
            assert (await stop(client))["frames"] == 1

    with Server(settings, model) as server:
        asyncio.run(go(server))
        assert frees_everything(server)


@pytest.mark.parametrize(
    ("fields", "message", "code"),
    [
        ({"source": "frames"}, {"type": "offer", "sdp": "v=0\r\n"}, "bad_state"),
        ({"source": "webrtc"}, {"type": "offer", "sdp": "v=0\r\n"}, "bad_message"),
        ({"source": "webrtc"}, {"type": "offer", "sdp": "m=video\r\n"}, "bad_message"),
        ({"source": "webrtc"}, {"type": "offer", "sdp": "x" * (64 * 2**10 + 1)}, "bad_message"),
        ({"source": "webrtc"}, {"type": "candidate", "candidate": "candidate:1"}, "bad_message"),
    ],
)
def test_what_cannot_be_negotiated_is_refused(live: Server, fields: Any, message: Any, code: str) -> None:
    async def go() -> None:
        async with open_wire(live) as wire:
            await wire.start(**fields)
            await wire.expect("ready")
            await wire.text(**message, request_id="r")
            assert (await wire.expect("error", code))["request_id"] == "r"
            # The session goes on.
            await wire.frame(picture())
            await wire.expect("result")

    asyncio.run(go())


def test_a_server_without_webrtc_says_so(model: LoadedModel) -> None:
    async def go(server: Server) -> None:
        assert "webrtc" not in server.app.state.service.info()["sources"]
        async with open_wire(server) as wire:
            await wire.start("webrtc")
            assert '"frames"' in (await wire.expect("error", "webrtc_failed"))["message"]
            await wire.segment(masks="none")

    with Server(settings_for_tests(webrtc=WebrtcSettings(enabled=False)), model) as server:
        asyncio.run(go(server))


def test_turn_servers_are_told_to_the_client(model: LoadedModel) -> None:
    servers = [{"urls": ["turn:127.0.0.1:9?transport=tcp"], "username": "u", "credential": "c"}]

    async def go(server: Server) -> None:
        async with open_wire(server) as wire:
            await wire.start("webrtc", prompts=[CLICK])
            assert (await wire.expect("ready"))["ice_servers"] == servers

    with Server(settings_for_tests(webrtc=WebrtcSettings(ice_servers=servers)), model) as server:
        asyncio.run(go(server))
