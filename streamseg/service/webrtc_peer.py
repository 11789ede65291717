"""One WebRTC connection to one peer: its camera comes in, results and overlays go out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from streamseg.errors import BadMessageError, WebrtcFailedError
from streamseg.service.effects import CameraFrame
from streamseg.service.protocol.client_messages import Candidate
from streamseg.service.protocol.server_messages import Result
from streamseg.service.webrtc_media import OverlayTrack, bound, is_flooded, rtp_timestamp, take_media_for_consent
from streamseg.service.webrtc_rules import CHANNEL_LABEL, MAX_CANDIDATES, announced, split
from streamseg.settings import Settings

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# Gathering asks STUN and TURN servers, which aioice gives 5 s.
ANSWER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
WATCH_S = 1.0
# More than this waits only where the network does not take the results; the next one is newer.
MAX_BUFFERED_BYTES = 64 * 2**10
MAX_ECHO_CHARS = 64


class Peer:
    """One peer connection, from its first offer on.

    ``remote_name``: the ICE user name of the client. ``wants_overlay``: send ``overlay`` as a track. ``on_frame`` gets
    every frame of the camera and must not keep them all; ``on_failure`` hears why no more come, unless it is closed.
    ``publishes``: the peer sends media and is sent none.
    """

    def __init__(
        self,
        remote_name: str,
        wants_overlay: bool,
        settings: Settings,
        on_frame: Callable[[CameraFrame], None],
        on_failure: Callable[[Peer, str], object],
        *,
        publishes: bool = False,
    ) -> None:
        self.remote_name = remote_name
        self.overlay = OverlayTrack()
        self.closed = False
        self._settings = settings.webrtc
        self._max_pixels = settings.limits.max_image_pixels
        self._wants_overlay = wants_overlay
        self._publishes = publishes
        self._on_frame = on_frame
        self._on_failure = on_failure
        self._channel: RTCDataChannel | None = None
        self._sent = 0
        self._candidates = 0
        self._prepared: set[RTCIceTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        # Without a list of its own aiortc would ask a public STUN server.
        servers = [
            RTCIceServer(
                urls=server.urls,
                username=server.username,
                credential=None if server.credential is None else server.credential.get_secret_value(),
            )
            for server in self._settings.ice_servers
        ]
        self._connection = RTCPeerConnection(RTCConfiguration(servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)
        self._connection.on("connectionstatechange", self._on_state)

    @property
    def connected(self) -> bool:
        """Whether something that is sent now would arrive."""
        return not self.closed and self._connection.connectionState == "connected"

    async def answer(self, sdp: str) -> str:
        """The answer to an offer that was checked. Raises WebrtcFailedError."""
        connection = self._connection
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
                self._prepare_transports()
                self._add_overlay()
                await connection.setLocalDescription(await connection.createAnswer())
        except TimeoutError:
            raise WebrtcFailedError("the addresses of this server could not be found in time") from None
        except Exception as error:
            # aiortc tells what it does not like about an offer in exceptions of every kind.
            logger.info("an offer could not be answered: %s", type(error).__name__)
            raise WebrtcFailedError("this offer cannot be answered: video as VP8 or H.264") from None
        if self._late is None:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(self._settings.connect_timeout_s, self._check_connected)
            self._run(self._watch(), "watch")
        return announced(connection.localDescription.sdp, [str(address) for address in self._settings.announce])

    async def add_candidate(self, signal: Candidate) -> None:
        """Take an address of the peer's. Raises BadMessageError."""
        if signal.candidate is None or not signal.candidate.strip():
            # Failures are found by the time they take; more candidates may be on their way.
            return
        self._candidates += 1
        if self._candidates > MAX_CANDIDATES:
            raise BadMessageError(f"more than {MAX_CANDIDATES} candidates")
        try:
            candidate = candidate_from_sdp(signal.candidate.strip().removeprefix("a=").removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = signal.sdp_mid, signal.sdp_mline_index
            if not candidate.ip.lower().endswith(".local"):
                await self._connection.addIceCandidate(candidate)
        except Exception:
            raise BadMessageError("this is no candidate: its text, and sdp_mid or sdp_mline_index") from None

    def send(self, result: Result) -> bool:
        """Send a result over the data channel; whether there is one that takes it."""
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return False
        parts = split(self._sent, result.model_dump_json().encode())
        if parts is None:
            return False
        if channel.bufferedAmount <= MAX_BUFFERED_BYTES:
            for part in parts:
                channel.send(part)
        # Counted also when it was not sent: a gap tells the client that one is missing.
        self._sent += 1
        return True

    async def close(self) -> None:
        """End the connection; nothing of it stays behind."""
        # Shielded: aiortc never ends a closing that was cancelled half way.
        await asyncio.shield(self._end())

    async def _close(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._channel = None
        self.overlay.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._connection.close()
        self._connection.remove_all_listeners()

    # What aiortc tells

    def _on_track(self, track: MediaStreamTrack) -> None:
        for transceiver in self._connection.getTransceivers():
            if transceiver.receiver.track is track:
                bound(transceiver.receiver, self._max_pixels)
                self._run(self._read(track, transceiver.receiver), "camera")

    def _run(self, what: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(what, name=f"streamseg-webrtc-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while not is_flooded(self._connection):  # noqa: ASYNC110
            await asyncio.sleep(WATCH_S)
        self._fail("the WebRTC connection was ended: more streams or unfinished messages than a camera has")

    async def _read(self, track: MediaStreamTrack, receiver: RTCRtpReceiver) -> None:
        """Drain the track, whose queue has no end."""
        with contextlib.suppress(MediaStreamError):
            while True:
                picture: Any = await track.recv()
                self._on_frame(CameraFrame(picture, rtp_timestamp(receiver, picture.pts)))

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL_LABEL:
            channel.close()
            return
        self._channel = channel

        def echo(message: str | bytes) -> None:
            # For the client to measure the way there and back, where it cannot tell its frames apart.
            takes = channel.readyState == "open" and channel.bufferedAmount <= MAX_BUFFERED_BYTES
            if takes and isinstance(message, str) and len(message) <= MAX_ECHO_CHARS:
                channel.send(message)

        channel.on("message", echo)

    def _on_state(self) -> None:
        # "closed" is what aiortc comes to by itself both when the client closes and when it falls silent.
        if self._connection.connectionState in ("failed", "closed"):
            self._fail("the WebRTC connection was lost or closed")

    def _check_connected(self) -> None:
        if not self.closed and self._connection.connectionState != "connected":
            self._fail("no WebRTC connection came about: nothing gets through between the client and this server")

    def _fail(self, why: str) -> None:
        if not self.closed:
            self._end()
            self._on_failure(self, why)

    def _end(self) -> asyncio.Task[None]:
        self.closed = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="streamseg-webrtc-close")
        return self._closing

    # What aiortc is told

    def _prepare_transports(self) -> None:
        """Have the connection gather 127.0.0.1 too, which aioice passes over, and watch over a publisher."""
        connection = self._connection
        held = [one.receiver.transport for one in connection.getTransceivers()]
        if connection.sctp is not None:
            held.append(connection.sctp.transport)
        for ice in {id(one.transport): one.transport for one in held}.values():
            if ice in self._prepared:
                continue
            self._prepared.add(ice)
            agent: Any = ice.iceGatherer._connection
            if self._settings.loopback:
                agent.get_component_candidates = _with_loopback(agent.get_component_candidates)
            if self._publishes:
                take_media_for_consent(agent)

    def _add_overlay(self) -> None:
        for transceiver in self._connection.getTransceivers():
            takes = transceiver._offerDirection in ("sendrecv", "sendonly")
            if self._wants_overlay and takes and transceiver.sender.track is None:
                self._connection.addTrack(self.overlay)


def _with_loopback(gather: Callable[..., Any]) -> Callable[..., Any]:
    async def gather_too(component: int, addresses: list[str], timeout: int = 5) -> Any:  # noqa: ASYNC109
        return await gather(component=component, addresses=[*addresses, LOOPBACK], timeout=timeout)

    return gather_too
