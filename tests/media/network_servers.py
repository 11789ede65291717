"""Servers on loopback that send video, and a way to watch a stream until enough of it was seen."""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from media.make_video import picture
from streamseg.closable import Closable
from streamseg.media.network import LivePicture, NetworkStream, StreamEvent

SYSTEM_PYTHON = "/usr/bin/python3"
PATIENCE_S = 60.0


@cache
def rtsp_is_missing() -> str:
    """Why there is no RTSP server on this machine; empty if there is one."""
    script = Path(__file__).with_name("install_rtsp_server.sh").read_text()
    test = script.split("<<'PYTHON'\n")[1].split("PYTHON\n")[0]
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", test], check=True, capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.SubprocessError):
        return "GStreamer's RTSP server is not installed; see tests/media/install_rtsp_server.sh"
    return ""


class RtspServer(Closable):
    """GStreamer's, in a process of its own, streaming a file as ``/camera``; see ``rtsp_server.py``."""

    def __init__(self, video: Path, *options: str, port: int = 0) -> None:
        if rtsp_is_missing():
            pytest.skip(rtsp_is_missing())
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(Path(__file__).with_name("rtsp_server.py")), str(port), str(video), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/camera"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class HttpServer(Closable):
    """Answers a path by calling what ``pages`` has for it with the request's handler; all else is 404.

    ``asked``: the paths and queries that were asked for. Pages may wait for ``closing``.
    """

    def __init__(
        self,
        pages: dict[str, Callable[[Any], None]],
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                page = pages.get(self.path.partition("?")[0])
                if page is None:
                    self.send_error(404)
                    return
                self.server_closing = outer.closing
                try:
                    page(self)
                except OSError:
                    # The reader has gone.
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.port = self._server.server_address[1]
        self.origin = f"http://{host}:{self.port}"

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def send(handler: Any, data: bytes, kind: str = "application/octet-stream") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def jpeg(number: int, size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number, *size)).save(file, "JPEG", quality=95)
    return file.getvalue()


def begin_mjpeg(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
    handler.end_headers()


def send_part(handler: Any, data: bytes) -> None:
    head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    handler.wfile.write(head + data + b"\r\n")
    handler.wfile.flush()


def square(number: int) -> bytes:
    """A red square that moves to the right, 120 x 80."""
    rgb = np.full((80, 120, 3), 90, dtype=np.uint8)
    left = 10 + number % 40
    rgb[25:55, left : left + 30] = (220, 40, 30)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=95)
    return file.getvalue()


def mjpeg(fps: float = 25.0, draw: Callable[[int], bytes] = jpeg) -> Callable[[Any], None]:
    """An endless camera: pictures with numbers from 0 on."""

    def page(handler: Any) -> None:
        begin_mjpeg(handler)
        for number in count():
            if handler.server_closing.wait(1 / fps):
                return
            send_part(handler, draw(number % 256))

    return page


@contextmanager
def listener(host: str) -> Iterator[tuple[int, Callable[[], bool]]]:
    """A port where nobody should come, and whether somebody did."""
    with socket.create_server((host, 0)) as waiting:
        waiting.setblocking(False)

        def was_visited() -> bool:
            try:
                waiting.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield waiting.getsockname()[1], was_visited


class Watcher:
    """Runs a stream on this thread until ``enough`` of it was seen; collects its pictures and events."""

    def __init__(self, stream: NetworkStream, enough: Callable[[Watcher], bool], take_s: float = 0.0) -> None:
        self.pictures: list[LivePicture] = []
        self.events: list[StreamEvent] = []
        self._enough = enough
        self._stop = threading.Event()
        self._take_s = take_s
        impatient = threading.Timer(PATIENCE_S, self._stop.set)
        impatient.daemon = True
        impatient.start()
        try:
            stream.run(self._picture, self._event, self._stop)
        finally:
            self.in_time = impatient.is_alive()
            impatient.cancel()
            impatient.join()

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.events if isinstance(one, kind)]

    def _picture(self, one: LivePicture) -> None:
        self.pictures.append(one)
        if self._take_s:
            self._stop.wait(self._take_s)
        self._look()

    def _event(self, one: StreamEvent) -> None:
        self.events.append(one)
        self._look()

    def _look(self) -> None:
        if self._enough(self):
            self._stop.set()
