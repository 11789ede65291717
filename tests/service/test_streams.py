"""Shared streams and network cameras over the websocket: a real server, a real camera on loopback, the nano model."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from media.make_video import make_video
from media.network_servers import HttpServer, send
from mjpeg_camera import HEIGHT, SIDE, TOP, WIDTH, Camera, open_camera
from PIL import Image
from wire_client import Wire, closing_of, eventually, frees_everything, open_wire, settings_for_tests

from streamseg.engine import Engine
from streamseg.errors import NotFoundError
from streamseg.models.build import LoadedModel
from streamseg.pipeline import StreamOptions
from streamseg.service.server import Server
from streamseg.service.shared_stream import SharedStream
from streamseg.service.streams import Streams

BOX = {"object_id": 7, "box_xyxy_px": [10, TOP, 10 + SIDE + 20, TOP + SIDE]}


def taking_addresses(make_server: Callable[..., Server], **fields: Any) -> Server:
    return make_server(network={"enabled": True, "allow": ["127.0.0.1"], **fields.pop("network", {})}, **fields)


async def result_with_picture(wire: Wire) -> tuple[dict[str, Any], np.ndarray]:
    """The next result and the picture that came with it, RGB."""
    result = (await wire.until("result"))[-1]
    header = await wire.expect("picture")
    assert header["index"] == result["index"]
    return result, np.asarray(Image.open(io.BytesIO(header["payload"])).convert("RGB"))


def square_left_px(rgb: np.ndarray) -> float:
    columns = np.nonzero(rgb[TOP + SIDE // 2, :, 0] > 130)[0]
    return float(columns.min())


async def box_of_newest(wire: Wire) -> dict[str, Any]:
    """A prompt that points at the square where the newest picture has it."""
    result, rgb = await result_with_picture(wire)
    left = square_left_px(rgb)
    box = [left, TOP, min(left + SIDE, WIDTH), TOP + SIDE]
    return {"type": "prompt", "object_id": 7, "box_xyxy_px": box, "frame": result["index"], "request_id": "p"}


async def follow(wire: Wire, frames: int) -> None:
    """See the object on the square in each of so many results that show it."""
    seen = 0
    while seen < frames:
        result, rgb = await result_with_picture(wire)
        assert (result["width"], result["height"]) == (WIDTH, HEIGHT)
        if not result["objects"] or result["objects"][0]["state"] != "tracked":
            continue
        left, top, right, bottom = box = result["objects"][0]["box_xyxy_px"]
        square = square_left_px(rgb)
        width = min(right, square + SIDE) - max(left, square)
        height = min(bottom, TOP + SIDE) - max(top, TOP)
        shared = max(width, 0) * max(height, 0)
        # The mask belongs to the picture beside it; how sharp it is after a jump over missed pictures is the model's.
        assert shared >= 0.6 * ((right - left) * (bottom - top) + SIDE * SIDE - shared), (box, square)
        seen += 1


def test_an_object_is_followed_in_a_network_camera(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server)

    async def go(camera: Camera) -> None:
        async with open_wire(server) as wire:
            await wire.start("url", url=camera.url, mode="track", picture=True)
            await wire.expect("ready")
            live = await wire.expect("source")
            assert live["state"] == "live"
            await wire.text(**await box_of_newest(wire))
            await wire.until("ok")
            await follow(wire, 10)
            await wire.text(type="stop", request_id="s")
            done = (await wire.until("done"))[-1]
            assert done["request_id"] == "s"
            assert done["frames"] > 10
            # The same connection is good for another session.
            assert (await wire.segment())["objects"]

    with open_camera() as camera:
        asyncio.run(go(camera))
    assert frees_everything(server)
    assert eventually(lambda: not list(server.app.state.service.streams))


def test_two_look_at_one_stream_and_share_its_objects(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server)

    async def go(camera: Camera) -> None:
        async with open_wire(server) as first, open_wire(server) as second:
            await second.start("stream", name="door", request_id="early")
            assert (await second.expect("error", "not_found"))["request_id"] == "early"
            await first.start("url", url=camera.url, mode="track", name="door", picture=True)
            await first.expect("ready")
            await second.start("stream", name="door", picture=True)
            await second.expect("ready")
            await second.text(**await box_of_newest(second))
            await second.until("ok")
            await follow(first, 4)
            await follow(second, 4)
            assert camera.watched == 1
            await first.text(type="remove", object_id=7)
            await first.until("ok")
            while (await result_with_picture(second))[0]["objects"]:
                pass
            async with open_wire(server) as third:
                await third.start("url", url=camera.url, name="door")
                await third.expect("error", "bad_state")
            await first.text(type="stop")
            await first.until("done")
            ended = [one for one in await second.until("source") if one["type"] == "source"][-1]
            assert ended["state"] == "ended"

    with open_camera() as camera:
        asyncio.run(go(camera))
    assert frees_everything(server)


def test_a_camera_of_the_settings_is_opened_for_whoever_looks_and_closed_when_nobody_does(
    make_server: Callable[..., Server],
) -> None:
    with open_camera() as camera:
        secret = camera.url.replace("http://", "http://user:hidden@")
        server = make_server(streams={"cameras": {"yard": secret}, "keep_s": 0.5})
        streams = server.app.state.service.streams

        async def go(opened: int) -> None:
            async with open_wire(server) as first, open_wire(server) as second:
                for wire in (first, second):
                    await wire.start("stream", name="yard", picture=True)
                for wire in (first, second):
                    assert "hidden" not in str(await wire.expect("ready"))
                    await result_with_picture(wire)
            assert camera.watched == opened

        asyncio.run(go(1))
        assert [one.name for one in streams.listed()] == ["yard"]
        assert eventually(lambda: [one.state for one in streams.listed()] == ["closed"])
        asyncio.run(go(2))
    assert frees_everything(server)


def test_a_camera_that_goes_and_comes_back_is_said_to(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server, network={"read_timeout_s": 2.0, "reconnect_max_s": 0.5})

    async def go() -> None:
        async with open_wire(server) as wire:
            with open_camera() as camera:
                port = camera.port
                await wire.start("url", url=camera.url, mode="track", picture=True)
                await wire.expect("ready")
                assert (await wire.expect("source"))["state"] == "live"
                await wire.text(**await box_of_newest(wire))
                await follow(wire, 2)
            assert (await wire.until("source"))[-1]["state"] == "lost"
            with open_camera(port):
                while (await wire.until("source"))[-1]["state"] != "live":
                    pass
                # The square is somewhere else now; the object is still known.
                assert [one["object_id"] for one in (await result_with_picture(wire))[0]["objects"]] == [7]

    asyncio.run(go())
    assert frees_everything(server)


def test_a_viewer_whose_connection_broke_comes_back_to_the_same_stream(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server)

    async def go(camera: Camera) -> None:
        async with open_wire(server) as wire:
            await wire.start("url", url=camera.url, mode="track", picture=True)
            session_id = (await wire.expect("ready"))["session_id"]
            await wire.text(**await box_of_newest(wire))
            await follow(wire, 2)
            wire.socket.transport.abort()
            async with open_wire(server) as again:
                await again.text(type="resume", version=1, session_id=session_id)
                ready = await again.expect("ready")
                assert ready["object_ids"] == [7]
                assert (await again.until("source"))[-1]["state"] == "live"
                await follow(again, 3)
                await again.text(type="stop")
                await again.until("done")
        assert camera.watched == 1

    with open_camera() as camera:
        asyncio.run(go(camera))
    assert frees_everything(server)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"source": "url"}, "bad_message"),
        ({"source": "url", "url": "file:///etc/passwd"}, "address_refused"),
        ({"source": "url", "url": "http://169.254.169.254/latest"}, "address_refused"),
        ({"source": "url", "url": "http://localhost.example/camera", "name": "../x"}, "bad_message"),
        ({"source": "url", "url": "http://127.0.0.1:9/camera"}, "stream_unavailable"),
        ({"source": "stream"}, "bad_message"),
        ({"source": "stream", "name": "nothing"}, "not_found"),
        ({"source": "stream", "name": "nothing", "mode": "track"}, "bad_message"),
        ({"source": "stream", "name": "nothing", "limits": {"max_objects": 1}}, "bad_message"),
        ({"source": "stream", "name": "nothing", "url": "http://127.0.0.1/"}, "bad_message"),
        ({"source": "frames", "url": "http://127.0.0.1/"}, "bad_message"),
        ({"source": "frames", "picture": True}, "bad_message"),
        ({"source": "frames", "name": "door"}, "bad_message"),
    ],
)
def test_what_cannot_be_started_is_said(make_server: Callable[..., Server], fields: dict[str, Any], code: str) -> None:
    server = taking_addresses(make_server)

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(**fields, request_id="r")
            assert (await wire.expect("error", code))["request_id"] == "r"
            assert (await wire.segment())["objects"]

    asyncio.run(go())
    assert frees_everything(server)


def test_addresses_are_off_unless_they_are_switched_on(make_server: Callable[..., Server]) -> None:
    server = make_server()

    async def go(camera: Camera) -> None:
        async with open_wire(server) as wire:
            await wire.start("url", url=camera.url)
            await wire.expect("error", "address_refused")

    with open_camera() as camera:
        asyncio.run(go(camera))
        assert camera.watched == 0
    assert "url" not in server.app.state.service.info()["sources"]


def test_a_prompt_beside_the_picture_is_told_to_whoever_made_it(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server)

    async def go(camera: Camera) -> None:
        async with open_wire(server) as first, open_wire(server) as second:
            await first.start("url", url=camera.url, mode="track", name="door")
            await first.expect("ready")
            await second.start("stream", name="door")
            await second.expect("ready")
            await second.text(type="prompt", object_id=1, points_xy_px=[[9999, 5]], labels=[1], request_id="far")
            error = (await second.until("error"))[-1]
            assert (error["code"], error["request_id"]) == ("bad_prompt", "far")
            await second.frame()
            assert (await second.until("error"))[-1]["code"] == "bad_state"
            await first.text(type="stop")
            assert not any(one["type"] == "error" for one in await first.until("done"))

    with open_camera() as camera:
        asyncio.run(go(camera))


def test_a_viewer_who_does_not_read_holds_up_nobody(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server)

    async def go(camera: Camera) -> None:
        async with open_wire(server) as first, open_wire(server, max_queue=1) as lazy:
            await first.start("url", url=camera.url, mode="track", name="door", picture=True)
            await first.expect("ready")
            await lazy.start("stream", name="door", picture=True)
            for _ in range(15):
                await result_with_picture(first)

    with open_camera() as camera:
        asyncio.run(go(camera))
    assert frees_everything(server)


def test_a_stream_whose_source_ended_gives_its_name_and_memory_back(model: LoadedModel) -> None:
    async def go(engine: Engine) -> None:
        streams = Streams(engine, settings_for_tests())
        stream = streams.open("film", StreamOptions())
        stream.tell("ended", "the stream is over")
        stream.close("whoever opened the stream has left")
        assert list(streams) == []
        streams.open("film", StreamOptions())
        await streams.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    engine = Engine(model, 8)
    try:
        asyncio.run(go(engine))
    finally:
        engine.close()


def test_a_camera_that_has_ended_is_opened_anew_for_who_comes_then(model: LoadedModel) -> None:
    film = make_video("mp4", frames=4, fps=10, container_options={"movflags": "faststart"})

    async def ended(stream: SharedStream) -> None:
        assert await asyncio.to_thread(eventually, lambda: stream.state == "ended")

    async def go(engine: Engine, url: str) -> None:
        network = {"enabled": True, "allow": ["127.0.0.1"], "max_streams": 1}
        streams = Streams(engine, settings_for_tests(streams={"cameras": {"yard": url}}, network=network))
        first = await streams.look("yard")
        await ended(first)
        assert [one.state for one in streams.listed()] == ["closed"]
        second = await streams.look("yard")
        assert second is not first
        assert second.state == "live"
        assert list(streams) == [second]
        await streams.close()
        # An address has ended for everybody.
        streams = Streams(engine, settings_for_tests(network=network))
        opened = await streams.open_url(url, "film", StreamOptions())
        assert await streams.look("film") is opened
        await ended(opened)
        with pytest.raises(NotFoundError):
            await streams.look("film")
        await streams.close_url(opened)
        await streams.close()

    engine = Engine(model, 8)
    try:
        with HttpServer({"/film": lambda handler: send(handler, film)}) as server:
            asyncio.run(go(engine, f"{server.origin}/film"))
    finally:
        engine.close()


def test_who_comes_while_a_camera_is_gone_hears_why(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server, network={"read_timeout_s": 2.0, "reconnect_max_s": 0.5})

    async def go() -> None:
        async with open_wire(server) as first, open_wire(server) as second:
            with open_camera() as camera:
                await first.start("url", url=camera.url, name="door", masks="none")
                await first.until("result")
            while not (told := (await first.until("source"))[-1])["message"].count("; trying again in"):
                reason = told["message"]
            await second.start("stream", name="door")
            await second.expect("ready")
            told = await second.expect("source")
            assert told["state"] == "lost"
            assert told["message"].startswith(reason)

    asyncio.run(go())
    assert frees_everything(server)


def test_whoever_asks_for_a_camera_that_is_being_opened_hears_how_that_ends(make_server: Callable[..., Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/camera"
        network = {"connect_timeout_s": 0.5, "read_timeout_s": 0.5}
        server = make_server(streams={"cameras": {"yard": url}}, network=network)

        async def go() -> None:
            async with open_wire(server) as first, open_wire(server) as second:
                await first.start("stream", name="yard")
                assert await asyncio.to_thread(eventually, lambda: bool(list(server.app.state.service.streams)))
                await second.start("stream", name="yard")
                await first.expect("error", "stream_unavailable")
                await second.expect("error", "stream_unavailable")

        asyncio.run(go())
    assert frees_everything(server)


def test_who_looks_at_a_camera_without_news_is_not_idle(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server, limits={"idle_timeout_s": 0.4})

    async def go(camera: Camera) -> None:
        async with open_wire(server) as wire:
            await wire.start("url", url=camera.url, picture=True)
            await wire.until("picture")
            camera.silent.set()
            await asyncio.sleep(1.5)
            camera.silent.clear()
            for _ in range(5):
                await result_with_picture(wire)
            await wire.text(type="stop")
            await wire.until("done")
            # Nothing is looked at any more.
            assert (await closing_of(wire.next()))[0] == 1001

    with open_camera() as camera:
        asyncio.run(go(camera))


def test_cameras_that_do_not_answer_are_given_up_at_once(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server, network={"connect_timeout_s": 100.0})

    async def go(port: int) -> None:
        for _ in range(4):
            async with open_wire(server) as wire:
                await wire.start("url", url=f"http://127.0.0.1:{port}/camera")
                assert await asyncio.to_thread(eventually, lambda: bool(list(server.app.state.service.streams)))
                # Long enough to be at the connection.
                await asyncio.sleep(0.3)
                wire.socket.transport.abort()

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            # What is beyond the backlog gets no answer at all.
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        asyncio.run(go(full.getsockname()[1]))
        assert frees_everything(server)


def test_the_end_of_a_camera_takes_no_thread_of_those_that_decode(model: LoadedModel) -> None:
    async def go(engine: Engine, camera: Camera) -> None:
        streams = Streams(engine, settings_for_tests(network={"enabled": True, "allow": ["127.0.0.1"]}))
        stream = await streams.open_url(camera.url, None, StreamOptions())
        pool, taken = ThreadPoolExecutor(1), threading.Event()
        pool.submit(taken.wait)
        asyncio.get_running_loop().set_default_executor(pool)
        try:
            async with asyncio.timeout(60):
                await streams.close_url(stream)
        finally:
            taken.set()
        await streams.close()

    engine = Engine(model, 8)
    try:
        with open_camera() as camera:
            asyncio.run(go(engine, camera))
    finally:
        engine.close()


def test_network_streams_are_bounded(make_server: Callable[..., Server]) -> None:
    server = taking_addresses(make_server, network={"max_streams": 1})

    async def go(camera: Camera) -> None:
        async with open_wire(server) as first, open_wire(server) as second:
            await first.start("url", url=camera.url)
            await first.expect("ready")
            await second.start("url", url=camera.url)
            assert (await second.expect("error", "overloaded"))["retry_after_s"] > 0
            await first.text(type="stop")
            await first.until("done")
            # The place is free once the camera is really let go.
            while True:
                await second.start("url", url=camera.url)
                if (await second.next())["type"] == "ready":
                    break
                await asyncio.sleep(0.2)

    with open_camera() as camera:
        asyncio.run(go(camera))
