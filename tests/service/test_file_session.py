"""Video files over a real websocket: upload, results while they are processed, downloads, early ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed
from wire_client import CLICK, HEIGHT, WIDTH, Wire, check, eventually, frees_everything, metric, open_wire

from streamseg.errors import BadSettingError
from streamseg.media.frame import RgbImage
from streamseg.media.untrusted import UntrustedVideo
from streamseg.segmentation.masks import FrameResult, MaskRegion
from streamseg.segmentation.prompts import Prompt
from streamseg.service import line as line_module
from streamseg.service.protocol.client_messages import CHUNK_BYTES, WINDOW_BYTES
from streamseg.service.server import Server
from tests.media import bad_decoders
from tests.media.make_video import make_video

FPS = 10
FRAMES = 12


def square(index: int) -> RgbImage:
    """A bright square that moves to the right by a pixel a frame."""
    rgb = np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    rgb[12:36, 14 + index % 10 : 46 + index % 10] = (240, 90, 30)
    return rgb


def clip(frames: int = FRAMES, **options: Any) -> bytes:
    pictures = [square(index) for index in range(frames)]
    return make_video(frames=frames, size=(WIDTH, HEIGHT), fps=FPS, pictures=pictures, **options)


@pytest.fixture(scope="module")
def short() -> bytes:
    return clip()


@pytest.fixture(scope="module")
def long() -> bytes:
    """More than can be processed before a test has looked."""
    return clip(frames=600)


@pytest.fixture
def files(make_server: Callable[..., Server], tmp_path: Path) -> Callable[..., tuple[Server, Path]]:
    """A server, and the folder where its files are."""

    def make(limits: dict[str, Any] | None = None, **fields: Any) -> tuple[Server, Path]:
        folder = tmp_path / "data"
        return make_server(limits, data_dir=folder, **fields), folder

    return make


def jobs_in(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.name != "lock"]


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert eventually(lambda: children() <= before)


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


async def process(wire: Wire, data: bytes, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A whole session: its results, and its `done`."""
    await wire.file(data, **fields)
    got = await wire.until("done")
    for message in got:
        check(message)
    assert {one["type"] for one in got} <= {"result", "progress", "done"}, got
    return [one for one in got if one["type"] == "result"], got[-1]


def urls(done: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: file["url"] for file in done["files"]}


