"""A network camera on this machine: MJPEG over HTTP, in which the orange disc moves."""

from __future__ import annotations

import base64
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from media_made import disc_picture, encoded

_FRAMES = 90
_PAUSE_S = 1 / 12


class NetworkCamera:
    """Streams at ``url`` while it is on. ``login``: "user:password" that it asks for."""

    def __init__(self, login: str | None = None) -> None:
        self._login = login
        self._off = threading.Event()
        self._pictures = [_picture(number) for number in range(_FRAMES)]
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def switch_on(self) -> None:
        """At the port that it had before, if it had one."""
        camera = self
        self._off = off = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self, off)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def switch_off(self) -> None:
        """Everyone's connection ends, and there are no new ones."""
        self._off.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, request: BaseHTTPRequestHandler, off: threading.Event) -> None:
        if self._login is not None and request.headers.get("Authorization") != _basic(self._login):
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        if request.path != "/video":
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        request.end_headers()
        number = 0
        try:
            while not off.wait(_PAUSE_S):
                jpeg = self._pictures[number % _FRAMES]
                number += 1
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                request.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:
            # Whoever looked has left.
            return

    def __enter__(self) -> Self:
        self.switch_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.switch_off()


def _picture(number: int) -> bytes:
    turn = 2 * math.pi * number / _FRAMES
    return encoded(disc_picture(480, 360, 240 + 90 * math.cos(turn), 180 + 60 * math.sin(turn), 55), "JPEG")


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()
