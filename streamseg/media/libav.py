"""Pictures out of a video file, decoded by FFmpeg (PyAV)."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, BinaryIO, Final, NoReturn, cast

import av
import cv2
import numpy as np
from av.codec.context import ThreadType
from av.container import Flags, InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from streamseg.errors import TooLargeError, UnsupportedMediaError
from streamseg.media.frame import RgbImage

# What people record, send and edit with. Rare decoders are where the faults are: they are not reached.
VIDEO_CODECS: Final = frozenset(
    {"h264", "hevc", "av1", "vp8", "vp9", "vvc", "mjpeg", "mpeg4", "mpeg1video", "mpeg2video", "gif", "png"}
    | {"msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263", "flv1", "wmv2", "rawvideo", "ffv1", "huffyuv"}
    | {"prores", "dnxhd", "dvvideo"}
)
# Decoders that may look into a stream while the file is opened: names of implementations, sound among them.
DECODERS = ",".join(
    sorted(
        VIDEO_CODECS
        | {"libdav1d", "mpegvideo", "flv"}
        | {"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "opus", "vorbis", "flac", "alac", "pcm_s16le"}
    )
)

_READ_BYTES = 64 * 1024
# More threads than this cost memory (each holds pictures) and take cores from the model.
_MAX_THREADS = 4
# Damaged parts of a file may be followed by good ones; after so many failures in a row nothing more is expected.
_MAX_READ_FAILURES = 64
_MAX_OPEN_DTS = 24

_FORGOTTEN = (0, 0)
_NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
# Pictures from this size on are coded in the colours of HD where the file does not say.
_HD_WIDTH, _HD_HEIGHT = 1280, 577
# ITU-T H.273 matrix coefficients that the scaler can undo.
_KNOWN_COLORSPACES = frozenset({1, 4, 5, 6, 7, 9})

Orientation = tuple[bool, bool, bool]
"""What makes a stored picture upright: transpose first, then mirror left-right, then mirror top-bottom."""
UPRIGHT: Final[Orientation] = (False, False, False)
_DEGREES: Final[Mapping[Orientation, int]] = {
    (True, True, False): 90,
    (False, True, True): 180,
    (True, False, True): 270,
    # Mirrored ones: the turn that is left once the mirror (left-right) is taken off.
    (True, True, True): 90,
    (False, False, True): 180,
    (True, False, False): 270,
}


class LibavPicture:
    """One decoded picture that becomes RGB only when asked."""

    __slots__ = ("_frame", "_source", "duration_s", "height", "stored_s", "width")

    def __init__(self, frame: VideoFrame, source: LibavVideo, stored_s: Fraction | None, duration_s: float) -> None:
        self._frame = frame
        self._source = source
        self.stored_s = stored_s
        self.duration_s = duration_s
        self.width, self.height = frame.width, frame.height

    def rgb(self) -> RgbImage:
        """uint8 (H, W, 3), upright."""
        return self._source.to_rgb(self._frame)

    def orientation(self) -> Orientation:
        return _orientation(self._frame)


class LibavVideo:
    """The video track of one file or stream. Counts what goes wrong while it is read, which can be done once."""

    def __init__(
        self, container: InputContainer, max_pixels: int, *, only_dts: bool = False, live: bool = False
    ) -> None:
        """``container`` is closed together with this. ``live``: no picture is held back for the sake of speed.

        Raises UnsupportedMediaError and TooLargeError.
        """
        self.damaged = 0
        self.read_failures = 0
        self._max_pixels = max_pixels
        # AVI stores no times of presentation; what is guessed in their place is wrong for reordered pictures.
        self._only_dts = only_dts
        self._dts: list[int] = []
        self._reformatter = VideoReformatter()
        self._container = container
        try:
            self._stream = _video_stream(self._container)
            self._prepare(live)
        except BaseException:
            self._container.close()
            raise

    @classmethod
    def open_file(cls, file: BinaryIO, container: str, max_pixels: int) -> LibavVideo:
        """``container``: as ``sniff_container`` names it. Raises UnsupportedMediaError and TooLargeError."""
        return cls(_open(file, container, max_pixels), max_pixels, only_dts=container == "avi")

    def close(self) -> None:
        self._container.close()

    def packets(self) -> Iterator[Any]:
        """The track as it is stored, for ``decode``; raises what FFmpeg raises."""
        return self._container.demux(self._stream)

    def decode_keyframes_only(self, wanted: bool) -> None:
        """Leave out all pictures that need others, from the next packet on; for whoever is late."""
        self._stream.codec_context.skip_frame = "NONKEY" if wanted else "DEFAULT"

    @property
    def codec(self) -> str:
        return self._stream.codec_context.codec.canonical_name

    @property
    def has_audio(self) -> bool:
        return any(stream.type == "audio" for stream in self._container.streams)

    @property
    def fps(self) -> float | None:
        for rate in (self._stream.average_rate, self._stream.guessed_rate):
            # Where the rate is not known it may come as the number of ticks in a second.
            if rate and 0 < rate <= 1000:
                return float(rate)
        return None

    @property
    def duration_s(self) -> float | None:
        """What the file says, of the video track where it tells the tracks apart."""
        stream = self._stream
        if stream.duration and stream.duration > 0 and stream.time_base:
            return float(stream.duration * stream.time_base)
        tagged = _seconds(stream.metadata.get("DURATION", ""))
        if tagged is not None:
            return tagged
        whole = self._container.duration
        return whole / 1_000_000 if whole and whole > 0 else None

    @property
    def frame_count(self) -> int | None:
        """What the file says, else duration times rate; an estimate either way."""
        if self._stream.frames > 0:
            return self._stream.frames
        duration_s, fps = self.duration_s, self.fps
        return max(1, round(duration_s * fps)) if duration_s and fps else None

    def pictures(self) -> Iterator[LibavPicture]:
        """Every picture in order of presentation; damaged parts are passed over and counted."""
        for packet in packets_of(self._container, self._stream, self._note_read_failure):
            yield from self.decode(packet)
        yield from self.decode(None)

    def _note_read_failure(self, error: av.FFmpegError) -> None:
        _raise_if_out_of_memory(error)
        self.read_failures += 1

    def to_rgb(self, frame: VideoFrame) -> RgbImage:
        try:
            converted = self._reformatter.reformat(
                frame,
                format="rgb24",
                src_colorspace=_colorspace(frame),
                # Accurate rounding and interpolated chroma cost ten times as much, and show in no mask.
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
        except av.FFmpegError as error:
            raise UnsupportedMediaError(
                f"pictures of the kind {frame.format.name} cannot be shown; convert the video to H.264"
            ) from error
        return orient(cast(RgbImage, converted.to_ndarray()), _orientation(frame))

    def _prepare(self, live: bool) -> None:
        context = self._stream.codec_context
        self._check_pixels(context.width, context.height)
        for stream in self._container.streams:
            if stream is not self._stream:
                stream.discard = Discard.all
        # Else packets without a time are held back until one with a time comes, and that may be never.
        self._container.flags &= ~cast(Any, Flags.gen_pts).value
        # Threads that share out frames hand each of them out later by as many frames as there are threads.
        context.thread_type = ThreadType.SLICE if live else ThreadType.AUTO
        context.thread_count = min(_MAX_THREADS, os.cpu_count() or 1)
        context.options = {"max_pixels": str(coded_pixels(self._max_pixels))}

    def _raise_if_too_large(self, error: av.FFmpegError) -> None:
        # A decoder that refuses a picture for its size remembers that size, or forgets every size.
        context = self._stream.codec_context
        if context.is_open and (context.width, context.height) == _FORGOTTEN:
            raise TooLargeError(
                f"the video's pictures are too large; at most {self._max_pixels} pixels are allowed"
            ) from error
        self._check_pixels(context.width, context.height)
        _raise_if_out_of_memory(error)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            too_many_pixels(width, height, self._max_pixels)

    def decode(self, packet: Any) -> Iterator[LibavPicture]:
        """The pictures that ``packet`` completes; None: those that are still held back. Damaged ones are counted."""
        if packet is not None and packet.dts is not None and (packet.pts is None or self._only_dts):
            heapq.heappush(self._dts, packet.dts)
            if len(self._dts) > _MAX_OPEN_DTS:
                heapq.heappop(self._dts)
        context = self._stream.codec_context
        try:
            frames = context.decode(packet)
        except av.EOFError:
            return
        except av.FFmpegError as error:
            self._raise_if_too_large(error)
            self.damaged += 1
            if self._dts:
                heapq.heappop(self._dts)
            return
        for frame in frames:
            self._check_pixels(frame.width, frame.height)
            if frame.is_corrupt:
                self.damaged += 1
            base = frame.time_base or self._stream.time_base or Fraction(1, 1000)
            pts = None if self._only_dts else frame.pts
            if pts is None and self._dts:
                # Decoding times are handed out in order: pictures leave the decoder in order of presentation.
                pts = heapq.heappop(self._dts)
            stored_s = None if pts is None else pts * base
            yield LibavPicture(frame, self, stored_s, float(frame.duration * base))


def too_many_pixels(width: int, height: int, max_pixels: int) -> NoReturn:
    raise TooLargeError(
        f"the video's pictures have {width} x {height} = {width * height} pixels; at most {max_pixels} are allowed"
    )


def orient(rgb: RgbImage, orientation: Orientation) -> RgbImage:
    """``rgb`` made upright; itself where it already is."""
    transpose, mirror_x, mirror_y = orientation
    if transpose:
        rgb = cast(RgbImage, cv2.transpose(rgb))
    if mirror_x or mirror_y:
        rgb = cast(RgbImage, cv2.flip(rgb, -1 if mirror_x and mirror_y else int(mirror_x)))
    return rgb


def degrees(orientation: Orientation) -> int:
    """How far clockwise a stored picture is turned to be upright: 0, 90, 180 or 270."""
    return _DEGREES.get(orientation, 0)


def _open(file: BinaryIO, container: str, max_pixels: int) -> InputContainer:
    try:
        return av.open(
            NamelessFile(file),
            "r",
            format=container,
            options={"max_pixels": str(coded_pixels(max_pixels))},
            container_options={"protocol_whitelist": "none", "codec_whitelist": DECODERS},
            metadata_errors="replace",
            buffer_size=_READ_BYTES,
            io_open=refuse_other_files,
        )
    except av.FFmpegError as error:
        _raise_if_out_of_memory(error)
        what = (
            "its index is missing, as after a recording that was cut off" if container == "mov" else "it has no start"
        )
        raise UnsupportedMediaError(f"the video file is truncated or damaged: {what}") from error
    except (ValueError, OverflowError) as error:
        raise UnsupportedMediaError("the video file is damaged: its header cannot be read") from error


def refuse_other_files(*_: object) -> NoReturn:
    """PyAV's ``io_open``: a recording opens nothing but itself."""
    raise UnsupportedMediaError("the video file refers to other files; these are not opened: give one whole file")


