"""The Python client, against a real server on loopback."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from streamseg import errors
from streamseg.client import AsyncClient, Client
from streamseg.client.connection import Pace
from streamseg.client.pictures import picture_bytes
from streamseg.client.wire import error_from, gather_prompts, pack, prompt_fields, stream_url, unpack
from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadSettingError,
    BadStateError,
    CancelledWorkError,
    ConnectionLostError,
    NotFoundError,
    StreamsegError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedMediaError,
)
from streamseg.media.image import decode_image
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.refine import RefineOptions

if TYPE_CHECKING:
    from pathlib import Path

    from streamseg.models.build import LoadedModel
    from streamseg.service.server import Server

# pycocotools calls numpy as it was before version 2.

CENTRE = (160.0, 120.0)


def disc(x: float = 160, y: float = 120) -> np.ndarray[Any, Any]:
    """A bright disc of radius 50 on a dark gradient: uint8 (240, 320, 3)."""
    rows, columns = np.mgrid[:240, :320]
    picture = np.stack([columns // 4, rows // 4, columns // 8], axis=2).astype(np.uint8)
    picture[(columns - x) ** 2 + (rows - y) ** 2 < 50**2] = (240, 200, 40)
    return picture


def jpeg(picture: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def break_connection(client: Client | AsyncClient) -> None:
    """Cut the wire as a failing network does, without a closing handshake."""
    inner = client._client if isinstance(client, Client) else client
    assert inner._connection is not None
    socket = inner._connection._socket
    socket.loop.call_soon_threadsafe(socket.transport.abort)


# Addresses


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:8000", "ws://127.0.0.1:8000/v1/stream"),
        ("localhost", "ws://localhost:8000/v1/stream"),
        ("[::1]:9000", "ws://[::1]:9000/v1/stream"),
        ("http://127.0.0.1:8000/", "ws://127.0.0.1:8000/v1/stream"),
        ("https://example.org", "wss://example.org/v1/stream"),
        ("wss://example.org/masks/", "wss://example.org/masks/v1/stream"),
        ("ws://example.org:81/v1/stream", "ws://example.org:81/v1/stream"),
    ],
)
def test_addresses_of_every_form_are_taken(given: str, meant: str) -> None:
    assert stream_url(given) == meant


@pytest.mark.parametrize("given", ["", "ftp://host", "http://", "host:port", "ws://u:p@host", "ws://host?x=1", "a b:1"])
def test_an_address_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(BadSettingError, match="server address"):
        stream_url(given)


# Messages


def test_binary_messages_come_back_as_they_went() -> None:
    header = {"type": "frame", "index": 3}
    assert unpack(pack(header, b"picture")) == (header, b"picture")


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", b"\0\0\0\x09{}", b"\xff\xff\xff\xff{}", b"\0\0\0\x02[]", b"\0\0\0\x01{"]
)
def test_a_damaged_binary_message_is_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessageError):
        unpack(data)


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, StreamsegError)]
)
def test_every_wire_code_becomes_an_error_of_its_class(kind: type[StreamsegError]) -> None:
    error = error_from({"code": kind.code, "message": "why", "request_id": "7", "retry_after_s": 2.0})
    assert error.code == kind.code
    assert kind.code == "internal" or type(error) is kind
    assert (error.message, error.request_id, error.retry_after_s) == ("why", "7", 2.0)


def test_an_unknown_code_keeps_its_name_in_the_message() -> None:
    error = error_from({"code": "brand_new", "message": "why"})
    assert type(error) is StreamsegError
    assert "brand_new" in error.message


def test_a_prompt_goes_over_the_wire_with_all_its_parts() -> None:
    prompt = Prompt(object_id=4, points_xy_px=np.array([[1, 2]]), labels=[0], box_xyxy_px=(1, 2, 3, 4))
    assert prompt_fields(prompt) == {
        "object_id": 4,
        "points_xy_px": [[1.0, 2.0]],
        "labels": [0],
        "box_xyxy_px": [1.0, 2.0, 3.0, 4.0],
    }
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert prompt_fields(Prompt(mask=mask))["mask"]["size"] == [4, 6]


def test_points_without_labels_belong_to_the_object_and_labels_alone_are_refused() -> None:
    (prompt,) = gather_prompts([(1, 2), (3, 4)], None, None, None)
    assert prompt.labels == (1, 1)
    with pytest.raises(BadPromptError):
        gather_prompts(None, [1], None, None)
    with pytest.raises(BadPromptError, match="list of"):
        gather_prompts(5, None, None, None)  # type: ignore[arg-type]


def test_a_client_stays_below_the_rate_that_it_was_told() -> None:
    async def send(count: int) -> float:
        pace = Pace()
        pace.learn({"messages_per_s": 100.0})
        began_s = asyncio.get_running_loop().time()
        for _ in range(count):
            await pace.wait()
        return asyncio.get_running_loop().time() - began_s

    assert asyncio.run(send(20)) < 0.2
    # 45 at once, then 90 a second.
    assert asyncio.run(send(63)) > 0.15


# Pictures


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    data = jpeg(disc())
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    assert picture_bytes(path) == picture_bytes(str(path)) == picture_bytes(data) == data
    assert picture_bytes(io.BytesIO(data)) == data


@pytest.mark.parametrize(
    "array",
    [
        disc(),
        disc()[:, :, 0],
        disc()[:, :, :1],
        np.dstack([disc(), np.full((240, 320), 128, np.uint8)]),
        disc()[:, :, 0] > 100,
        np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64),
        disc()[::-1, ::2],
    ],
)
def test_an_array_reaches_the_server_with_the_pixels_that_it_has_here(array: Any) -> None:
    assert np.array_equal(decode_image(picture_bytes(array)).rgb, decode_image(array).rgb)


def test_pil_images_arrive_upright_and_in_their_own_colours() -> None:
    picture = Image.fromarray(disc()[:, :200]).convert("CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    with Image.open(buffer) as turned:
        there = decode_image(picture_bytes(turned)).rgb
    with Image.open(buffer) as turned:
        here = decode_image(turned).rgb
    assert there.shape == here.shape == (200, 240, 3)
    assert np.abs(there.astype(int) - here).max() <= 1


def test_large_and_live_pictures_are_sent_as_jpeg() -> None:
    assert picture_bytes(np.zeros((2100, 2000, 3), np.uint8)).startswith(b"\xff\xd8")
    assert picture_bytes(disc(), live=True).startswith(b"\xff\xd8")
    assert picture_bytes(disc()).startswith(b"\x89PNG")


def test_what_is_no_picture_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        picture_bytes(tmp_path / "none.jpg")
    with pytest.raises(UnsupportedMediaError, match="cannot be read"):
        picture_bytes(tmp_path)
    with pytest.raises(UnsupportedMediaError, match="float64"):
        picture_bytes(np.zeros((4, 4, 3)))
    with pytest.raises(UnsupportedMediaError, match="int"):
        picture_bytes(7)  # type: ignore[arg-type]


# One picture


def test_the_client_needs_no_torch() -> None:
    program = "import sys, streamseg.client, streamseg.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_picture_gets_the_masks_that_the_model_gives_locally(client: Client, model: LoadedModel) -> None:
    from streamseg.api import Model

    prompts = [
        Prompt(object_id=3, points_xy_px=[CENTRE], labels=[1]),
        Prompt(object_id=8, box_xyxy_px=(100, 60, 220, 180)),
    ]
    result = client.segment(disc(), prompts=prompts)
    with Model(model) as local:
        expected = local.segment(disc(), prompts=prompts)
    assert (result.width, result.height) == (320, 240)
    assert [one.object_id for one in result.objects] == [3, 8]
    for there, here in zip(result.objects, expected.objects, strict=True):
        assert np.array_equal(there.mask, here.mask)
        assert there.score == pytest.approx(here.score, abs=1e-4)
    assert result.latency_ms is not None
    assert result.latency_ms > result.timings_ms["segment"]


def test_many_pictures_go_over_one_connection(client: Client) -> None:
    picture = jpeg(disc())
    first = client.segment(picture, points_xy_px=[CENTRE])
    connection = client._client._connection
    for _ in range(25):
        again = client.segment(picture, points_xy_px=[CENTRE])
        assert again.objects[0].area_px == first.objects[0].area_px
    assert client._client._connection is connection


@pytest.mark.parametrize(
    ("picture", "options", "kind"),
    [
        (b"", {"points_xy_px": [CENTRE]}, UnsupportedMediaError),
        (b"no picture", {"points_xy_px": [CENTRE]}, UnsupportedMediaError),
        (jpeg(disc()), {"points_xy_px": [(1e6, 0)]}, BadPromptError),
        (
            jpeg(disc()),
            {"prompts": [Prompt(points_xy_px=[CENTRE], labels=[1]), Prompt(2, 0, [(0, 240)], [1])]},
            BadPromptError,
        ),
        (jpeg(disc()), {"prompts": [Prompt(number, 0, [CENTRE], [1]) for number in range(65)]}, BadPromptError),
        (jpeg(disc()), {"points_xy_px": [CENTRE], "score_threshold": 1.5}, BadMessageError),
        (jpeg(disc()), {"points_xy_px": [CENTRE], "refine": {"colour": 1}}, BadMessageError),
        (bytes(32 * 2**20 + 1), {"points_xy_px": [CENTRE]}, TooLargeError),
    ],
)
def test_a_refusal_has_its_own_class_and_the_next_picture_goes_on(
    client: Client, picture: bytes, options: dict[str, Any], kind: type[StreamsegError]
) -> None:
    client.segment(jpeg(disc()), points_xy_px=[CENTRE])
    connection = client._client._connection
    with pytest.raises(kind):
        client.segment(picture, **options)
    assert client.segment(jpeg(disc()), points_xy_px=[CENTRE]).objects[0].area_px > 1000
    assert client._client._connection is connection


def test_a_call_without_prompt_says_what_to_give(client: Client) -> None:
    with pytest.raises(BadPromptError, match="say what to segment"):
        client.segment(disc())


def test_overlay_candidates_threshold_and_refinement_are_served(client: Client) -> None:
    result = client.segment(disc(), points_xy_px=[CENTRE], overlay=True, multimask=True, refine=RefineOptions.NONE)
    assert result.overlay_rgb().shape == (240, 320, 3)
    assert len(result.objects[0].candidates) == 2
    assert result.objects[0].candidates[0].mask.shape == (240, 320)
    result = client.segment(disc(), points_xy_px=[CENTRE], score_threshold=1.0, refine={"largest_only": True})
    assert result.objects[0].state == "low_score"
    assert not result.objects[0].mask.any()
    with pytest.raises(ValueError, match="overlay=True"):
        result.overlay_rgb()


def test_the_second_look_at_a_small_object_can_be_left_out(client: Client) -> None:
    picture = np.pad(disc(), ((0, 240), (0, 320), (0, 0)), mode="edge")
    given = {
        second_look: client.segment(picture, points_xy_px=[CENTRE], second_look=second_look).objects[0].mask
        for second_look in (True, False)
    }
    assert not np.array_equal(given[True], given[False])
    for second_look, mask in given.items():
        with client.image_session(picture, second_look=second_look) as session:
            assert np.array_equal(session.segment(points_xy_px=[CENTRE]).objects[0].mask, mask)


def test_a_broken_connection_is_opened_again_for_the_next_picture(client: Client) -> None:
    client.segment(disc(), points_xy_px=[CENTRE])
    break_connection(client)
    assert client.segment(disc(), points_xy_px=[CENTRE]).objects[0].area_px > 1000


def test_without_reconnect_a_broken_connection_is_an_error_once(server: Server) -> None:
    with Client(server.url, reconnect=False) as client:
        client.segment(disc(), points_xy_px=[CENTRE])
        break_connection(client)
        with pytest.raises(ConnectionLostError):
            client.segment(disc(), points_xy_px=[CENTRE])
        assert client.segment(disc(), points_xy_px=[CENTRE]).objects[0].area_px > 1000


def test_calls_from_several_tasks_take_turns(server: Server) -> None:
    async def many() -> list[int]:
        async with AsyncClient(server.url) as client:
            results = await asyncio.gather(
                *(client.segment(disc(x), points_xy_px=[(x, 120)]) for x in (80, 120, 160, 200))
            )
        return [round(np.mean(one.objects[0].box_xyxy_px[::2])) for one in results]  # type: ignore[index]

    assert asyncio.run(many()) == pytest.approx([80, 120, 160, 200], abs=6)


def test_a_cancelled_call_leaves_no_stale_answer_behind(server: Server) -> None:
    async def cancelled() -> float:
        async with AsyncClient(server.url) as client:
            await client.segment(disc(80), points_xy_px=[(80, 120)])
            task = asyncio.create_task(client.segment(disc(80), points_xy_px=[(80, 120)]))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            result = await client.segment(disc(240), points_xy_px=[(240, 120)])
        return float(np.mean(result.objects[0].box_xyxy_px[::2]))  # type: ignore[index]

    assert asyncio.run(cancelled()) == pytest.approx(240, abs=6)


def test_the_blocking_client_works_inside_a_running_event_loop(server: Server) -> None:
    async def notebook() -> int:
        with Client(server.url) as client:
            return client.segment(disc(), points_xy_px=[CENTRE]).objects[0].area_px

    assert asyncio.run(notebook()) > 1000


def test_a_closed_client_says_so_and_closes_twice(server: Server) -> None:
    client = Client(server.url)
    client.segment(disc(), points_xy_px=[CENTRE])
    client.close()
    client.close()
    with pytest.raises(BadStateError, match="closed"):
        client.segment(disc(), points_xy_px=[CENTRE])


def test_a_client_that_is_not_closed_does_not_keep_python_from_ending(server: Server) -> None:
    program = (
        "import sys, streamseg.client; client = streamseg.client.Client(sys.argv[1]); client.connect(); "
        "stream = client.stream(); print('done')"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


# Servers that are none, or want something


def test_no_server_is_one_clear_error() -> None:
    with pytest.raises(ConnectionLostError, match="no server answers at ws://127"), Client("127.0.0.1:1"):
        pass


def test_another_web_server_is_recognised() -> None:
    class Other(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            with pytest.raises(ConnectionLostError, match="HTTP 404"), Client(f"127.0.0.1:{other.server_port}"):
                pass
        finally:
            other.shutdown()
            thread.join()


@pytest.fixture
def guarded(model: LoadedModel) -> Iterator[Server]:
    """A server that wants a token and takes one session only."""
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    settings = load_settings(None, {"port": 0, "token": "right", "limits": {"max_sessions": 1}})
    with Server(settings, model) as running:
        yield running


def test_a_server_with_a_token_takes_that_token_only(guarded: Server) -> None:
    for token, message in ((None, r"--token or STREAMSEG_TOKEN"), ("wrong", "the token is wrong")):
        with pytest.raises(UnauthorizedError, match=message), Client(guarded.url, token):
            pass
    with Client(guarded.url, "right") as client:
        assert client.segment(disc(), points_xy_px=[CENTRE]).objects[0].area_px > 1000


def test_a_token_may_have_any_signs_and_is_never_quoted(model: LoadedModel) -> None:
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    token = "two words, #1 & ~"
    with Server(load_settings(None, {"port": 0, "token": token}), model) as running:
        with Client(running.url, token):
            pass
        with pytest.raises(UnauthorizedError) as caught, Client(running.url, token + "\n"):
            pass
        assert token not in str(caught.value)


def test_a_full_server_is_overloaded_with_a_time_to_wait(guarded: Server) -> None:
    with Client(guarded.url, "right"):
        with pytest.raises(errors.OverloadedError) as caught, Client(guarded.url, "right"):
            pass
        assert caught.value.retry_after_s is not None


# A kept picture


def test_clicks_on_a_kept_picture_add_up_and_reuse_its_embedding(client: Client) -> None:
    with client.image_session(jpeg(disc())) as session:
        one = session.segment(points_xy_px=[CENTRE])
        two = session.segment(points_xy_px=[(10, 10)], object_id=2)
        assert [found.object_id for found in two.objects] == [1, 2]
        assert np.array_equal(two.objects[0].mask, one.objects[0].mask)
        session.remove(1)
        three = session.segment(points_xy_px=[(20, 20)], labels=[0], object_id=2, replace=False)
        assert [found.object_id for found in three.objects] == [2]
        session.reset()
        four = session.segment(points_xy_px=[CENTRE], object_id=5)
        assert [found.object_id for found in four.objects] == [5]
        assert np.array_equal(four.objects[0].mask, one.objects[0].mask)


def test_a_refused_click_changes_nothing(client: Client) -> None:
    with client.image_session(disc()) as session:
        before = session.segment(points_xy_px=[CENTRE])
        with pytest.raises(BadPromptError, match="outside"):
            session.segment(points_xy_px=[(320, 0)])
        with pytest.raises(NotFoundError):
            session.remove(9)
        with pytest.raises(BadPromptError, match="say what"):
            session.segment()
        after = session.segment(points_xy_px=[(10, 10)], object_id=2)
        assert np.array_equal(after.objects[0].mask, before.objects[0].mask)


def test_a_kept_picture_that_is_none_is_refused_when_it_is_sent(client: Client) -> None:
    with pytest.raises(UnsupportedMediaError):
        client.image_session(b"no picture")


def test_a_kept_picture_survives_a_broken_connection_with_all_that_was_said(server: Server) -> None:
    async def click_break_click() -> tuple[list[int], list[int]]:
        async with AsyncClient(server.url) as client, await client.image_session(disc()) as session:
            await session.segment(points_xy_px=[CENTRE])
            await session.segment(points_xy_px=[(5, 5)], object_id=6)
            before = await session.segment(points_xy_px=[(10, 10)], object_id=2)
            await session.remove(6)
            assert session._connection is not None
            session._connection._socket.transport.abort()
            after = await session.segment(points_xy_px=[(300, 10)], object_id=3)
        assert np.array_equal(before.objects[0].mask, after.objects[0].mask)
        return [one.object_id for one in before.objects], [one.object_id for one in after.objects]

    assert asyncio.run(click_break_click()) == ([1, 6, 2], [1, 2, 3])


# Live frames


def test_each_frame_of_a_stream_gets_its_own_result_when_waited_for(client: Client) -> None:
    with client.stream(prompts=[Prompt(points_xy_px=[(100, 120)], labels=[1])], overlay=True) as stream:
        for number, x in enumerate((100, 104, 108, 112)):
            result = stream.segment(disc(x), time_s=number / 10)
            assert (result.index, result.time_s) == (number, pytest.approx(number / 10))
            assert result.objects[0].state == "tracked"
            assert result.overlay_rgb().shape == (240, 320, 3)
            assert result.latency_ms is not None
            assert result.latency_ms >= result.timings_ms["segment"]


def test_frames_that_are_sent_come_back_in_order_and_the_newest_is_among_them(client: Client) -> None:
    with client.stream(prompts=[Prompt(points_xy_px=[CENTRE], labels=[1])]) as stream:
        frame = jpeg(disc())
        sent = [stream.send(frame) for _ in range(20)]
        stream.stop()
        results = list(stream)
        indices = [one.index for one in results]
        assert indices == sorted(set(indices))
        assert indices[-1] == sent[-1] == 19
        assert len(indices) + results[-1].dropped == 20
        assert stream.poll() == []
        with pytest.raises(CancelledWorkError):
            stream.send(frame)


def test_prompts_of_a_stream_are_answered_and_hold_from_the_next_frame(client: Client) -> None:
    with client.stream() as stream:
        assert stream.segment(disc()).objects == ()
        stream.prompt(Prompt(object_id=7, points_xy_px=[CENTRE], labels=[1]))
        assert [one.object_id for one in stream.segment(disc()).objects] == [7]
        with pytest.raises(BadPromptError, match="outside"):
            stream.prompt(Prompt(points_xy_px=[(999, 0)], labels=[1]))
        with pytest.raises(NotFoundError):
            stream.remove(1)
        stream.remove(7)
        assert stream.segment(disc()).objects == ()
        stream.prompt(Prompt(object_id=8, points_xy_px=[CENTRE], labels=[1]), replace=True)
        stream.reset()
        assert stream.segment(disc()).objects == ()


def test_a_bad_frame_raises_and_the_stream_goes_on(client: Client) -> None:
    with client.stream(prompts=[Prompt(points_xy_px=[CENTRE], labels=[1])]) as stream:
        with pytest.raises(UnsupportedMediaError):
            stream.segment(b"no picture")
        stream.send(b"no picture")
        with pytest.raises(UnsupportedMediaError):
            next(stream)
        stream.send(disc())
        assert next(stream).objects[0].area_px > 1000
        with pytest.raises(BadStateError, match="must grow"):
            stream.send(disc(), index=0)


def test_a_stream_that_starts_with_an_impossible_option_is_refused(client: Client) -> None:
    with pytest.raises(BadMessageError, match="score_threshold"):
        client.stream(score_threshold=7)


def test_asynchronous_iteration_ends_with_the_stream(server: Server) -> None:
    async def run() -> list[int]:
        async with AsyncClient(server.url) as client, await client.stream() as stream:
            for number in range(3):
                await stream.send(disc(), index=2 * number)
            await stream.stop()
            return [one.index async for one in stream]

    assert asyncio.run(run())[-1] == 4


def test_a_server_that_ends_is_a_lost_connection(model: LoadedModel) -> None:
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    with ExitStack() as stack:
        server = Server(load_settings(None, {"port": 0}), model)
        server.start()
        stack.callback(server.stop)
        client = stack.enter_context(Client(server.url))
        stream = stack.enter_context(client.stream())
        server.stop()
        with pytest.raises(ConnectionLostError):
            next(stream)
        with pytest.raises(ConnectionLostError):
            stream.poll()
        with pytest.raises(ConnectionLostError):
            client.segment(disc(), points_xy_px=[CENTRE])
