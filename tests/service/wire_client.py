"""A small client that speaks the wire by hand, and what tests of a running server share."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jsonschema
import numpy as np
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamseg.service.protocol.schema import schema
from streamseg.service.server import Server
from streamseg.settings import Limits, Settings

WIDTH, HEIGHT = 64, 48
CLICK = {"object_id": 1, "points_xy_px": [[30, 22]], "labels": [1]}


def picture(width: int = WIDTH, height: int = HEIGHT, kind: str = "JPEG") -> bytes:
    """An image file with a bright square on a dark ground."""
    rgb = np.full((height, width, 3), 20, dtype=np.uint8)
    rgb[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = (240, 90, 30)
    return _file_of(rgb, kind)


def noise(width: int, height: int) -> bytes:
    """An image file that is large, and so are the overlays over it."""
    return _file_of(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8), "JPEG")


def _file_of(rgb: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind)
    return buffer.getvalue()


def pack(header: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + payload


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from(">I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]


@dataclass
class Wire:
    """One websocket; ``socket`` is the library's own."""

    socket: ClientConnection

    async def text(self, **fields: Any) -> None:
        await self.socket.send(json.dumps(fields))

    async def start(self, source: str = "image", **fields: Any) -> None:
        await self.text(type="start", version=1, source=source, **fields)

    async def frame(self, payload: bytes | None = None, **header: Any) -> None:
        await self.socket.send(pack({"type": "frame", **header}, picture() if payload is None else payload))

    async def chunk(self, offset: int, payload: bytes, **header: Any) -> None:
        await self.socket.send(pack({"type": "chunk", "offset": offset, **header}, payload))

    async def upload(self, data: bytes, piece_bytes: int = 2**20) -> None:
        """Send a whole file, each piece once the former one is stored."""
        for offset in range(0, len(data), piece_bytes):
            piece = data[offset : offset + piece_bytes]
            await self.chunk(offset, piece, last=offset + len(piece) == len(data))
            assert (await self.expect("received"))["bytes"] == offset + len(piece)

    async def file(self, data: bytes, **fields: Any) -> dict[str, Any]:
        """Start a session for a file and upload it; its `ready`."""
        await self.start("file", **{"size_bytes": len(data), "prompts": [CLICK], **fields})
        ready = await self.expect("ready")
        await self.upload(data)
        return ready

    async def next(self) -> dict[str, Any]:
        """The next message; a binary one as its header with ``payload``."""
        async with asyncio.timeout(20):
            message = await self.socket.recv()
        if isinstance(message, str):
            fields: dict[str, Any] = json.loads(message)
            return fields
        header, payload = unpack(message)
        return {**header, "payload": payload}

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Messages up to and including the first of type ``kind``."""
        got = [await self.next()]
        while got[-1]["type"] != kind:
            got.append(await self.next())
        return got

    async def expect(self, kind: str, code: str | None = None) -> dict[str, Any]:
        got = await self.next()
        # How often a file in work is said to be in work depends on the machine.
        while got["type"] == "progress" != kind:
            got = await self.next()
        assert got["type"] == kind, got
        if code is not None:
            assert got["code"] == code, got
        return got

    async def segment(self, **fields: Any) -> dict[str, Any]:
        """A whole ``image`` session: proof that the server and this connection are well."""
        await self.start(prompts=[CLICK], **fields)
        await self.frame()
        got = await self.until("done")
        return next(one for one in got if one["type"] == "result")


@contextlib.asynccontextmanager
async def open_wire(server: Server, **options: Any) -> AsyncIterator[Wire]:
    address = server.url.replace("http", "ws", 1) + "/v1/stream"
    settings = {"subprotocols": ["streamseg.v1"], "compression": None, "proxy": None, "close_timeout": 2} | options
    async with connect(address, **settings) as socket:
        yield Wire(socket)


async def closing_of(doing: Awaitable[object]) -> tuple[int, str]:
    """Code and reason with which the connection is closed while ``doing``; (1006, "") without a close frame."""
    try:
        await doing
    except ConnectionClosed as error:
        return (1006, "") if error.rcvd is None else (error.rcvd.code, error.rcvd.reason)
    raise AssertionError("the connection was not closed")


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether ``condition`` comes true in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def metric(server: Server, name: str, **labels: str) -> float:
    value = server.app.state.service.metrics.registry.get_sample_value(f"streamseg_{name}", labels)
    return 0.0 if value is None else value


def frees_everything(server: Server) -> bool:
    """Whether the server comes to have no connection and no session any more."""
    return eventually(lambda: metric(server, "connections") == 0 and metric(server, "sessions") == 0)


def settings_for_tests(limits: dict[str, Any] | None = None, **fields: Any) -> Settings:
    return Settings(port=0, limits=Limits(**(limits or {})), **fields)


def check(message: dict[str, Any]) -> None:
    """Every message of the server is one of the published schema."""
    group = "ServerBinaryHeader" if "payload" in message else "ServerText"
    fields = {name: value for name, value in message.items() if name != "payload"}
    jsonschema.validate(fields, {"$ref": f"#/$defs/{group}", "$defs": schema()["$defs"]})
