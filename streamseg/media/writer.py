"""Pictures and sound into an MP4 or WebM file that browsers play at once."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import secrets
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from streamseg.errors import BadSettingError, InternalError, NotFoundError
from streamseg.media.audio import SoundTrack, TargetContainer
from streamseg.media.frame import RgbImage

log = logging.getLogger(__name__)

Preset: TypeAlias = Literal["ultrafast", "superfast", "veryfast", "faster", "medium"]

# One tick of MPEG's clock: every usual frame rate, 29.97 included, falls on whole ticks.
TIME_BASE = Fraction(1, 90_000)
# What x264 and libvpx accept; a larger picture is scaled down.
MAX_SIDE_PX = 16_384
# A key frame at least every so many frames: scrubbing has to decode no more than these.
_KEY_FRAME_EVERY = 48
_QUEUED_FRAMES = 2
# Of a video that has a single frame, where there is no gap to the next one to go by.
_LONE_FRAME_S = 0.04
# From here on the pictures that x264 looks ahead at would take gigabytes.
_LARGE_PX = 2**22
_CPU_USED = {"ultrafast": 8, "superfast": 8, "veryfast": 7, "faster": 6, "medium": 5}


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How an overlay video is written.

    ``container``: "mp4" (H.264 and mostly AAC) or "webm" (VP9 and Opus or Vorbis). ``quality``: 1 (small) to 100
    (nearly as the source). ``max_side_px``: a larger picture is scaled down so that its longer side fits.
    ``preset``: x264's names; slower ones give smaller files. For VP9 it picks the matching speed.
    """

    container: TargetContainer = "mp4"
    quality: int = 75
    max_side_px: int | None = None
    preset: Preset = "veryfast"

    def __post_init__(self) -> None:
        if self.container not in get_args(TargetContainer):
            raise BadSettingError(f"the container of a video is mp4 or webm, not {self.container!r}")
        if not _is_int(self.quality) or not 1 <= self.quality <= 100:
            raise BadSettingError(f"the quality of a video is a whole number from 1 to 100, not {self.quality!r}")
        if self.max_side_px is not None and (not _is_int(self.max_side_px) or self.max_side_px < 16):
            raise BadSettingError(f"the longest side of a video is at least 16 pixels, not {self.max_side_px!r}")
        if self.preset not in get_args(Preset):
            raise BadSettingError(f"the preset is one of {', '.join(get_args(Preset))}, not {self.preset!r}")

    @property
    def crf(self) -> float:
        """The encoder's constant rate factor: x264 counts from 0 (lossless) to 51, VP9 from 0 to 63."""
        return round(45 - 0.3 * self.quality, 1) if self.container == "mp4" else round(62 - 0.42 * self.quality)


def output_size(width: int, height: int, max_side_px: int | None = None) -> tuple[int, int]:
    """(width, height) of the video for pictures of that size: even, and within ``max_side_px``.

    An odd side that needs no scaling grows by the one pixel that 4:2:0 colour asks for, at the right and the bottom:
    coordinates stay the same.
    """
    limit = min(max_side_px or MAX_SIDE_PX, MAX_SIDE_PX)
    longer = max(width, height)
    if longer <= limit:
        return width + width % 2, height + height % 2
    scale = limit / longer
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


