"""Video files through the Python client, against a real server on loopback."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from streamseg.client import AsyncClient, Client, RemoteFile, RemoteProgress
from streamseg.client.download import download
from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadStateError,
    CancelledWorkError,
    ConnectionLostError,
    NotFoundError,
    StreamsegError,
    TooLargeError,
    UnsupportedMediaError,
)
from streamseg.segmentation.prompts import Prompt
from tests.media.make_video import make_video

if TYPE_CHECKING:
    from streamseg.models.build import LoadedModel
    from streamseg.service.server import Server

BOX = (16, 12, 48, 36)
FRAMES = 8


def clip(frames: int = FRAMES) -> bytes:
    """A bright square on a dark ground, 10 frames a second."""
    rgb = np.full((48, 64, 3), 20, np.uint8)
    rgb[12:36, 16:48] = (240, 90, 30)
    return make_video(frames=frames, fps=10, pictures=[rgb] * frames)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    path.write_bytes(clip())
    return path


@pytest.fixture(scope="module")
def long_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    path.write_bytes(clip(600))
    return path


def test_a_video_gives_its_results_and_then_its_files(client: Client, path: Path, tmp_path: Path) -> None:
    seen: list[RemoteProgress] = []
    out = tmp_path / "out" / "clip"
    with client.segment_file(path, box_xyxy_px=BOX, out=out, on_progress=seen.append) as recording:
        results = list(recording)
        summary = recording.summary
    assert [one.index for one in results] == list(range(FRAMES))
    assert all(one.objects[0].region.full()[24, 32] for one in results)
    assert summary is not None
    assert (summary.frames, summary.interrupted, summary.problems) == (FRAMES, False, ())
    assert summary.seconds == pytest.approx((FRAMES - 1) / 10, abs=1e-3)
    assert summary.files == (out / "overlay.mp4", out / "masks.jsonl")
    assert sorted(one.name for one in out.iterdir()) == ["masks.jsonl", "overlay.mp4"]
    assert summary.lost == {1: 0}
    lines = [json.loads(line) for line in (out / "masks.jsonl").read_text().splitlines()]
    assert [line["objects"][0]["rle"] for line in lines] == [one.objects[0].region.to_rle() for one in results]
    with av.open(str(out / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == FRAMES
    assert seen[0].stage == "upload"
    assert {one.size_bytes for one in seen} == {path.stat().st_size}
    assert seen[-1].stage == "processing"
    assert seen[-1].sent_bytes == path.stat().st_size


def test_results_stay_at_the_server_unless_a_folder_is_named(client: Client, path: Path) -> None:
    with client.segment_file(path, box_xyxy_px=BOX, every=4, video=False) as recording:
        summary = recording.finish()
    assert (summary.frames, summary.files) == (2, ())
    assert [one.name for one in summary.remote_files] == ["masks.jsonl"]


def test_prompts_name_their_frames_or_the_time(client: Client, path: Path) -> None:
    prompts = [Prompt(object_id=1, box_xyxy_px=BOX), Prompt(object_id=2, frame=6, box_xyxy_px=BOX)]
    with client.segment_file(path, prompts=prompts, every=100, video=False) as recording:
        assert [(one.index, [each.state for each in one.objects]) for one in recording] == [
            (0, ["tracked", "lost"]),
            (6, ["tracked", "tracked"]),
        ]
    with client.segment_file(path, box_xyxy_px=BOX, time_s=0.35, every=100, video=False) as recording:
        assert [one.index for one in recording] == [0, 3]


def test_asynchronous_iteration_ends_with_the_file(server: Server, path: Path) -> None:
    async def run() -> list[int]:
        async with (
            AsyncClient(server.url) as client,
            await client.segment_file(path, box_xyxy_px=BOX, fps=5, start_s=0.2, video=False) as recording,
        ):
            found = [one.index async for one in recording]
            assert recording.summary is not None
            return found

    assert asyncio.run(run()) == [2, 4, 6]


def test_a_stopped_recording_keeps_what_was_done(client: Client, long_path: Path, tmp_path: Path) -> None:
    with client.segment_file(long_path, box_xyxy_px=BOX, out=tmp_path) as recording:
        next(recording)
        recording.stop()
        summary = recording.finish()
    assert summary.interrupted
    assert 1 <= summary.frames < 300
    assert len((tmp_path / "masks.jsonl").read_text().splitlines()) == summary.frames


def test_an_event_of_another_thread_ends_a_recording(client: Client, long_path: Path) -> None:
    cancelled = threading.Event()
    with client.segment_file(long_path, box_xyxy_px=BOX, cancelled=cancelled, video=False) as recording:
        next(recording)
        cancelled.set()
        summary = recording.finish()
    assert summary.interrupted
    assert summary.frames < 300


def test_a_closed_recording_has_no_summary_and_the_client_goes_on(client: Client, long_path: Path, path: Path) -> None:
    recording = client.segment_file(long_path, box_xyxy_px=BOX)
    next(recording)
    recording.close()
    with pytest.raises(BadStateError):
        recording.finish()
    with client.segment_file(path, box_xyxy_px=BOX, every=100, video=False) as other:
        assert other.finish().frames == 1


def test_what_is_refused_is_named(client: Client, path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(NotFoundError, match="there is no file"):
        client.segment_file(tmp_path / "none.mp4", box_xyxy_px=BOX)
    with pytest.raises(NotFoundError, match="cannot read"):
        client.segment_file(tmp_path, box_xyxy_px=BOX)
    with pytest.raises(UnsupportedMediaError, match="empty"):
        client.segment_file(tmp_path / "empty.mp4", box_xyxy_px=BOX)
    with pytest.raises(BadPromptError, match="say what"):
        client.segment_file(path)
    with pytest.raises(BadMessageError, match="not both"):
        client.segment_file(path, box_xyxy_px=BOX, every=2, fps=3)
    with (
        client.segment_file(tmp_path / "text.mp4", box_xyxy_px=BOX) as recording,
        pytest.raises(UnsupportedMediaError),
    ):
        recording.finish()
    with (
        client.segment_file(path, box_xyxy_px=(0, 0, 999, 9)) as recording,
        pytest.raises(BadPromptError, match="999"),
    ):
        recording.finish()


def test_a_file_that_is_too_large_is_not_sent(model: LoadedModel, path: Path) -> None:
    from streamseg.service.server import Server
    from streamseg.settings import load_settings

    settings = load_settings(None, {"port": 0, "limits": {"max_video_bytes": 100}})
    with Server(settings, model) as server, Client(server.url) as client, pytest.raises(TooLargeError, match="100"):
        client.segment_file(path, box_xyxy_px=BOX)


# Downloads


@pytest.fixture
def strange_server() -> Iterator[str]:
    """A server that sends ten bytes for everything, but not for what is missing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "missing" in self.path else 200)
            self.end_headers()
            self.wfile.write(
                b'{"type": "error", "code": "not_found", "message": "gone"}'
                if "missing" in self.path
                else b"0123456789"
            )

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.server_port}/v1/stream"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def result(name: str = "masks.jsonl", size: int = 10, url: str | None = None) -> RemoteFile:
    return RemoteFile(name, url or f"/v1/files/{'0' * 32}/{name}", size, "application/jsonl")


