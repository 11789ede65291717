"""Video of a WebRTC peer: bounded on its way in, with the timestamps of its sender; the newest overlay on its way out.

aiortc keeps everything that comes: encoded frames before its decoder, decoded ones after it. Here the former are
bounded, and whoever reads the track must drain it. All private names of aiortc's are used in this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import time
from collections.abc import Callable
from fractions import Fraction
from threading import Event
from typing import Any

import aioice.ice
import aioice.stun
import av
import cv2
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver, codecs, rtcrtpreceiver
from aiortc.codecs import h264, vpx
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpreceiver import NackGenerator
from aiortc.rtp import RtpPacket

from streamseg.errors import TooLargeError
from streamseg.media.frame import Frame, RgbImage
from streamseg.settings import WebrtcSettings

# A second of video: more waits only where decoding is slower than the camera.
MAX_ENCODED = 30
# Streams under names of their own (SSRCs) that one camera may come in: it has one, and one for what is sent again.
MAX_STREAMS = 16
# As aiortc's own; a power of two.
JITTER_PACKETS = 512
# Until a packet that was asked for and has not come is asked for again: longer than most ways there and back.
ASK_AGAIN_S = 0.15
# What the overlay starts with, before the peer has told what its network takes.
START_BITRATE = 2_500_000
# Unanswered requests for consent until a peer is given up; each waits half a second for its answer.
CONSENT_FAILURES = 4
CONSENT_WAIT_S = 0.5
# VP8 of a key frame: three bytes of tag, three of start code, two each of width and height.
_VP8_START_CODE = b"\x9d\x01\x2a"
_NAL_START_CODE = b"\x00\x00\x00\x01"
_NAL_KEYFRAME = 5


def tune(settings: WebrtcSettings, max_pixels: int) -> None:
    """Set what aiortc and aioice keep as constants of their modules, for the whole process.

    Bitrates of the video encoders, whose defaults make an overlay look poor; how long a silent peer is waited for; the
    largest picture that a decoder makes; and what they log: their debug output has passwords of sessions in it, and a
    stranger's damaged video or sudden end would fill the log.
    """
    modules: tuple[Any, ...] = (h264, vpx)
    for module in modules:
        module.MAX_BITRATE = settings.max_bitrate
        module.DEFAULT_BITRATE = min(START_BITRATE, settings.max_bitrate)
    ice: Any = aioice.ice
    ice.CONSENT_FAILURES = CONSENT_FAILURES
    ice.CONSENT_INTERVAL = settings.lost_after_s / CONSENT_FAILURES - CONSENT_WAIT_S

    def get_decoder(codec: Any) -> Any:
        decoder = codecs.get_decoder(codec)
        context = getattr(decoder, "codec", None)
        if isinstance(context, av.VideoCodecContext):
            context.options = {"max_pixels": str(max_pixels)}
        return decoder

    receivers: Any = rtcrtpreceiver
    receivers.get_decoder = get_decoder
    for name in ("aiortc", "aioice"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("asyncio").addFilter(_is_no_late_send)


def _is_no_late_send(record: logging.LogRecord) -> bool:
    """Whether a fault is another one than that a data channel's timer still sent when its peer had just been closed.

    Nobody waits for that in aiortc, so asyncio would log it; and whoever keeps the record keeps all of the peer.
    """
    error = record.exc_info[1] if record.exc_info else None
    return type(error) is not ConnectionError or "not connected" not in str(error)


def _private(receiver: RTCRtpReceiver, name: str) -> str:
    mangled = f"_RTCRtpReceiver__{name}"
    if not hasattr(receiver, mangled):
        raise RuntimeError(f"this aiortc keeps no {name}; see webrtc_media.py")
    return mangled


def bound(receiver: RTCRtpReceiver, max_pixels: int) -> None:
    """Bound what waits for the decoder of a receiver that has not begun, and what is late before it."""
    lost = getattr(receiver, _private(receiver, "decoder_error"))
    mapper = getattr(receiver, _private(receiver, "timestamp_mapper"))
    jitter = PromptJitterBuffer()

    def more() -> JitterFrame | None:
        encoded = jitter.take()
        if encoded is not None:
            encoded.timestamp = mapper.map(encoded.timestamp)
        return encoded

    setattr(receiver, _private(receiver, "jitter_buffer"), jitter)
    setattr(receiver, _private(receiver, "nack_generator"), PersistentNacks())
    setattr(receiver, _private(receiver, "decoder_queue"), EncodedQueue(lost, max_pixels, more))


def is_flooded(connection: RTCPeerConnection) -> bool:
    """Whether a peer makes aiortc keep more than it can have use for.

    aiortc keeps statistics of every stream that a packet names, and the pieces of every message that does not end,
    beyond the window that it has granted.
    """
    for transceiver in connection.getTransceivers():
        receiver = transceiver.receiver
        if len(getattr(receiver, _private(receiver, "remote_streams"))) > MAX_STREAMS:
            return True
    sctp = connection.sctp
    return sctp is not None and sctp._advertised_rwnd < 0


def take_media_for_consent(agent: Any) -> None:
    """Have what a peer sends count as a sign that it is there, beside its answers to requests for consent.

    FFmpeg's publisher answers none of these. Consent is asked for so that nobody is sent what he does not want, so this
    is for peers that are sent no media. ``agent``: aioice's, not connected yet.
    """
    heard = False

    def noting(handle: Callable[..., Any]) -> Callable[..., Any]:
        def handle_too(*arguments: Any) -> Any:
            nonlocal heard
            heard = True
            return handle(*arguments)

        return handle_too

    async def query_consent() -> None:
        nonlocal heard
        failures = 0
        while failures < CONSENT_FAILURES:
            heard = False
            await asyncio.sleep(aioice.ice.CONSENT_INTERVAL)
            for pair in agent._nominated.values():
                with contextlib.suppress(aioice.stun.TransactionError):
                    request = agent.build_request(pair, nominate=False)
                    key = agent.remote_password.encode()
                    await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
                    heard = True
            failures = 0 if heard else failures + 1
        # So that closing does not wait for this very task.
        agent._query_consent_task = None
        await agent.close()

    for name in ("data_received", "request_received"):
        setattr(agent, name, noting(getattr(agent, name)))
    agent.query_consent = query_consent


def rtp_timestamp(receiver: RTCRtpReceiver, pts: int | None) -> int | None:
    """The timestamp of a decoded frame as its sender wrote it, 90 kHz, 32 bits.

    aiortc tells times from the first frame on: its ``TimestampMapper`` subtracts that one's timestamp, the origin, and
    lowers the origin by 2**32 at each wrap, which modulo 2**32 is no change. So the sum is right at any moment.
    """
    origin: int | None = getattr(receiver, _private(receiver, "timestamp_mapper"))._origin
    return None if origin is None or pts is None else (pts + origin) % 2**32


class PromptJitterBuffer(JitterBuffer):
    """aiortc's, without two of its delays.

    It gives a frame away only when the next one begins; here the marker bit of the last packet is believed. And it
    gives away one frame per packet, so that what waited for a lost packet stays late for ever where frames are as
    small as a packet; ``take`` has the rest at once.
    """

    def __init__(self) -> None:
        super().__init__(capacity=JITTER_PACKETS, is_video=True)

    def take(self) -> JitterFrame | None:
        """The next frame, if all of it has come."""
        return None if self._origin is None else self._remove_frame(self._origin)

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        frame = super()._remove_frame(sequence_number)
        if frame is not None:
            return frame
        assert self._origin is not None
        packets: list[Any] = []
        for count in range(self.capacity):
            packet = self._packets[(self._origin + count) % self.capacity]
            if packet is None or (packets and packet.timestamp != packets[0].timestamp):
                return None
            packets.append(packet)
            if packet.marker:
                self.remove(len(packets))
                return JitterFrame(b"".join(one._data for one in packets), packets[0].timestamp)
        return None


class PersistentNacks(NackGenerator):
    """aiortc's, which asks for a lost packet once more only when a further one is lost.

    When the answer is lost as well, all that comes after it waits for that: for seconds where few packets are lost.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._asked_at = -math.inf

    def add(self, packet: RtpPacket) -> bool:
        """Whether to ask the sender for what is missing, now that this packet has come."""
        is_new, now = super().add(packet), self._clock()
        if not is_new and (not self.missing or now - self._asked_at < ASK_AGAIN_S):
            return False
        self._asked_at = now
        return True


