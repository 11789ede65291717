"""A camera with a counter in its pixels, and a peer that sends it: a real aiortc client of the service."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import struct
import threading
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from wire_client import Wire, eventually, open_wire

from streamseg.service.server import Server
from streamseg.service.webrtc_rules import CHANNEL_LABEL
from streamseg.settings import WebrtcSettings

WIDTH, HEIGHT = 320, 240
BITS = 8
BLOCK_PX = WIDTH // BITS
LOOPBACK = WebrtcSettings(loopback=True)
SQUARE_PX = 80
STEP_PX = 6
# On the square of the first pictures of the camera.
CLICK = {"object_id": 1, "points_xy_px": [[140, 150]], "labels": [1]}


def left_of_square(number: int) -> int:
    """Left edge of the square in that picture: ``STEP_PX`` further or back with every picture."""
    return 40 + STEP_PX * abs((number + 10) % 40 - 20)


def counted(number: int, still: bool = False) -> np.ndarray:
    """A picture with its number in a row of black and white blocks, and a bright square on its way to and fro."""
    rgb = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    for bit in range(BITS):
        rgb[:BLOCK_PX, bit * BLOCK_PX : (bit + 1) * BLOCK_PX] = 235 if number >> bit & 1 else 16
    left = left_of_square(0 if still else number)
    rgb[110 : 110 + SQUARE_PX, left : left + SQUARE_PX] = (240, 90, 30)
    return rgb


def read_counter(rgb: np.ndarray) -> int:
    scale = rgb.shape[1] / WIDTH
    middle = int(BLOCK_PX / 2 * scale)
    return sum(
        (rgb[middle - 4 : middle + 4, int((bit + 0.5) * BLOCK_PX * scale)].mean() > 128) << bit for bit in range(BITS)
    )


class Camera(MediaStreamTrack):
    """Counted pictures at a steady rate."""

    kind = "video"

    def __init__(self, fps: float = 12.0, still: bool = True) -> None:
        super().__init__()
        self._still = still
        self.fps = fps
        self.sent = 0
        # What each peer's sender adds to the timestamps of this camera, read off the first packet that leaves.
        self.origins: dict[int, int] = {}
        self._began = 0.0

    async def recv(self) -> av.VideoFrame:
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        await asyncio.sleep(max(0.0, self._began + self.sent / self.fps - now))
        picture = av.VideoFrame.from_ndarray(counted(self.sent, self._still), format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = round(self.sent * 90_000 / self.fps), Fraction(1, 90_000)
        self.sent += 1
        return picture


class PeerClient:
    """One websocket with one peer connection. ``results``: those that came whole over the data channel."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.pc = peer()
        self.camera = Camera()
        self.results: list[dict[str, Any]] = []
        self.messages: list[bytes] = []
        self.echoes: list[str] = []
        self.overlays: list[int] = []
        self.pictures: list[np.ndarray] = []
        self._parts: dict[int, dict[int, bytes]] = {}
        self._news = asyncio.Event()
        self._drawn = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def start(self, **fields: Any) -> dict[str, Any]:
        await self.wire.start("webrtc", **{"prompts": [CLICK], **fields})
        return await self.wire.expect("ready")

    def open_channel(self) -> None:
        channel = self.pc.createDataChannel(CHANNEL_LABEL, ordered=False, maxRetransmits=0)
        channel.on("message", self._on_message)
        self.channel = channel

    async def offer(self) -> None:
        """Send an offer with the camera as it stands and the channel, and take the answer."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        await self.wire.text(type="offer", sdp=self.pc.localDescription.sdp, request_id="o")
        got = await self.wire.next()
        # Results of the time before the channel is open, or what the server says of a former peer that was closed.
        while got["type"] in ("result", "error") and got.get("request_id") != "o":
            got = await self.wire.next()
        assert (got["type"], got.get("request_id")) == ("answer", "o"), got
        await self.pc.setRemoteDescription(RTCSessionDescription(got["sdp"], "answer"))

    async def connect(self, fps: float = 12.0, still: bool = True) -> None:
        self.camera = Camera(fps, still)
        self.pc.addTrack(self.camera)
        watch_origin(self.pc, self.camera)
        self.pc.on("track", self._on_track)
        self.open_channel()
        await self.offer()

    async def some_results(self, count: int, within_s: float = 30.0) -> list[dict[str, Any]]:
        """The next ``count`` results."""
        before = len(self.results)
        async with asyncio.timeout(within_s):
            while len(self.results) < before + count:
                self._news.clear()
                await self._news.wait()
        return self.results[before : before + count]

    async def some_overlays(self, count: int, within_s: float = 20.0) -> list[int]:
        """The numbers in all overlays so far, once there are so many; ``pictures`` has them."""
        async with asyncio.timeout(within_s):
            while len(self.overlays) < count:
                self._drawn.clear()
                await self._drawn.wait()
        return list(self.overlays)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self.camera.stop()
        await self.pc.close()

    def number_of(self, rtp_timestamp: int) -> float:
        """The number of the camera's picture that was sent with that timestamp."""
        return number_of(self.pc, self.camera, rtp_timestamp)

    def _on_message(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self.echoes.append(message)
            return
        self.messages.append(message)
        number, place, parts = struct.unpack_from(">IHH", message)
        got = self._parts.setdefault(number, {})
        got[place] = message[8:]
        if len(got) == parts:
            self.results.append(json.loads(b"".join(got[at] for at in range(parts))))
            del self._parts[number]
            self._news.set()

    def _on_track(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            while True:
                picture = await track.recv()
                self.pictures.append(picture.to_ndarray(format="rgb24"))
                self.overlays.append(read_counter(self.pictures[-1]))
                self._drawn.set()

        self._reading = asyncio.create_task(read())


def number_of(pc: RTCPeerConnection, camera: Camera, rtp_timestamp: int) -> float:
    return (rtp_timestamp - camera.origins[id(pc)]) % 2**32 * camera.fps / 90_000


def peer() -> RTCPeerConnection:
    """A peer that gathers 127.0.0.1 alone; aioice would pass over it."""
    pc = RTCPeerConnection(RTCConfiguration([], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    make = pc._RTCPeerConnection__createDtlsTransport

    def on_loopback() -> Any:
        transport = make()
        agent = transport.transport._connection
        gather = agent.get_component_candidates
        agent.get_component_candidates = lambda component, addresses, timeout=5: gather(
            component, ["127.0.0.1"], timeout
        )
        return transport

    pc._RTCPeerConnection__createDtlsTransport = on_loopback
    return pc


def watch_origin(pc: RTCPeerConnection, camera: Camera) -> None:
    """Note the timestamp of the first RTP packet that ``pc`` sends: that of the camera's picture 0."""
    transport = pc.getTransceivers()[0].receiver.transport
    send = transport._send_rtp

    async def noting(data: bytes) -> None:
        # Not RTCP, whose packet types are 192 to 223.
        if not 192 <= data[1] <= 223:
            camera.origins.setdefault(id(pc), int.from_bytes(data[4:8], "big"))
        await send(data)

    transport._send_rtp = noting


@contextlib.asynccontextmanager
async def open_peer(server: Server, **options: Any) -> AsyncIterator[PeerClient]:
    async with open_wire(server, **options) as wire:
        client = PeerClient(wire)
        try:
            yield client
        finally:
            await client.close()


def lossy(pc: RTCPeerConnection, share: float, seed: int = 0) -> Callable[[], int]:
    """Drop that share of the datagrams of ``pc``, both ways; returns how many were dropped so far."""
    chance, dropped = random.Random(seed), 0
    agent = pc.getTransceivers()[0].receiver.transport.transport._connection
    for protocol in agent._protocols:
        send = protocol.transport.sendto

        class Lossy:
            def __init__(self, transport: Any, send: Any) -> None:
                self._transport, self._send = transport, send

            def sendto(self, data: bytes, addr: Any = None) -> None:
                nonlocal dropped
                if chance.random() < share:
                    dropped += 1
                else:
                    self._send(data, addr)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._transport, name)

        def received(data: bytes, addr: Any, take: Any = protocol.datagram_received) -> None:
            nonlocal dropped
            if chance.random() < share:
                dropped += 1
            else:
                take(data, addr)

        protocol.transport = Lossy(protocol.transport, send)
        protocol.datagram_received = received
    return lambda: dropped


def held() -> dict[str, int]:
    """What a peer connection takes, counted over the whole process."""
    gc.collect()
    objects = gc.get_objects()
    return {
        # Not isinstance: it wakes lazy modules among all these objects.
        "peers": sum(type(one) is RTCPeerConnection for one in objects),
        "tasks": sum(type(one) is asyncio.Task and not one.done() for one in objects),
        "decoders": sum(thread.name == "video-decoder" for thread in threading.enumerate()),
        "sockets": sum("socket:" in os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()),
    }


def frees_all_of(before: dict[str, int], within_s: float = 10.0) -> bool:
    return eventually(lambda: all(now <= before[name] for name, now in held().items()), within_s)