@pytest.mark.parametrize("name", ["../masks.jsonl", "/etc/passwd", "", ".", "..", ".hidden", "a/b", "a\\b", "a\0b"])
def test_a_server_cannot_choose_where_its_files_go(strange_server: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadMessageError):
        download(strange_server, None, result(name, url=f"/v1/files/{'0' * 32}/x"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["http://evil.example/x", "//evil.example/x", "/elsewhere", "/v1/files/x/y\r\nA: b"])
def test_a_server_cannot_send_its_clients_elsewhere(strange_server: str, tmp_path: Path, url: str) -> None:
    with pytest.raises(BadMessageError):
        download(strange_server, None, result(url=url), tmp_path)


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (result(size=11), ConnectionLostError),
        (result("missing.jsonl"), NotFoundError),
    ],
)
def test_a_download_is_whole_or_not_there(
    strange_server: str, tmp_path: Path, file: RemoteFile, error: type[StreamsegError]
) -> None:
    with pytest.raises(error):
        download(strange_server, None, file, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert download(strange_server, "a token", result(), tmp_path).read_bytes() == b"0123456789"
    assert [one.name for one in tmp_path.iterdir()] == ["masks.jsonl"]


def test_a_download_can_be_given_up(strange_server: str, tmp_path: Path) -> None:
    with pytest.raises(CancelledWorkError):
        download(strange_server, None, result(), tmp_path, wanted=lambda: False)
    assert list(tmp_path.iterdir()) == []


def test_no_server_to_download_from_is_a_lost_connection(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLostError):
        download("ws://127.0.0.1:1/v1/stream", None, result(), tmp_path)