class EncodedQueue(queue.Queue[Any]):
    """Encoded frames on their way to aiortc's decoder thread, in place of its own endless queue.

    When the decoder falls behind, all that waits is dropped and nothing taken until the next key frame, which is asked
    for: a decoder that misses a frame would show grey smears. ``lost``: set to ask the sender for a key frame.
    ``more``: further frames that came at the same time, of the same codec.
    """

    def __init__(self, lost: Event, max_pixels: int, more: Callable[[], JitterFrame | None] = lambda: None) -> None:
        super().__init__()
        self._more = more
        self._lost = lost
        self._max_pixels = max_pixels
        self._waits_for_keyframe = False

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        if item is None:
            # aiortc waits on the event loop for the decoder to end, which must not take as long as what waits here.
            self._drop_all()
            super().put(None)
            return
        codec, encoded = item
        while encoded is not None:
            self._put_encoded(codec, encoded)
            encoded = self._more()

    def _put_encoded(self, codec: Any, encoded: JitterFrame) -> None:
        if pixels_of(codec.name, encoded.data) > self._max_pixels:
            self._waits_for_keyframe = True
            return
        if self.qsize() >= MAX_ENCODED:
            self._drop_all()
            self._waits_for_keyframe = True
        if self._waits_for_keyframe:
            if not is_keyframe(codec.name, encoded.data):
                self._lost.set()
                return
            self._waits_for_keyframe = False
        super().put((codec, encoded))

    def _drop_all(self) -> None:
        with self.mutex:
            self.queue.clear()


