"""Clients of WHIP and WHEP: FFmpeg's publisher in a process of its own, and peers of aiortc."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack, RTCCertificate, RTCPeerConnection, RTCSessionDescription
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from peer_client import Camera, peer
from wire_client import eventually

from streamseg.service.server import Server

WIDTH, HEIGHT = 320, 240
RADIUS_PX = 36
FPS = 10
# On the disc of every picture.
CLICK = {"object_id": 1, "points_xy_px": [[160, 120]], "labels": [1]}

# A bright disc that swings about the middle of a dark picture, and a tone; in a process of its own because the muxer
# holds the interpreter's lock while it waits for its answer.
_PUBLISHER = """
    import math, signal, sys, time
    import av
    import numpy as np

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    url, certificates, token, sound, profile, width, height, seconds = sys.argv[1:9]
    width, height = int(width), int(height)
    fps, radius = {fps}, {radius} * width / {width}
    rows, columns = np.mgrid[0:height, 0:width]
    options = {{"cert_file": certificates + "/cert.pem", "key_file": certificates + "/key.pem"}}
    if token:
        options["authorization"] = token
    with av.open(url, "w", format="whip", options=options) as out:
        coding = {{"preset": "ultrafast", "tune": "zerolatency", "profile": profile, "bf": "0"}}
        video = out.add_stream("libx264", rate=fps, options=coding)
        video.width, video.height, video.pix_fmt, video.gop_size = width, height, "yuv420p", fps
        audio = out.add_stream("libopus", rate=48000, layout="stereo") if sound == "sound" else None
        began = time.monotonic()
        for number in range(int(float(seconds) * fps)):
            x = width / 2 + width / 40 * math.sin(number / 5)
            rgb = np.full((height, width, 3), 40, dtype=np.uint8)
            rgb[(columns - x) ** 2 + (rows - height / 2) ** 2 <= radius**2] = (240, 90, 30)
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts = number
            out.mux(video.encode(picture))
            if audio is not None:
                for part in range(5):
                    tone = av.AudioFrame.from_ndarray(np.zeros((1, 1920), dtype=np.float32), "flt", "stereo")
                    tone.sample_rate, tone.pts = 48000, (5 * number + part) * 960
                    out.mux(audio.encode(tone))
            if number == 0:
                print("publishing", flush=True)
            time.sleep(max(0.0, began + (number + 1) / fps - time.monotonic()))
"""


@contextlib.contextmanager
def ffmpeg(
    server: Server,
    name: str = "cam",
    token: str = "",
    sound: bool = False,
    profile: str = "baseline",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    seconds: float = 120.0,
) -> Iterator[subprocess.Popen[str]]:
    """FFmpeg publishes a stream, and says so when it leaves at the end of the context."""
    code = textwrap.dedent(_PUBLISHER).format(fps=FPS, radius=RADIUS_PX, width=WIDTH)
    arguments = [
        _certificates(),
        token,
        "sound" if sound else "none",
        profile,
        str(size[0]),
        str(size[1]),
        str(seconds),
    ]
    command = [sys.executable, "-c", code, f"{server.url}/v1/whip/{name}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "publishing":
                raise RuntimeError(process.communicate(timeout=30)[1][-2000:])
            yield process
            process.terminate()
            process.communicate(timeout=30)
        finally:
            process.kill()


@functools.cache
def _certificates() -> str:
    """A folder with a certificate; the one that FFmpeg makes itself, with GnuTLS, has a curve that OpenSSL refuses."""
    made = RTCCertificate.generateCertificate()
    folder = tempfile.TemporaryDirectory(prefix="streamseg-whip-")
    (Path(folder.name) / "cert.pem").write_bytes(made._cert.public_bytes(Encoding.PEM))
    key = made._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (Path(folder.name) / "key.pem").write_bytes(key)
    atexit.register(folder.cleanup)
    return folder.name


def disc(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Mask of the disc where it is on the average, bool (H, W)."""
    rows, columns = np.mgrid[0:height, 0:width]
    return (columns - width / 2) ** 2 + (rows - height / 2) ** 2 <= (RADIUS_PX * width / WIDTH) ** 2


@dataclass
class Reply:
    status: int
    headers: Any
    body: str

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["code"])


def call(server: Server, method: str, path: str, body: str = "", **headers: str) -> Reply:
    """One HTTP request; underscores in names of headers stand for hyphens."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, body.encode() or None, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return Reply(reply.status, reply.headers, reply.read().decode())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, error.read().decode())


async def acall(server: Server, method: str, path: str, body: str = "", **headers: str) -> Reply:
    return await asyncio.to_thread(call, server, method, path, body, **headers)


async def eventually_a(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for a condition, which may take its time."""
    assert await asyncio.to_thread(eventually, condition, within_s)


async def offer_of(pc: RTCPeerConnection) -> str:
    """The offer of a peer; of a camera, if nothing was added to it."""
    if not pc.getTransceivers():
        pc.addTrack(Camera())
    await pc.setLocalDescription(await pc.createOffer())
    return pc.localDescription.sdp


async def offer_only(direction: str = "sendonly") -> str:
    """An offer whose peer is closed again."""
    pc = peer()
    try:
        pc.addTransceiver("video", direction)
        return await offer_of(pc)
    finally:
        await pc.close()


@contextlib.asynccontextmanager
async def publishing(server: Server, path: str = "/v1/whip/cam", **headers: str) -> AsyncIterator[str]:
    """A browser's way to publish a counting camera, as VP8; the address of its resource."""
    pc = peer()
    try:
        reply = await acall(server, "POST", path, await offer_of(pc), content_type="application/sdp", **headers)
        assert reply.status == 201, reply
        await pc.setRemoteDescription(RTCSessionDescription(reply.body, "answer"))
        yield reply.headers["Location"]
    finally:
        await pc.close()


@dataclass
class Player:
    """A WHEP client. ``pictures``: what it was shown, uint8 (H, W, 3), newest last."""

    pc: RTCPeerConnection = field(default_factory=peer)
    pictures: list[np.ndarray] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    location: str = ""
    _reading: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def offer(self, sound: bool = False) -> str:
        if sound:
            self.pc.addTransceiver("audio", "recvonly")
        self.pc.addTransceiver("video", "recvonly")
        self.pc.on("track", self._on_track)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def watch(self, server: Server, name: str = "cam", sound: bool = False, **headers: str) -> None:
        offer = await self.offer(sound)
        reply = await acall(server, "POST", f"/v1/whep/{name}", offer, content_type="application/sdp", **headers)
        assert reply.status == 201, reply
        self.location = reply.headers["Location"]
        await self.pc.setRemoteDescription(RTCSessionDescription(reply.body, "answer"))

    async def some(self, count: int, within_s: float = 60.0) -> list[np.ndarray]:
        """The next ``count`` pictures."""
        before = len(self.pictures)
        async with asyncio.timeout(within_s):
            while len(self.pictures) < before + count:
                self._news.clear()
                await self._news.wait()
        return self.pictures[before : before + count]

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self.pc.close()

    def _on_track(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            while True:
                picture = await track.recv()
                self.pictures.append(picture.to_ndarray(format="rgb24"))
                self.times_s.append(float(picture.pts * picture.time_base))
                self._news.set()

        if track.kind == "video":
            self._reading = asyncio.create_task(read())


@contextlib.asynccontextmanager
async def playing(server: Server, name: str = "cam", **options: Any) -> AsyncIterator[Player]:
    player = Player()
    try:
        await player.watch(server, name, **options)
        yield player
    finally:
        await player.close()