class VideoWriter:
    """Writes pictures with their own times, and the sound beside them, as one video file.

    The encoder runs in a thread of the writer's own behind a queue of two pictures: ``write`` returns at once until
    the queue is full and then waits (back-pressure). An error of the encoder is raised by the next ``write`` or
    ``close``. The file appears at ``path`` only with ``close``; until then it has a temporary name in the same
    folder. As a context manager: closed at the end, aborted when an exception passes.

    ``width``, ``height``: of the pictures that ``write`` gets; the video has ``output_size`` of them.
    ``audio``: a file by ``extract_audio`` for the same container; its packets are copied, up to the end of the last
    picture. Sound that cannot be read leaves the video silent from there on, with a warning in the log.
    ``origin_s``: the time of the source that is 0 in the file, for pictures and sound alike; None: the time of the
    first picture, because browsers cannot seek in an MP4 file whose first picture is not at 0.

    Raises NotFoundError (the folder does not exist), BadSettingError (sizes).
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        options: VideoOptions | None = None,
        audio: Path | None = None,
        origin_s: float | None = None,
    ) -> None:
        if width < 1 or height < 1:
            raise BadSettingError(f"a video is at least 1 x 1 pixel, not {width} x {height}")
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise NotFoundError(f"the folder for {self.path.name} does not exist; make it first")
        self.width, self.height = width, height
        self.options = options or VideoOptions()
        self.frames = 0
        self.origin_s = origin_s
        self._last_s: float | None = None
        self._last_pts = -1
        self._encoder = _Encoder(self.path, (width, height), self.options, audio)
        self._queue: queue.Queue[tuple[RgbImage, int, float] | None] = queue.Queue(_QUEUED_FRAMES)
        self._error: Exception | None = None
        self._told = False
        self._ended = False
        self._aborted = threading.Event()
        # Daemonic: a writer that nobody closed must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._work, name="video-writer", daemon=True)
        self._thread.start()

    def write(self, rgb: RgbImage, time_s: float) -> None:
        """One picture, shown from ``time_s`` until the next one's time; waits while the queue is full.

        ``rgb``: uint8 (height, width, 3); the writer reads it later, so it must not be changed afterwards.
        ``time_s``: seconds, later than the picture before and not before ``origin_s``.

        Raises ValueError for a picture or time of another kind, InternalError once the encoder has failed.
        """
        if self._ended:
            raise ValueError("the video is closed")
        if rgb.dtype != np.uint8 or rgb.shape != (self.height, self.width, 3):
            wanted = f"uint8 ({self.height}, {self.width}, 3)"
            raise ValueError(f"a picture of this video is {wanted}, not {rgb.dtype} {rgb.shape}")
        self._raise_error()
        if not math.isfinite(time_s):
            raise ValueError(f"a picture's time is a number of seconds, not {time_s}")
        if self.origin_s is None:
            self.origin_s = time_s
        if self._last_s is not None and time_s <= self._last_s:
            raise ValueError(f"{time_s} s is not later than the picture before, at {self._last_s} s")
        pts = round((time_s - self.origin_s) / TIME_BASE)
        if pts < 0:
            raise ValueError(f"a picture's time is {self.origin_s} s or later, not {time_s} s")
        self._last_s = time_s
        # Two times within one tick of the clock: the order is what counts.
        self._last_pts = max(pts, self._last_pts + 1)
        self.frames += 1
        self._queue.put((rgb, self._last_pts, self.origin_s))

    def close(self) -> bool:
        """Finishes the file and gives it its name. True when there is one: False without any picture.

        Waits for what is queued. Further calls do nothing. Raises InternalError when the file could not be written
        (disk full, ...): nothing is left of it then.
        """
        if not self._ended:
            # In this order: interrupted while it waits, a second call tries again.
            self._queue.put(None)
            self._ended = True
        self._thread.join()
        # Told once: whoever closes in a finally clause must not meet the same error again.
        if not self._told:
            self._raise_error()
        return self.frames > 0 and self._error is None and not self._aborted.is_set()

    def abort(self) -> None:
        """Ends the writing and removes what was written; nothing happens after ``close``."""
        if not self._ended:
            self._aborted.set()
            self._queue.put(None)
            self._ended = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _raise_error(self) -> None:
        error = self._error
        if error is not None:
            self._told = True
            raise InternalError(f"the video cannot be written: {_reason(error)}") from error

    def _work(self) -> None:
        failed = False
        while (item := self._queue.get()) is not None:
            # After a failure the queue is emptied all the same: nobody may hang on a full one.
            if failed or self._aborted.is_set():
                continue
            try:
                self._encoder.write(*item)
            except Exception as error:
                failed = True
                self._error = error
            del item
        if failed or self._aborted.is_set():
            self._encoder.discard()
            return
        try:
            self._encoder.finish()
        except Exception as error:
            self._error = error
            self._encoder.discard()


class _Encoder:
    """What the writer's thread does; used by that thread alone."""

    def __init__(self, path: Path, size: tuple[int, int], options: VideoOptions, audio: Path | None) -> None:
        self._path = path
        self._temporary = path.with_name(f".streamseg-{secrets.token_hex(8)}.part")
        self._reformatter = VideoReformatter()
        self._options = options
        self._audio = audio
        self._origin_s = 0.0
        self._video_size = output_size(*size, options.max_side_px)
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._sound: SoundTrack | None = None
        # Encoded only when the next picture tells how long it is shown.
        self._held: av.VideoFrame | None = None
        self._first_pts = 0
        self._last_gap = 0
        self._written = 0

    def write(self, rgb: RgbImage, pts: int, origin_s: float) -> None:
        self._origin_s = origin_s
        frame = self._converted(rgb)
        frame.pts = pts
        frame.time_base = TIME_BASE
        held, self._held = self._held, frame
        if held is None:
            self._first_pts = pts
            return
        assert held.pts is not None
        self._last_gap = pts - held.pts
        self._encode(held, self._last_gap)

    def finish(self) -> None:
        if self._held is None:
            return
        held, self._held = self._held, None
        self._encode(held, self._last_duration(held))
        assert self._container is not None
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.pump(self._end_s)
        self._container.close()
        self._release()
        self._temporary.replace(self._path)

    def discard(self) -> None:
        # Unlinked before it is closed: the trailer and the second pass for fast starts are then not worth an error.
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
        self._release()

    def _release(self) -> None:
        self._container = self._stream = self._held = None
        if self._sound is not None:
            self._sound.close()
            self._sound = None

    def _converted(self, rgb: RgbImage) -> av.VideoFrame:
        wanted = self._video_size
        height, width = rgb.shape[:2]
        if max(width, height) <= max(wanted) and (width, height) != wanted:
            rgb = np.pad(rgb, ((0, wanted[1] - height), (0, wanted[0] - width), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), format="rgb24")
        return self._reformatter.reformat(
            picture,
            *wanted,
            format="yuv420p",
            interpolation=Interpolation.BICUBIC,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            dst_color_trc=ColorTrc.BT709,
            dst_color_primaries=ColorPrimaries.BT709,
            threads=1,
        )

    def _last_duration(self, held: av.VideoFrame) -> int:
        """The usual gap; not a pause of the source that happened to come last."""
        if not self._written:
            return round(_LONE_FRAME_S / TIME_BASE)
        assert held.pts is not None
        return max(1, min(self._last_gap, (held.pts - self._first_pts) // self._written))

    def _encode(self, frame: av.VideoFrame, duration: int) -> None:
        frame.duration = duration
        if self._container is None:
            self._open(Fraction(90_000, duration))
        assert frame.pts is not None
        self._end_s = float((frame.pts + duration) * TIME_BASE)
        self._written += 1
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[av.Packet[Any]]) -> None:
        assert self._container is not None
        for packet in packets:
            if self._sound is not None and packet.pts is not None:
                # Ahead of the picture that it belongs to: the muxer then holds nothing back.
                self._sound.pump(float((packet.pts + (packet.duration or 0)) * TIME_BASE))
            self._container.mux(packet)

    def _open(self, rate: Fraction) -> None:
        mp4 = self._options.container == "mp4"
        muxing = {"movflags": "+faststart", "video_track_timescale": "90000"} if mp4 else {}
        self._container = av.open(str(self._temporary), "w", format=self._options.container, container_options=muxing)
        width, height = self._video_size
        stream: Any = self._container.add_stream(
            "libx264" if mp4 else "libvpx-vp9",
            rate=min(max(rate, Fraction(1, 10)), Fraction(240)).limit_denominator(1001),
            options=self._h264() if mp4 else self._vp9(),
            width=width,
            height=height,
            time_base=TIME_BASE,
        )
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        context.gop_size = _KEY_FRAME_EVERY
        context.thread_count = _threads()
        context.flags |= Flags.frame_duration.value
        context.color_range = ColorRange.MPEG
        context.colorspace = 1  # AVCOL_SPC_BT709, which is not the scaler's number of the same name
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        self._stream = stream
        if self._audio is not None:
            try:
                self._sound = SoundTrack(self._audio, self._container, self._origin_s)
            except Exception as error:
                log.warning("the video is written without sound: %s", _reason(error))

    def _h264(self) -> dict[str, str]:
        # With B-frames an MP4 file stores how long pictures last in the order of decoding: with uneven times the end
        # comes out wrong. They would save an eighth of the bytes.
        options = {"preset": self._options.preset, "crf": str(self._options.crf), "bf": "0"}
        if self._video_size[0] * self._video_size[1] > _LARGE_PX:
            options["rc-lookahead"] = "0"
        return options

    def _vp9(self) -> dict[str, str]:
        speed = str(_CPU_USED[self._options.preset])
        constant_quality = {"crf": str(int(self._options.crf)), "b": "0"}
        return {"deadline": "realtime", "cpu-used": speed, "row-mt": "1", "lag-in-frames": "0", **constant_quality}


def _threads() -> int:
    """A quarter of the cores: the rest belongs to the inference."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // 4))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