def is_keyframe(codec_name: str, data: bytes) -> bool:
    """Whether an encoded frame can be decoded without the ones before it."""
    if codec_name.upper() == "VP8":
        return len(data) > 0 and data[0] & 1 == 0
    return any(data[at] & 0x1F == _NAL_KEYFRAME for at in _nal_units(data))


def pixels_of(codec_name: str, data: bytes) -> int:
    """Pixels of the picture as far as the bytes say so; 0 where they do not.

    libvpx makes room for a picture before FFmpeg can look at its size, so it is read here; FFmpeg's own decoder of
    H.264 is bounded by ``tune``.
    """
    if codec_name.upper() != "VP8" or not is_keyframe("VP8", data) or data[3:6] != _VP8_START_CODE or len(data) < 10:
        return 0
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height


def _nal_units(data: bytes) -> list[int]:
    found, at = [], data.find(_NAL_START_CODE)
    while 0 <= at < len(data) - 4:
        found.append(at + 4)
        at = data.find(_NAL_START_CODE, at + 4)
    return found


def to_frame(
    picture: av.VideoFrame, index: int, time_s: float, size_px: tuple[int, int] | None, max_pixels: int
) -> Frame:
    """The pixels of a decoded picture, brought to ``size_px`` (width, height): a browser sends smaller pictures when
    the network is slow, and what a client points at must not move with that.

    Raises TooLargeError.
    """
    if picture.width * picture.height > max_pixels:
        raise TooLargeError(f"a frame of {picture.width} x {picture.height}; at most {max_pixels} pixels are taken")
    rgb: RgbImage = np.asarray(picture.to_ndarray(format="rgb24"), dtype=np.uint8)
    if size_px is not None and size_px != (picture.width, picture.height) and _is_alike(picture, size_px):
        rgb = np.asarray(cv2.resize(rgb, size_px, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return Frame(rgb, index, time_s)


def _is_alike(picture: av.VideoFrame, size_px: tuple[int, int]) -> bool:
    """Whether the picture has the shape of ``size_px``: one that was turned meanwhile is not squeezed."""
    change = picture.width * size_px[1] / (picture.height * size_px[0])
    return 0.95 < change < 1.05


def to_picture(rgb: RgbImage, like: av.VideoFrame) -> av.VideoFrame:
    """An overlay as a frame to encode, at the time of the frame that it was drawn over. Its sides become even."""
    height, width = (side // 2 * 2 for side in rgb.shape[:2])
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
    picture = picture.reformat(format="yuv420p")
    picture.pts = like.pts
    picture.time_base = like.time_base if like.time_base is not None else Fraction(1, 90_000)
    return picture


class OverlayTrack(MediaStreamTrack):
    """The newest overlay; one that was not sent before the next one came never is."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._newest: av.VideoFrame | None = None
        self._changed = asyncio.Event()

    def show(self, picture: av.VideoFrame) -> None:
        self._newest = picture
        self._changed.set()

    async def recv(self) -> av.VideoFrame:
        while self._newest is None:
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        picture, self._newest = self._newest, None
        return picture

    def stop(self) -> None:
        super().stop()
        self._newest = None
        self._changed.set()
