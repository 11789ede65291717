"""Passwords in addresses: nowhere in messages, logs, events or chains of exceptions, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import av.logging
import pytest

from media.make_video import make_video
from media.network_servers import HttpServer, RtspServer, Watcher, begin_mjpeg, jpeg, mjpeg, send, send_part
from streamseg.errors import StreamsegError
from streamseg.media.network import Lost, NetworkOptions, NetworkStream
from streamseg.media.network_reader import NetworkReader

QUICK = NetworkOptions(connect_timeout_s=2.0, read_timeout_s=1.0, reconnect_max_s=0.5)
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Also by FFmpeg, whose log is off until somebody asks for it."""
    av.logging.set_level(av.logging.TRACE)
    caplog.set_level(1)
    for name in ("", "httpx2", "httpcore2", "libav"):
        logging.getLogger(name).setLevel(1)
    yield
    av.logging.set_level(None)
    for name in ("httpx2", "httpcore2", "libav"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def said_by(error: BaseException) -> str:
    parts = ["".join(traceback.format_exception(error))]
    for one in chain(error):
        parts += [str(one), repr(one), repr(one.args), repr(vars(one))]
    return "\n".join(parts)


def said_by_failing(url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(StreamsegError) as failed:
        Watcher(NetworkStream(url, options=QUICK), lambda watcher: bool(watcher.pictures))
    out, err = capfd.readouterr()
    return said_by(failed.value) + out + err + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://user:{SECRET}@127.0.0.1:1/live?token={SECRET}",
        f"rtsps://user:{SECRET}@127.0.0.1:1/live?token={SECRET}",
        f"http://user:{SECRET}@127.0.0.1:1/live?token={SECRET}",
        f"https://user:{SECRET}@127.0.0.1:1/live?token={SECRET}",
        f"srt://user:{SECRET}@127.0.0.1:1/live?passphrase={SECRET}",
        f"rtsp://user:{SECRET}/x@127.0.0.1:1/live",
        f"rtsp://user:{SECRET}@host name/live",
        f"rtsp://user:{SECRET}@nobody.invalid/live",
        f"rtsp://127.0.0.1:1/user=admin&password={SECRET}",
        f"rtsp://user:{SECRET}@127.0.0.1:99999/",
    ],
)
def test_addresses_that_cannot_be_opened(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert SECRET not in said_by_failing(url, caplog, capfd)


@pytest.mark.parametrize("path", ["denied", "missing", "broken", "page", "hls", "away", "garbage", "silent"])
def test_http_servers_that_fail(path: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    def denied(handler: Any) -> None:
        handler.send_error(401)

    def broken(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"G" + bytes(187))

    def away(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"http://127.0.0.1:1/?token={SECRET}")
        handler.end_headers()

    def garbage(handler: Any) -> None:
        begin_mjpeg(handler)
        while not handler.server_closing.wait(0.05):
            send_part(handler, b"no picture")

    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts?token={SECRET}\n#EXT-X-ENDLIST\n".encode()
    pages = {
        "/denied": denied,
        "/broken": broken,
        "/page": lambda handler: send(handler, b"<html>"),
        "/hls": lambda handler: send(handler, playlist),
        "/away": away,
        "/garbage": garbage,
        "/silent": lambda handler: handler.server_closing.wait(20),
    }
    with HttpServer(pages) as server:
        url = f"http://user:{SECRET}@127.0.0.1:{server.port}/{path}?token={SECRET}"
        assert SECRET not in said_by_failing(url, caplog, capfd)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "camera.mp4"
    path.write_bytes(make_video(frames=200, fps=20, options={"tune": "zerolatency", "g": "10"}))
    return path


@pytest.mark.parametrize("path", ["camera", "missing"])
def test_rtsp_servers_that_refuse(
    path: str, clip: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with RtspServer(clip, "user", "another") as server:
        url = f"rtsp://user:{SECRET}@127.0.0.1:{server.port}/{path}?token={SECRET}"
        assert SECRET not in said_by_failing(url, caplog, capfd)


def test_a_camera_that_is_lost(clip: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(clip, "user", SECRET) as server:
        stream = NetworkStream(f"rtsp://user:{SECRET}@127.0.0.1:{server.port}/camera", options=QUICK)

        def enough(watcher: Watcher) -> bool:
            if len(watcher.pictures) == 5:
                server.close()
            return len(watcher.of(Lost)) >= 2

        watcher = Watcher(stream, enough)
    assert watcher.pictures
    out, err = capfd.readouterr()
    assert SECRET not in f"{watcher.events} {stream!r} {stream.name} {stream.problems}" + out + err + caplog.text


def test_what_the_reader_logs(caplog: pytest.LogCaptureFixture) -> None:
    def stops(handler: Any) -> None:
        begin_mjpeg(handler)
        send_part(handler, jpeg(0))

    with HttpServer({"/video": stops}) as server:
        lost = Event()
        handler = logging.Handler()
        handler.emit = lambda record: lost.set() if "lost" in record.getMessage() else None  # type: ignore[method-assign]
        logging.getLogger("streamseg").addHandler(handler)
        try:
            with NetworkReader(f"http://user:{SECRET}@127.0.0.1:{server.port}/video", options=QUICK):
                assert lost.wait(60)
        finally:
            logging.getLogger("streamseg").removeHandler(handler)
    assert f"http://127.0.0.1:{server.port}/video: lost: " in caplog.text
    assert SECRET not in caplog.text


def test_a_camera_that_works(caplog: pytest.LogCaptureFixture) -> None:
    with HttpServer({"/video": mjpeg()}) as server:
        url = f"http://user:{SECRET}@127.0.0.1:{server.port}/video?token={SECRET}"
        Watcher(NetworkStream(url), lambda watcher: len(watcher.pictures) > 2)
    assert SECRET not in caplog.text