class NamelessFile:
    """A file without its name: demuxers that look for files beside it have no place to look."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, ValueError) as error:
            raise UnsupportedMediaError(f"the video file cannot be read: {error}") from error


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_PICTURES]
    if not streams:
        has = "sound and a cover picture" if container.streams.video else "sound" if container.streams.audio else ""
        raise UnsupportedMediaError(f"the file holds {has}, but no video" if has else "the file holds no video")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context is None:
        raise UnsupportedMediaError("the video is in a format (codec) that cannot be decoded; convert it to H.264")
    name = stream.codec_context.codec.canonical_name
    if name not in VIDEO_CODECS:
        raise UnsupportedMediaError(f"the video is in the format (codec) {name}; convert it to H.264")
    return stream


def packets_of(
    container: InputContainer, stream: Stream, on_failure: Callable[[av.FFmpegError], None] = lambda _: None
) -> Iterator[Any]:
    """The packets of one track of a file; ``on_failure`` is told of damaged parts, and may raise."""
    failures = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            on_failure(error)
            failures += 1
            if failures > _MAX_READ_FAILURES:
                return
            packets = container.demux(stream)
            continue
        if packet is None:
            return
        # An empty packet would end the decoding; AVI has them for "the picture before, again".
        if packet.size:
            failures = 0
            yield packet


def _raise_if_out_of_memory(error: av.FFmpegError) -> None:
    if isinstance(error, av.MemoryError):
        raise TooLargeError("decoding this video needs more memory than there is") from error


def coded_pixels(max_pixels: int) -> int:
    # Pictures are coded in whole blocks and cropped; what is shown is checked against the limit itself.
    return min(max_pixels + max_pixels // 4 + 65536, 2**31 - 1)


def _colorspace(frame: VideoFrame) -> int | None:
    space = int(frame.colorspace)
    if frame.format.is_rgb or space in _KNOWN_COLORSPACES:
        return None
    is_hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
    return int(Colorspace.ITU709 if is_hd else Colorspace.ITU601)


def _orientation(frame: VideoFrame) -> Orientation:
    if not frame.side_data:
        return UPRIGHT
    try:
        data = cast(Any, frame.side_data)["DISPLAYMATRIX"]
    except KeyError:
        return UPRIGHT
    # Fixed-point rows (a b u)(c d v)(x y w): the right of a stored picture goes to (a, b), its bottom to (c, d).
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32, 5))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _seconds(text: str) -> float | None:
    """Matroska's tag: hours, minutes and seconds with a fraction."""
    try:
        hours, minutes, seconds = text.split(":")
        total = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
    return total if 0 < total < math.inf else None
