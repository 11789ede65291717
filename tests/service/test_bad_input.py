"""Bad input over a real websocket: each a named error, and the same connection then segments a picture."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from wire_client import CLICK, HEIGHT, WIDTH, closing_of, eventually, frees_everything, open_wire, pack, picture

from streamseg.pipeline import Pipeline
from streamseg.service.server import Server


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """About 100 kB that unpack to 100 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_PICTURES: list[tuple[str, bytes, str]] = [
    ("not an image", b"this is a text and no image", "unsupported_media"),
    ("empty file", b"", "unsupported_media"),
    ("cut off", picture()[:200], "unsupported_media"),
    ("20,000 x 20,000 header", png_header(20_000, 20_000), "too_large"),
    ("bomb", bomb(), "too_large"),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_media"),
    ("no pixels", png_header(0, 0), "unsupported_media"),
]


@pytest.mark.parametrize(("payload", "code"), [row[1:] for row in BAD_PICTURES], ids=[row[0] for row in BAD_PICTURES])
def test_a_bad_picture_is_named_on_every_source(server: Server, payload: bytes, code: str) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(prompts=[CLICK])
            await wire.expect("ready")
            await wire.frame(payload, index=5, request_id="f")
            error = await wire.expect("error", code)
            assert (error["index"], error["request_id"]) == (5, "f")
            assert "\n" not in error["message"]
            assert (await wire.expect("done"))["frames"] == 0

            await wire.start("frames", prompts=[CLICK])
            await wire.expect("ready")
            await wire.frame(payload)
            await wire.expect("error", code)
            await wire.frame()
            assert len((await wire.expect("result"))["objects"]) == 1
            await wire.text(type="stop")
            assert (await wire.expect("done"))["frames"] == 1

            await wire.start(keep=True, prompts=[CLICK])
            await wire.expect("ready")
            await wire.frame(payload)
            await wire.expect("error", code)
            await wire.frame()
            await wire.expect("result")
            await wire.text(type="stop")
            await wire.expect("done")

    asyncio.run(go())


