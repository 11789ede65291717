"""One connection to a network stream, from its address to decoded pictures."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, Literal, TypeAlias, TypeVar

import av
from av.container import InputContainer
from av.logging import Capture

from streamseg.errors import StreamsegError, StreamUnavailableError, TooLargeError, UnsupportedMediaError
from streamseg.media.addresses import StreamUrl
from streamseg.media.guarded import Guard, passing
from streamseg.media.http_stream import HttpStream
from streamseg.media.libav import DECODERS, LibavPicture, LibavVideo, coded_pixels
from streamseg.media.rtsp_relay import RtspRelay

T = TypeVar("T")
RtspTransport: TypeAlias = Literal["tcp", "udp"]

# In a query these would tell FFmpeg how to reach the camera.
_TRANSPORTS: Final = frozenset({"udp", "tcp", "multicast", "http", "https"})
_READ_BYTES: Final = 32 * 1024
# What is looked at before the first picture: enough for the codec, too little to learn the rate of frames. What was
# seen there is kept: without it (FFmpeg's nobuffer) the first key frame would be lost.
_ANALYSE_US: Final = 300_000
# Pictures that come later than this are given up for newer ones; and what counts as caught up again.
_LATE_S: Final = 1.0
_CAUGHT_UP_S: Final = 0.2
# FFmpeg's own limit is for waits that the guard does not see, such as for news of a playlist.
_LONGEST_WAIT_S: Final = 60.0


class LiveSource:
    """Raises AddressRefusedError, StreamUnavailableError, UnsupportedMediaError and TooLargeError, on opening and
    while ``pictures`` are read; CancelledWorkError when the guard is told to stop. None of them names the address.

    ``container``: ``rtsp``, ``mpjpeg``, ``hls`` or FFmpeg's name of a file's kind. ``bursty``: pictures come faster
    than they are to be shown. ``timed``: they have times of their own.
    """

    def __init__(
        self, url: StreamUrl, guard: Guard, *, read_timeout_s: float, max_pixels: int, transport: RtspTransport
    ) -> None:
        self._guard = guard
        self._read_timeout_s = read_timeout_s
        self._relay: RtspRelay | None = None
        self._http: HttpStream | None = None
        self._max_pixels = max_pixels
        guard.allow(guard.connect_timeout_s + read_timeout_s)
        with ExitStack() as stack:
            if url.scheme.startswith("rtsp"):
                if not _TRANSPORTS.isdisjoint(url.target.partition("?")[2].split("&")):
                    raise StreamUnavailableError("the address says how it is to be transported; leave that out")
                tls = ssl.create_default_context() if url.scheme == "rtsps" else None
                self._relay = RtspRelay(url, guard, tls)
                stack.callback(self._relay.close)
                self.container = "rtsp"
                opened = self._call(self._open_rtsp, self._relay, transport)
            else:
                self._http = HttpStream(url, guard, ssl.create_default_context())
                stack.callback(self._http.close)
                self.container = self._http.container
                opened = self._call(self._open_http, self._http)
            self._video = LibavVideo(opened, max_pixels, live=True)
            stack.callback(self._video.close)
            self._stack = stack.pop_all()
        self.timed = self.container != "mpjpeg"
        self.bursty = self.timed and self._http is not None

    @property
    def codec(self) -> str:
        return self._video.codec

    @property
    def fps(self) -> float | None:
        return self._video.fps

    @property
    def damaged(self) -> int:
        return self._video.damaged

    def pictures(self) -> Iterator[LibavPicture]:
        """Decoded pictures in order, until the stream is over: an end of a file or of a playlist that says so."""
        packets = self._video.packets()
        skips = False
        self._await_picture()
        while True:
            packet = self._next_packet(packets)
            if packet is None:
                break
            behind_s = self._relay.behind_s() if self._relay is not None else 0.0
            if behind_s > (_CAUGHT_UP_S if skips else _LATE_S):
                skips = self._skip(skips, True)
            elif skips and packet.is_keyframe:
                skips = self._skip(skips, False)
            seen = False
            for picture in self._decode(packet):
                self._guard.pause()
                yield picture
                seen = True
            # Packets alone are no sign of life: they may be ones that cannot be decoded.
            if seen or skips:
                self._await_picture()
        if self._http is None or not self._http.is_finite:
            raise passing("the connection ended")
        yield from self._decode(None)

    def close(self) -> None:
        with Capture():
            self._stack.close()

    def _next_packet(self, packets: Iterator[Any]) -> Any:
        while True:
            packet = self._call(next, packets, None)
            # An empty packet would end the decoding.
            if packet is None or packet.size:
                return packet
            self._guard.check()

    def _await_picture(self) -> None:
        self._guard.allow(self._read_timeout_s + (2 * self._http.target_s if self._http is not None else 0.0))

    def _decode(self, packet: Any) -> list[LibavPicture]:
        return self._call(lambda: list(self._video.decode(packet)))

    def _skip(self, now: bool, wanted: bool) -> bool:
        if now != wanted:
            self._video.decode_keyframes_only(wanted)
        return wanted

    def _call(self, action: Callable[..., T], *args: Any) -> T:
        """FFmpeg's errors and its log name the address with its password: neither leaves this."""
        try:
            with Capture():
                done = action(*args)
            self._guard.check()
            return done
        except av.FFmpegError as error:
            failure = self._translate(error)
        except (ValueError, OverflowError):
            failure = UnsupportedMediaError("the stream is damaged: it cannot be read")
        self._guard.check()
        raise failure

    def _translate(self, error: av.FFmpegError) -> StreamsegError:
        status = self._relay.status if self._relay is not None else 0
        if isinstance(error, av.MemoryError):
            return TooLargeError("decoding this stream needs more memory than there is")
        if status == 401:
            return StreamUnavailableError("user or password is missing or wrong (401)")
        if status == 404:
            return StreamUnavailableError("there is no such stream (404)")
        if status >= 500:
            return passing(f"the server answers with status {status}")
        if status >= 400:
            return StreamUnavailableError(f"the server answers with status {status}")
        if isinstance(error, av.error.ExitError):
            return passing("no picture came in time")
        if self._http is not None:
            return passing("what comes is damaged, or ends in the middle")
        return passing("the connection ended")

    def _open_rtsp(self, relay: RtspRelay, transport: RtspTransport) -> InputContainer:
        return self._open(
            relay.local_url,
            "rtsp",
            {
                "rtsp_transport": transport,
                "allowed_media_types": "video",
                "protocol_whitelist": "tcp" if transport == "tcp" else "tcp,udp,rtp",
                "format_whitelist": "rtsp,rtp,sdp,mpegts,asf",
                "user_agent": "streamseg",
            },
        )

    def _open_http(self, http: HttpStream) -> InputContainer:
        options = {"protocol_whitelist": "http,https" if self.container == "hls" else "none"}
        if self.container == "hls":
            # Connections are kept and reused by our client; the newest part is the one to begin with.
            options |= {"http_persistent": "0", "http_multiple": "0", "live_start_index": "-1"}
        return self._open(
            http.file,
            self.container,
            {**options, "format_whitelist": http.format_whitelist},
            buffer_size=_READ_BYTES,
            io_open=http.open_other,
        )

    def _open(self, source: Any, container: str, options: dict[str, str], **further: Any) -> InputContainer:
        opened: InputContainer = av.open(
            source,
            "r",
            format=container,
            options={"max_pixels": str(coded_pixels(self._max_pixels))},
            container_options={
                "analyzeduration": str(_ANALYSE_US),
                "fpsprobesize": "0",
                "codec_whitelist": DECODERS,
                **options,
            },
            metadata_errors="replace",
            timeout=(
                self._guard.connect_timeout_s + self._read_timeout_s,
                self._read_timeout_s + (_LONGEST_WAIT_S if container == "hls" else 0.0),
            ),
            **further,
        )
        return opened
