"""A network camera on loopback: JPEG pictures over HTTP, a bright square that moves to the right."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
from media.network_servers import HttpServer, begin_mjpeg, send_part
from PIL import Image

WIDTH, HEIGHT, SIDE = 160, 120, 40
TOP = 40
STEP_PX, FPS = 2, 10.0


def left_px(number: int) -> int:
    """Where the square's left edge is in the picture of that number."""
    return 10 + STEP_PX * (number % 50)


def camera_picture(number: int) -> bytes:
    rgb = np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    left = left_px(number)
    rgb[TOP : TOP + SIDE, left : left + SIDE] = (240, 90, 30)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class Camera:
    """``port`` to reach it, ``watched``: how often it was asked; while ``silent`` is set it shows nothing new."""

    def __init__(self, port: int = 0) -> None:
        self.silent = threading.Event()
        self.watched = 0
        self._server = HttpServer({"/camera": self._show}, port=port)
        self.port: int = self._server.port
        self.url = f"{self._server.origin}/camera"

    def _show(self, handler: Any) -> None:
        self.watched += 1
        begin_mjpeg(handler)
        for number in count():
            if not self.silent.is_set():
                send_part(handler, camera_picture(number))
            if handler.server_closing.wait(1 / FPS):
                return

    def close(self) -> None:
        self._server.close()


@contextmanager
def open_camera(port: int = 0) -> Iterator[Camera]:
    camera = Camera(port)
    try:
        yield camera
    finally:
        camera.close()
