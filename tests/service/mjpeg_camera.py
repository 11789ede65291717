"""A network camera on loopback: JPEG pictures over HTTP, a bright square that moves to the right."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT, SIDE = 160, 120, 40
TOP = 40
STEP_PX, FPS = 2, 10.0


def left_px(count: int) -> int:
    """Where the square's left edge is in the picture of that count."""
    return 10 + STEP_PX * (count % 50)


def camera_picture(count: int) -> bytes:
    rgb = np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    left = left_px(count)
    rgb[TOP : TOP + SIDE, left : left + SIDE] = (240, 90, 30)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class Camera:
    """``port`` to reach it; while ``silent`` is set it shows nothing new, and ``drop`` ends what is watched."""

    def __init__(self, port: int = 0) -> None:
        self.silent = threading.Event()
        self.closing = threading.Event()
        self.watched = 0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path != "/camera":
                    self.send_error(404)
                    return
                camera.watched += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                count = 0
                try:
                    while not camera.closing.is_set():
                        if not camera.silent.is_set():
                            data = camera_picture(count)
                            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                            self.wfile.write(head.encode() + data + b"\r\n")
                        count += 1
                        time.sleep(1 / FPS)
                except OSError:
                    pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/camera"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def open_camera(port: int = 0) -> Iterator[Camera]:
    camera = Camera(port)
    try:
        yield camera
    finally:
        camera.close()