def test_a_video_with_sound_is_segmented_and_its_results_downloaded(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            count = 6
            results, done = await process(wire, clip(count, sound="aac"), name="a clip.mp4", request_id="s")
            assert [one["index"] for one in results] == list(range(count))
            assert [one["time_s"] for one in results] == [pytest.approx(i / FPS, abs=1e-3) for i in range(count)]
            assert (results[0]["width"], results[0]["height"]) == (WIDTH, HEIGHT)
            assert results[0]["objects"][0]["state"] == "tracked"
            assert (done["frames"], done["dropped"], done["problems"]) == (count, 0, [])
            assert [file["media_type"] for file in done["files"]] == ["video/mp4", "application/jsonl"]

            status, headers, lines = get(server, urls(done)["masks.jsonl"])
            assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
            frames = [FrameResult.from_json(json.loads(line)) for line in lines.splitlines()]
            for frame, sent in zip(frames, results, strict=True):
                assert [one.region.to_rle() for one in frame.objects] == [one["rle"] for one in sent["objects"]]

            status, headers, video = get(server, urls(done)["overlay.mp4"])
            assert (status, headers["Content-Type"]) == (200, "video/mp4")
            assert len(video) == done["files"][0]["bytes"]
            with av.open(io.BytesIO(video)) as overlay:
                assert [stream.type for stream in overlay.streams] == ["video", "audio"]
                assert sum(1 for _ in overlay.decode(video=0)) == count
            # The connection is free for the next session.
            await wire.segment()

    asyncio.run(go())
    assert frees_everything(server)


def test_masks_of_the_stream_come_as_asked(server: Server, short: bytes) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            results, done = await process(wire, short, masks="none", video=None, sampling={"every": 6})
            assert not {"rle", "polygons"} & set(results[0]["objects"][0])
            assert list(urls(done)) == ["masks.jsonl"]
            assert b'"counts"' in get(server, urls(done)["masks.jsonl"])[2]
            results, done = await process(
                wire, short, masks="polygons", video={"container": "webm"}, sampling={"every": 6}
            )
            assert results[0]["objects"][0]["polygons"]
            assert list(urls(done)) == ["overlay.webm", "masks.jsonl"]
            assert done["files"][0]["media_type"] == "video/webm"

    asyncio.run(go())


def test_sampling_picks_frames_and_held_ones_are_only_in_the_files(server: Server, short: bytes) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            # A picture every 0.1 s.
            rule = {"every": 3, "start_s": 0.2, "end_s": 0.9, "hold": True}
            results, done = await process(wire, short, sampling=rule, prompts=[CLICK | {"frame": 2}])
            assert [one["index"] for one in results] == [2, 5, 8]
            lines = [json.loads(line) for line in get(server, urls(done)["masks.jsonl"])[2].splitlines()]
            assert [line["index"] for line in lines] == [2, 3, 4, 5, 6, 7, 8]
            assert [line.get("held", False) for line in lines] == [False, True, True, False, True, True, False]
            results, _ = await process(wire, short, sampling={"fps": 2.5}, video=None)
            assert [one["index"] for one in results] == [0, 4, 8]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("moment", "frame"),
    [
        ({"frame": 4}, 4),
        ({"time_s": 0.3999}, 4),
        ({"time_s": 0.47}, 4),
        ({"time_s": 0.0}, 0),
        ({"time_s": 99.0}, FRAMES - 1),
    ],
)
def test_a_prompt_is_on_the_frame_that_it_names_or_that_is_shown_then(
    server: Server, short: bytes, moment: dict[str, Any], frame: int
) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            # Frames that sampling leaves out are segmented where a prompt names them.
            rule = {"every": 100}
            results, _ = await process(wire, short, sampling=rule, prompts=[CLICK | moment], video=None)
            assert [one["index"] for one in results] == sorted({0, frame})
            assert [one["objects"][0]["state"] == "lost" for one in results][:-1] == [True] * (len(results) - 1)
            assert results[-1]["objects"][0]["state"] != "lost"

    asyncio.run(go())


