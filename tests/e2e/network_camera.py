"""A network camera on this machine: MJPEG over HTTP, in which the orange disc moves."""

from __future__ import annotations

import base64
import math
from itertools import count
from types import TracebackType
from typing import Any, Self

from media.network_servers import HttpServer, begin_mjpeg, send_part
from media_made import disc_picture, encoded

_FRAMES = 90
_PAUSE_S = 1 / 12


class NetworkCamera:
    """Streams at ``url`` while it is on. ``login``: "user:password" that it asks for."""

    def __init__(self, login: str | None = None) -> None:
        self._login = login
        self._pictures = [_picture(number) for number in range(_FRAMES)]
        self._server: HttpServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def switch_on(self) -> None:
        """At the port that it had before, if it had one."""
        self._server = HttpServer({"/video": self._show}, port=self.port)
        self.port = self._server.port

    def switch_off(self) -> None:
        """Everyone's connection ends, and there are no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _show(self, handler: Any) -> None:
        if self._login is not None and handler.headers.get("Authorization") != _basic(self._login):
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
            handler.end_headers()
            return
        begin_mjpeg(handler)
        for number in count():
            if handler.server_closing.wait(_PAUSE_S):
                return
            send_part(handler, self._pictures[number % _FRAMES])

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
