"""A small Hugging Face hub on the loopback address: one repository with one file, and ways to fail."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has and how it behaves; change it between requests.

    ``cut_after``: the next GET that would send more bytes than this breaks off there. ``fail_with``: the HTTP
    status of every GET after a cut, 0 for none. ``status``: the HTTP status of every answer. ``storage_url``: where
    it sends the client for the content, as the real hub does.
    """

    path: str
    content: bytes
    etag: str = ""
    commit: str = COMMIT
    cut_after: int = 0
    fail_with: int = 0
    status: int = 200
    error_code: str = ""
    storage_url: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.sha256(self.content).hexdigest()

    def gets(self) -> list[str]:
        return [line for line in self.requests if line.startswith("GET")]


@contextmanager
def _serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            span = self.headers.get("Range", "")
            hub.requests.append(f"{self.command} {self.path} {span}".strip())
            if "Authorization" in self.headers:
                hub.tokens.add(self.headers["Authorization"])
            known = re.sub(r"/resolve/[^/]+/", "/", self.path) == f"/{hub.path}"
            status = hub.status if known else 404
            if status != 200:
                self.send_response(status)
                if hub.error_code:
                    self.send_header("X-Error-Code", hub.error_code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if hub.storage_url:
                self.send_response(302)
                self._send_description()
                self.send_header("Location", hub.storage_url)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
            body = hub.content[start:]
            self.send_response(206 if span else 200)
            self._send_description()
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not with_body:
                return
            if hub.cut_after and len(body) > hub.cut_after:
                self.wfile.write(body[: hub.cut_after])
                self.close_connection = True
                hub.cut_after, hub.status = 0, hub.fail_with or 200
                return
            self.wfile.write(body)

        def _send_description(self) -> None:
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("ETag", f'"{hub.etag}"')
            self.send_header("X-Linked-ETag", f'"{hub.etag}"')
            self.send_header("X-Linked-Size", str(len(hub.content)))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def serve_hub() -> Iterator[Callable[..., Hub]]:
    """Start hubs; each takes the arguments of `Hub` and stops with the test."""
    with ExitStack() as running:
        yield lambda *args, **behaviour: running.enter_context(_serve(Hub(*args, **behaviour)))