def test_a_prompt_in_a_long_gap_is_on_the_frame_that_is_still_shown(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            data = clip(frames=4, times_s=[0.0, 0.1, 0.2, 5.0])
            results, _ = await process(wire, data, prompts=[CLICK | {"time_s": 4.0}], video=None)
            assert [one["objects"][0]["state"] == "lost" for one in results] == [True, True, False, False]

    asyncio.run(go())


def test_prompts_come_while_the_file_is_on_its_way(server: Server, short: bytes) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("file", size_bytes=len(short), prompts=[CLICK])
            await wire.expect("ready")
            await wire.chunk(0, short[:1000])
            await wire.expect("received")
            await wire.text(type="prompt", request_id="p", object_id=2, box_xyxy_px=[14, 12, 46, 36])
            assert await wire.expect("ok") == {"type": "ok", "of": "prompt", "request_id": "p"}
            await wire.text(type="prompt", object_id=3, labels=[1])
            await wire.expect("error", "bad_prompt")
            await wire.text(type="remove", object_id=9)
            await wire.expect("error", "not_found")
            await wire.text(type="remove", object_id=1)
            await wire.expect("ok")
            await wire.chunk(1000, short[1000:], last=True)
            got = await wire.until("done")
            results = [one for one in got if one["type"] == "result"]
            assert [one["object_id"] for one in results[0]["objects"]] == [2]

    asyncio.run(go())


HUGE = MaskRegion.from_mask(np.ones((7000, 7000), bool)).to_rle()


@pytest.mark.parametrize("source", ["file", "frames"])
def test_prompts_of_few_characters_may_not_unpack_to_much(server: Server, source: str) -> None:
    prompts = [{"object_id": index, "mask": HUGE} for index in range(1, 10)]

    async def go() -> None:
        async with open_wire(server) as wire:
            size = {"size_bytes": 1000} if source == "file" else {}
            await wire.start(source, prompts=prompts, **size)
            assert "441,000,000 pixels" in (await wire.expect("error", "too_large"))["message"]

    asyncio.run(go())


def is_huge(one: object) -> bool:
    # A weak reference's target may be gone, so no isinstance.
    return type(one) is Prompt and one.mask is not None and one.mask.size == 7000 * 7000


def test_what_failed_leaves_no_masks_in_memory(server: Server, short: bytes) -> None:
    """Not even until a garbage collection: a quiet server may not have one for hours."""

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(short, prompts=[{"object_id": 1, "mask": HUGE}], video=None)
            assert (await wire.until("error"))[-1]["code"] == "bad_prompt"
            await wire.until("done")

    gc.collect()
    gc.disable()
    try:
        asyncio.run(go())
        assert eventually(lambda: not any(is_huge(one) for one in gc.get_objects()))
    finally:
        gc.enable()


def test_a_file_needs_a_prompt_that_fits_it(server: Server, short: bytes) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(short, prompts=[])
            assert "needs a prompt" in (await wire.expect("error", "bad_prompt"))["message"]
            assert "files" not in await wire.expect("done")
            await wire.file(short, prompts=[CLICK | {"points_xy_px": [[640, 2]]}], request_id="s")
            error = await wire.expect("error", "bad_prompt")
            assert ("640" in error["message"], error["request_id"]) == (True, "s")
            await wire.expect("done")

    asyncio.run(go())


def test_stop_midway_leaves_valid_files_of_what_was_done(server: Server, long: bytes) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(long, masks="none")
            got = await wire.until("result")
            await wire.text(type="stop", request_id="e")
            got += await wire.until("done")
            done, results = got[-1], [one for one in got if one["type"] == "result"]
            assert (done["request_id"], done["frames"]) == ("e", len(results))
            assert 1 <= len(results) < 300
            lines = get(server, urls(done)["masks.jsonl"])[2].splitlines()
            assert [json.loads(line)["index"] for line in lines] == [one["index"] for one in results]
            with av.open(io.BytesIO(get(server, urls(done)["overlay.mp4"])[2])) as overlay:
                assert sum(1 for _ in overlay.decode(video=0)) == len(results)

    asyncio.run(go())


@pytest.mark.parametrize("when", ["upload", "result"])
def test_a_client_that_leaves_takes_everything_with_it(
    files: Callable[..., tuple[Server, Path]], long: bytes, when: str
) -> None:
    server, folder = files()

    async def go() -> None:
        async with open_wire(server) as wire:
            if when == "upload":
                await wire.start("file", size_bytes=len(long), prompts=[CLICK])
                await wire.expect("ready")
                await wire.chunk(0, long[:5000])
                await wire.expect("received")
            else:
                await wire.file(long)
                await wire.until("result")
                assert metric(server, "file_jobs") == 1
                assert children()
            assert len(jobs_in(folder)) == 1
            wire.socket.transport.abort()

    asyncio.run(go())
    assert eventually(lambda: not jobs_in(folder), within_s=5)
    assert eventually(lambda: not children(), within_s=5)
    assert frees_everything(server)
    assert metric(server, "file_jobs") == 0
    assert metric(server, "files_bytes") == 0


def test_a_client_that_does_not_read_slows_its_file_down(
    files: Callable[..., tuple[Server, Path]], long: bytes
) -> None:
    """Results of polygons of many objects fill what the sockets hold; the work then waits for the client."""
    server, _ = files({"send_timeout_s": 60.0})

    async def go() -> None:
        many = [CLICK | {"object_id": name} for name in range(1, 17)]
        async with open_wire(server, max_queue=1) as wire:
            await wire.file(long, prompts=many, masks="polygons", video=None, refine={"min_area_px": 0})
            await wire.until("result")
            await asyncio.sleep(0.5)
            await wire.text(type="stop")
            got = await wire.until("done")
            frames = [one["index"] for one in got if one["type"] == "result"]
            assert frames == list(range(1, 1 + len(frames)))

    asyncio.run(go())


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([(5, b"abc", {})], "the next one is 0"),
        ([(0, bytes(200), {})], "beyond its size_bytes"),
        ([(0, bytes(50), {"last": True})], "ends at 50"),
        ([(0, bytes(CHUNK_BYTES + 1), {})], "at most 1048576"),
    ],
)
def test_a_file_that_is_not_what_was_announced_is_refused_and_deleted(
    files: Callable[..., tuple[Server, Path]], chunks: list[Any], says: str, short: bytes
) -> None:
    server, folder = files()

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("file", size_bytes=100, prompts=[CLICK])
            await wire.expect("ready")
            for offset, data, header in chunks:
                await wire.chunk(offset, data, **header)
            # Pieces that were on their way are passed over.
            await wire.chunk(7, b"abc")
            assert says in (await wire.expect("error", "bad_message"))["message"]
            assert (await wire.expect("done"))["frames"] == 0
            assert eventually(lambda: not jobs_in(folder))
            await process(wire, short, sampling={"every": 100})

    asyncio.run(go())