def test_a_single_pixel_is_a_picture(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(prompts=[{"object_id": 1, "points_xy_px": [[0, 0]], "labels": [1]}])
            await wire.frame(picture(1, 1, "PNG"))
            result = (await wire.until("done"))[1]
            assert (result["type"], result["width"], result["height"]) == ("result", 1, 1)

    asyncio.run(go())


BAD_MESSAGES: list[tuple[str, str | bytes, str]] = [
    ("no JSON", "hello", "bad_message"),
    ("empty text", "", "bad_message"),
    ("unknown type", '{"type": "dance"}', "bad_message"),
    ("wrong version", '{"type": "start", "version": 2, "source": "image"}', "unsupported_version"),
    ("unknown field", '{"type": "stop", "now": true}', "bad_message"),
    ("NaN", '{"type": "prompt", "object_id": 1, "points_xy_px": [[NaN, 1]], "labels": [1]}', "bad_message"),
    ("infinity", '{"type": "prompt", "object_id": 1, "points_xy_px": [[1e999, 1]], "labels": [1]}', "bad_message"),
    ("boolean", '{"type": "prompt", "object_id": true, "points_xy_px": [[1, 1]], "labels": [1]}', "bad_message"),
    ("deep", "[" * 100_000, "bad_message"),
    ("long", '{"type": "' + "x" * 2**20 + '"}', "too_large"),
    ("empty binary", b"", "bad_message"),
    ("a bare JPEG", picture(), "bad_message"),
    ("binary before start", pack({"type": "frame"}, picture()), "bad_state"),
    ("prompt before start", '{"type": "prompt", "object_id": 1}', "bad_state"),
    ("stop before start", '{"type": "stop"}', "bad_state"),
]


@pytest.mark.parametrize(("message", "code"), [row[1:] for row in BAD_MESSAGES], ids=[row[0] for row in BAD_MESSAGES])
def test_a_bad_message_is_named_and_the_connection_goes_on(server: Server, message: str | bytes, code: str) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.socket.send(message)
            error = await wire.expect("error", code)
            assert "\n" not in error["message"]
            assert len(error["message"]) < 300
            await wire.segment()

    asyncio.run(go())


BAD_PROMPTS: list[tuple[str, dict[str, Any]]] = [
    ("label without point", {"labels": [1]}),
    ("point without label", {"points_xy_px": [[1, 1]]}),
    ("label 2", {"points_xy_px": [[1, 1]], "labels": [2]}),
    ("nothing", {}),
    ("right of the frame", {"points_xy_px": [[WIDTH, 1]], "labels": [1]}),
    ("below the frame", {"points_xy_px": [[1, HEIGHT]], "labels": [1]}),
    ("negative", {"points_xy_px": [[-0.5, 1]], "labels": [1]}),
    ("box without area", {"box_xyxy_px": [4, 4, 4, 8]}),
    ("box outside", {"box_xyxy_px": [0, 0, WIDTH + 1, 8]}),
    ("too many points", {"points_xy_px": [[1, 1]] * 65, "labels": [1] * 65}),
    ("mask of another size", {"mask": {"size": [2, 2], "counts": "13"}}),
    ("damaged mask", {"mask": {"size": [HEIGHT, WIDTH], "counts": "oops"}}),
    ("mask bomb", {"mask": {"size": [60_000, 60_000], "counts": "0"}}),
    ("frame of the future", {"frame": 9, "points_xy_px": [[1, 1]], "labels": [1]}),
]


@pytest.mark.parametrize("fields", [row[1] for row in BAD_PROMPTS], ids=[row[0] for row in BAD_PROMPTS])
def test_a_bad_prompt_is_named_and_the_object_keeps_what_it_had(server: Server, fields: dict[str, Any]) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(keep=True, prompts=[CLICK])
            await wire.frame()
            before = (await wire.until("result"))[-1]["objects"]
            await wire.text(type="prompt", object_id=1, request_id="p", **fields)
            error = await wire.expect("error", "bad_prompt")
            assert error["request_id"] == "p"
            await wire.text(type="prompt", object_id=2, points_xy_px=[[1, 1]], labels=[1])
            await wire.expect("ok")
            assert (await wire.expect("result"))["objects"][0] == before[0]

    asyncio.run(go())


def test_a_prompt_outside_the_frame_is_named_when_the_frame_comes(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            outside = {"object_id": 2, "points_xy_px": [[5000, 1]], "labels": [1]}
            await wire.start(prompts=[CLICK, outside], request_id="s")
            await wire.frame()
            ready, error, result, done = [await wire.next() for _ in range(4)]
            assert (ready["type"], error["type"], done["type"]) == ("ready", "error", "done")
            assert (error["code"], error["request_id"], error["index"]) == ("bad_prompt", "s", 0)
            assert "5000" in error["message"]
            assert [one["object_id"] for one in result["objects"]] == [1]

            await wire.start("frames")
            await wire.text(type="prompt", request_id="p", **outside)
            assert [one["type"] for one in [await wire.next(), await wire.next()]] == ["ready", "ok"]
            await wire.frame()
            assert (await wire.expect("error", "bad_prompt"))["request_id"] == "p"
            assert (await wire.expect("result"))["objects"] == []

    asyncio.run(go())


@pytest.mark.parametrize(
    "prompt", [{"object_id": 1, "labels": [1]}, {"object_id": 1}, {"object_id": 1, "box_xyxy_px": [5, 5, 1, 1]}]
)
def test_a_start_with_a_prompt_that_cannot_be_meant_is_refused(server: Server, prompt: dict[str, Any]) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(prompts=[prompt], request_id="s")
            assert (await wire.expect("error", "bad_prompt"))["request_id"] == "s"
            await wire.segment()

    asyncio.run(go())
    assert frees_everything(server)


def test_a_second_start_does_not_disturb_the_first(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(prompts=[CLICK], request_id="first")
            await wire.start("frames", request_id="second")
            await wire.frame()
            got = {one["type"]: one for one in await wire.until("done")}
            assert (got["error"]["code"], got["error"]["request_id"]) == ("bad_state", "second")
            assert got["ready"]["request_id"] == "first"
            assert len(got["result"]["objects"]) == 1

    asyncio.run(go())


def test_a_client_lowers_limits_but_never_raises_them(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            limits = {"max_objects": 1, "max_points": 10**9, "max_image_pixels": 100}
            await wire.start(keep=True, limits=limits, prompts=[CLICK])
            held = (await wire.expect("ready"))["limits"]
            assert (held["max_objects"], held["max_points"], held["max_image_pixels"]) == (1, 64, 100)
            await wire.frame()
            await wire.expect("error", "too_large")
            await wire.text(type="prompt", object_id=2, points_xy_px=[[1, 1]], labels=[1])
            await wire.expect("error", "bad_prompt")

    asyncio.run(go())


def test_an_image_file_over_the_limit_is_refused(make_server: Callable[..., Server]) -> None:
    async def go(server: Server) -> None:
        async with open_wire(server) as wire:
            await wire.start("frames")
            await wire.expect("ready")
            await wire.frame(picture() + b"\0" * 5000)
            await wire.expect("error", "too_large")
            await wire.frame()
            await wire.expect("result")

    asyncio.run(go(make_server({"max_image_bytes": 4000})))


def test_a_giant_message_closes_with_1009(make_server: Callable[..., Server]) -> None:
    server = make_server({"max_message_bytes": 10_000})

    async def go(message: str | bytes) -> None:
        async with open_wire(server) as wire:

            async def send() -> None:
                await wire.socket.send(message)
                await wire.next()

            assert (await closing_of(send()))[0] == 1009

    asyncio.run(go("x" * 20_000))
    asyncio.run(go(b"x" * 20_000))
    assert frees_everything(server)


def test_a_fault_of_ours_is_a_number_for_the_client_and_a_trace_in_the_log(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("a secret of the server")

    async def go() -> str:
        async with open_wire(server) as wire:
            with monkeypatch.context() as patched:
                patched.setattr(Pipeline, "run", broken)
                await wire.start(prompts=[CLICK])
                await wire.expect("ready")
                await wire.frame()
                message = (await wire.expect("error", "internal"))["message"]
                await wire.expect("done")
            await wire.segment()
            return str(message)

    message = asyncio.run(go())
    assert "secret" not in message
    number = message.split()[-1]
    assert eventually(lambda: any(number in one.getMessage() and one.exc_info for one in caplog.records))