def test_a_client_that_overruns_the_window_is_told_so(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            size = 8 * WINDOW_BYTES
            await wire.start("file", size_bytes=size, prompts=[CLICK])
            for offset in range(0, size, CHUNK_BYTES):
                await wire.chunk(offset, bytes(CHUNK_BYTES))
            got = await wire.until("done")
            kinds = [one["type"] for one in got]
            # Pieces that did not wait for it may be refused before it.
            assert "ready" in kinds
            # Where the disk keeps up, nothing is overrun, and the zeros turn out to be no video.
            error = next(one for one in got if one["type"] == "error")
            assert error["code"] in ("bad_message", "unsupported_media")
            if error["code"] == "bad_message":
                assert "window_bytes" in error["message"]
            await wire.segment()

    asyncio.run(go())


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/hostname\n"


@pytest.mark.parametrize(
    "data",
    [b"no video at all", PLAYLIST, CONCAT, b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + PLAYLIST, b"\0" * 99],
    ids=["text", "playlist", "concat", "dressed", "zeros"],
)
def test_what_is_no_video_is_refused_by_name_and_deleted(
    files: Callable[..., tuple[Server, Path]], data: bytes
) -> None:
    server, folder = files()

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(data, name="clip.mp4")
            error = await wire.expect("error", "unsupported_media")
            assert str(folder) not in error["message"]
            assert (await wire.expect("done"))["frames"] == 0
            assert jobs_in(folder) == []
            await wire.segment()

    asyncio.run(go())


def test_a_file_that_crashes_its_decoder_fails_alone(
    files: Callable[..., tuple[Server, Path]], short: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = files()

    async def go() -> None:
        async with open_wire(server) as wire:
            with monkeypatch.context() as patch:
                patch.setattr(UntrustedVideo, "entry", f"{bad_decoders.__name__}:crash_after_a_frame")
                await wire.file(short)
                await wire.expect("error", "unsupported_media")
                await wire.expect("done")
                assert jobs_in(folder) == []
            await process(wire, short, sampling={"every": 100})

    asyncio.run(go())


async def end_while_decoding(server: Server, data: bytes, leave: bool, **fields: Any) -> dict[str, Any] | None:
    """Leave, or stop and say what came of it, once a child process decodes."""
    async with open_wire(server) as wire:
        await wire.file(data, **fields)
        assert await asyncio.to_thread(eventually, lambda: bool(children()))
        await asyncio.sleep(1.0)
        if leave:
            wire.socket.transport.abort()
            return None
        await wire.text(type="stop")
        return (await wire.until("done"))[-1]


@pytest.mark.parametrize("leave", [False, True], ids=["stop", "leave"])
def test_a_decoder_that_hangs_does_not_hold_up_the_end(
    files: Callable[..., tuple[Server, Path]], short: bytes, monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    server, folder = files()
    monkeypatch.setattr(UntrustedVideo, "entry", f"{bad_decoders.__name__}:hang_after_a_frame")
    done = asyncio.run(end_while_decoding(server, short, leave, video=None))
    assert done is None or "files" in done
    assert eventually(lambda: not children(), within_s=5)
    assert eventually(lambda: bool(jobs_in(folder)) is not leave, within_s=5)
    assert frees_everything(server)


@pytest.mark.parametrize("leave", [False, True], ids=["stop", "leave"])
def test_a_file_that_is_looked_at_for_ever_does_not_hold_up_the_end(
    files: Callable[..., tuple[Server, Path]], short: bytes, monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    server, folder = files()
    monkeypatch.setattr(UntrustedVideo, "entry", f"{bad_decoders.__name__}:look_alive_for_ever")
    done = asyncio.run(end_while_decoding(server, short, leave))
    assert done is None or done["files"] == []
    assert eventually(lambda: not children() and not jobs_in(folder), within_s=5)
    assert frees_everything(server)
    assert metric(server, "file_jobs") == 0


def test_a_file_of_many_pieces_is_sent_within_the_window(server: Server, short: bytes) -> None:
    """The index of an MP4 may be followed by anything; here by more than the window."""

    async def go() -> None:
        async with open_wire(server) as wire:
            data = short + (WINDOW_BYTES + 1000).to_bytes(4, "big") + b"free" + bytes(WINDOW_BYTES + 992)
            await wire.start("file", size_bytes=len(data), prompts=[CLICK], sampling={"every": 100}, video=None)
            window_bytes = (await wire.expect("ready"))["window_bytes"]
            sent = received = 0
            while received < len(data):
                while sent < len(data) and min(sent + CHUNK_BYTES, len(data)) - received <= window_bytes:
                    await wire.chunk(sent, data[sent : sent + CHUNK_BYTES])
                    sent = min(sent + CHUNK_BYTES, len(data))
                received = (await wire.expect("received"))["bytes"]
            assert (await wire.until("done"))[-1]["frames"] == 1

    asyncio.run(go())


def test_a_video_cut_short_gives_what_can_be_read_and_says_so(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            whole = clip(frames=60, container="mpegts", codec="mpeg4")
            rule = {"every": 5}
            results, done = await process(wire, whole[: len(whole) // 2], masks="none", video=None, sampling=rule)
            assert 0 < len(results) < 12
            assert urls(done)

    asyncio.run(go())


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(files: Callable[..., tuple[Server, Path]]) -> None:
    server, folder = files({"max_video_bytes": 1000, "max_video_frames": 5})

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("file", size_bytes=1001, prompts=[CLICK], request_id="s")
            error = await wire.expect("error", "too_large")
            assert ("1000" in error["message"], error["request_id"]) == (True, "s")
            assert jobs_in(folder) == []

    asyncio.run(go())


def test_a_video_of_too_many_frames_is_too_large(files: Callable[..., tuple[Server, Path]], short: bytes) -> None:
    server, folder = files({"max_video_frames": 5})

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(short, sampling={"every": 100})
            got = await wire.until("done")
            assert [one["code"] for one in got if one["type"] == "error"] == ["too_large"]
            assert jobs_in(folder) == []

    asyncio.run(go())


def test_the_quota_refuses_what_does_not_fit_beside_files_in_work(
    files: Callable[..., tuple[Server, Path]], short: bytes
) -> None:
    server, _ = files({"files_quota_bytes": len(short) + 100_000})

    async def go() -> None:
        async with open_wire(server) as wire, open_wire(server) as other:
            await wire.start("file", size_bytes=len(short), prompts=[CLICK])
            await wire.expect("ready")
            await other.start("file", size_bytes=100_001, prompts=[CLICK])
            await other.chunk(0, bytes(100))
            error = await other.expect("error", "overloaded")
            assert error["retry_after_s"] > 0
            # The first one is not touched, and its end makes room.
            await wire.upload(short)
            done = (await wire.until("done"))[-1]
            await other.start("file", size_bytes=len(short) + 99_000, prompts=[CLICK])
            await other.expect("ready")
            assert get(server, urls(done)["masks.jsonl"])[0] == 404

    asyncio.run(go())


def test_files_wait_for_their_turn_and_are_told_their_place(
    files: Callable[..., tuple[Server, Path]], long: bytes, short: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "TELL_EVERY_S", 0.1)
    server, _ = files({"max_file_jobs": 1, "idle_timeout_s": 0.5})

    async def go() -> None:
        async with contextlib.AsyncExitStack() as wires:
            wire = await wires.enter_async_context(open_wire(server))
            await wire.file(long, masks="none", video=None)
            await wire.until("result")
            second = await wires.enter_async_context(open_wire(server))
            await second.file(short, masks="none", sampling={"every": 6}, video=None)
            assert (await second.expect("progress"))["waiting"] == 1
            third = await wires.enter_async_context(open_wire(server))
            await third.file(short, masks="none", sampling={"every": 6}, video=None)
            assert (await third.expect("progress"))["waiting"] == 2
            # Longer than the idle time: whoever waits is not idle.
            await asyncio.sleep(0.8)
            assert metric(server, "file_jobs_waiting") == 2
            # Whoever stops in the line has nothing, and moves the others up.
            await second.text(type="stop")
            assert "frames" in (await second.until("done"))[-1]
            await wire.text(type="stop")
            await wire.until("done")
            got = await third.until("done")
            assert [one["waiting"] for one in got if one["type"] == "progress" and "waiting" in one][-1] == 1
            assert got[-1]["frames"] == FRAMES // 6

    asyncio.run(go())


def test_more_files_than_may_wait_are_refused_at_their_start(
    files: Callable[..., tuple[Server, Path]], short: bytes
) -> None:
    server, folder = files({"max_file_jobs": 1})

    async def go() -> None:
        async with open_wire(server) as a, open_wire(server) as b, open_wire(server) as c, open_wire(server) as d:
            for wire in (a, b, c, d):
                await wire.start("file", size_bytes=10, prompts=[CLICK])
                await wire.expect("ready")
            async with open_wire(server) as wire:
                await wire.start("file", size_bytes=10, prompts=[CLICK])
                await wire.expect("error", "overloaded")
                await d.text(type="stop")
                await d.expect("done")
                await wire.start("file", size_bytes=10, prompts=[CLICK])
                await wire.expect("ready")
                assert eventually(lambda: len(jobs_in(folder)) == 4)

    asyncio.run(go())


def test_progress_comes_at_most_twice_a_second(server: Server) -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with open_wire(server) as wire:
            await wire.file(clip(frames=30), masks="none", video=None)
            began, seen = loop.time(), []
            while (message := await wire.next())["type"] != "done":
                if message["type"] == "progress":
                    seen.append(message)
            assert 1 <= len(seen) <= 2 + 2 * (loop.time() - began)
            last = seen[-1]
            assert 0 < last["frames"] <= 30
            assert last["fps"] > 0

    asyncio.run(go())


def test_results_are_deleted_when_their_time_is_over(files: Callable[..., tuple[Server, Path]], short: bytes) -> None:
    server, folder = files({"files_ttl_s": 1.0})

    async def go() -> None:
        async with open_wire(server) as wire:
            _, done = await process(wire, short, sampling={"every": 100})
            assert eventually(lambda: jobs_in(folder) == [], within_s=60)
            assert get(server, urls(done)["masks.jsonl"])[0] == 404

    asyncio.run(go())


def test_the_server_ends_in_the_middle_of_a_file(files: Callable[..., tuple[Server, Path]], long: bytes) -> None:
    server, folder = files()

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(long, masks="none")
            await wire.until("result")
            await asyncio.to_thread(server.stop)
            with pytest.raises(ConnectionClosed) as closed:
                await wire.until("done")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012

    asyncio.run(go())
    assert jobs_in(folder) == []


# Downloads


@pytest.fixture(scope="module")
def done(server: Server, short: bytes) -> dict[str, Any]:
    """A finished session whose results can be downloaded."""

    async def go() -> dict[str, Any]:
        async with open_wire(server) as wire:
            return (await process(wire, short))[1]

    return asyncio.run(go())


def test_a_part_of_a_result_can_be_fetched(server: Server, done: dict[str, Any]) -> None:
    url = urls(done)["overlay.mp4"]
    whole = get(server, url)[2]
    status, headers, part = get(server, url, Range="bytes=10-19")
    assert (status, part) == (206, whole[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{len(whole)}"
    assert headers["Accept-Ranges"] == "bytes"
    assert get(server, url, Range="bytes=-5")[2] == whole[-5:]
    assert get(server, url, Range=f"bytes={len(whole)}-")[0] == 416
    status, headers, body = get(server, url, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(whole)), b"")


def test_a_result_is_shown_or_saved_as_asked(server: Server, done: dict[str, Any]) -> None:
    url = urls(done)["overlay.mp4"]
    # Where it is shown, the page names it when it is saved.
    assert get(server, url)[1].get("Content-Disposition") is None
    assert get(server, url + "?download=1")[1]["Content-Disposition"] == 'attachment; filename="overlay.mp4"'


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/{id}/upload",
        "/v1/files/{id}/",
        "/v1/files/{id}",
        "/v1/files/",
        "/v1/files/{id}/..%2fupload",
        "/v1/files/{id}/../{id}/upload",
        "/v1/files/{id}/%2e%2e/lock",
        "/v1/files/{id}/%00",
        "/v1/files/..%2f{id}/masks.jsonl",
        "/v1/files/%2e%2e/lock",
        "/v1/files/00000000000000000000000000000000/masks.jsonl",
        "/v1/files/{id}/..%5cupload",
        "/v1/files//etc/passwd",
    ],
)
def test_nothing_else_is_downloaded(server: Server, done: dict[str, Any], path: str) -> None:
    job_id = urls(done)["masks.jsonl"].split("/")[3]
    assert get(server, path.format(id=job_id))[0] == 404


def test_results_are_read_only(server: Server, done: dict[str, Any]) -> None:
    assert get(server, urls(done)["masks.jsonl"], "DELETE")[0] == 405


def test_downloads_need_the_id_but_no_token_and_no_other_page_gets_them(
    make_server: Callable[..., Server], short: bytes
) -> None:
    server = make_server(token=SecretStr("a secret"))

    async def go() -> None:
        async with open_wire(server, additional_headers={"Authorization": "Bearer a secret"}) as wire:
            _, done = await process(wire, short, sampling={"every": 100})
            url = urls(done)["overlay.mp4"]
            assert get(server, url)[0] == 200
            assert get(server, url, Origin="http://evil.example")[0] == 403
            assert get(server, url, Host="evil.example")[0] == 403
            assert get(server, url)[1]["Cross-Origin-Resource-Policy"] == "same-origin"

    asyncio.run(go())


def test_the_server_says_that_it_takes_files_and_how_large(server: Server) -> None:
    info = json.loads(get(server, "/v1/info")[2])
    assert info["sources"] == ["image", "frames", "file", "webrtc", "stream"]
    assert info["limits"]["max_video_bytes"] == 2 * 2**30
    assert info["limits"]["max_video_seconds"] == 3600
    assert info["limits"]["max_video_frames"] == 200_000


def test_uploads_are_counted(server: Server, done: dict[str, Any], short: bytes) -> None:
    assert metric(server, "upload_bytes_total") >= len(short)
    assert metric(server, "files_total") >= 1
    assert metric(server, "files_bytes") > 0
    assert metric(server, "file_jobs") == 0


def test_a_server_whose_files_have_no_place_does_not_start(make_server: Callable[..., Server], tmp_path: Path) -> None:
    make_server(data_dir=tmp_path)
    with pytest.raises(BadSettingError, match="in use by another server"):
        make_server(data_dir=tmp_path)
