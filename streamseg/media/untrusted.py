"""Strangers' videos: read by a child process that can do no harm, through the interface of ``VideoReader``."""

from __future__ import annotations

import io
import math
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from streamseg.closable import Closable
from streamseg.errors import BadSettingError, CancelledWorkError, TooLargeError, UnsupportedMediaError
from streamseg.media import video
from streamseg.media.decoder_channel import ChannelClosedError, MessageError
from streamseg.media.decoder_process import DecoderProcess, ProcessLimits, text
from streamseg.media.frame import Frame
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.shared_frames import FrameRing
from streamseg.media.video import VideoInfo, VideoLimits, VideoSource

__all__ = ["ProcessLimits", "UntrustedVideo", "extract_audio_untrusted"]

_MAX_ALWAYS = 4096
_MAX_PROBLEMS = 64
_WANTED = {Choice.SEGMENT.name: Choice.SEGMENT, Choice.HOLD.name: Choice.HOLD}


class UntrustedVideo(Closable):
    """Reads the frames of a video file that nobody vouches for, in a child process with limits.

    The interface and the errors are those of ``VideoReader``. A file that makes the decoder crash, hang or need more
    memory or processor time than ``process`` allows raises UnsupportedMediaError that says which; this process and
    other videos are not touched. ``max_wall_s`` of ``limits`` counts the time in which frames are waited for.

    Once ``cancelled`` is set, whoever waits for the child, from its start on, gets CancelledWorkError.

    The pixels of a frame lie in memory that is shared with the child, and are not copied. Frames may be kept as long
    as one likes, also after ``close``: when many are kept, further ones are copies.
    """

    entry: ClassVar[str] = "streamseg.media.untrusted_child:decode"
    """What the child process runs: "module:function"."""

    def __init__(
        self,
        source: VideoSource,
        *,
        limits: VideoLimits | None = None,
        process: ProcessLimits | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.limits = limits or VideoLimits()
        self._cancelled = cancelled
        self.problems: list[str] = []
        self._process_limits = process or ProcessLimits()
        self._begun = False
        self._file = _open_to_read(source, self.limits.max_bytes)
        self._decoder: DecoderProcess | None = None
        try:
            self._decoder, self.info = self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the child process, in any thread and at any time; frames stay usable."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()
        self._file.close()

    def frames(self, sampling: Sampling | None = None, always: Collection[int] = ()) -> Iterator[tuple[Frame, Choice]]:
        """The frames that ``sampling`` wants, as ``VideoReader.frames`` gives them, and with the same problems.

        The child decodes ahead by a few frames and then waits for the consumer. Raises CancelledWorkError when the
        video is closed, or its frames are read anew, while this goes on.
        """
        if self._decoder is None:
            raise UnsupportedMediaError("the video was closed; open it again")
        if len(always) > _MAX_ALWAYS:
            raise BadSettingError(f"at most {_MAX_ALWAYS} frames can be asked for by number, not {len(always)}")
        if self._begun:
            self._decoder.close()
            self._decoder, info = self._start()
            if info != self.info:
                raise UnsupportedMediaError("the video file has changed since it was opened; open it again")
        self._begun = True
        decoder = self._decoder
        ring = FrameRing(self.info.width, self.info.height, decoder.give_back)
        rule = {"sampling": asdict(sampling or Sampling()), "always": sorted(int(index) for index in always)}
        try:
            decoder.send(rule, (ring.fd,))
        except MessageError as error:
            raise BadSettingError("too many frames are asked for by their time") from error
        finally:
            ring.close()
        return self._read(decoder, ring)

    def _start(self) -> tuple[DecoderProcess, VideoInfo]:
        task = {"limits": asdict(self.limits)}
        decoder = DecoderProcess(
            self.entry,
            self._file.fileno(),
            task,
            self._process_limits,
            max_wall_s=self.limits.max_wall_s,
            cancelled=self._cancelled,
        )
        try:
            message = decoder.receive()
            try:
                info = _video_info(message, self.limits)
                self._note(message)
            except MessageError as error:
                decoder.distrust(error)
            return decoder, info
        except BaseException:
            decoder.close()
            raise

    def _read(self, decoder: DecoderProcess, ring: FrameRing) -> Iterator[tuple[Frame, Choice]]:
        at = (-1, -math.inf)
        try:
            while True:
                message = decoder.receive()
                try:
                    self._note(message)
                    if message.get("kind") == "end":
                        return
                    frame, choice = _frame(message, ring, self.limits, at)
                except ValueError as error:
                    decoder.distrust(error)
                at = (frame.index, frame.time_s)
                yield frame, choice
                del frame
        except ChannelClosedError as error:
            raise CancelledWorkError("the video was closed while it was being read") from error
        finally:
            decoder.close()

    def _note(self, message: dict[str, Any]) -> None:
        problems = message.get("problems")
        _expect(isinstance(problems, list), message)
        assert isinstance(problems, list)
        for problem in problems[:_MAX_PROBLEMS]:
            if problem not in self.problems and len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(text(problem))


def extract_audio_untrusted(
    source: VideoSource,
    out: Path,
    *,
    container: Literal["mp4", "webm"],
    start_s: float | None = None,
    end_s: float | None = None,
    limits: VideoLimits | None = None,
    process: ProcessLimits | None = None,
    cancelled: threading.Event | None = None,
) -> bool:
    """``extract_audio`` for a file that nobody vouches for: the same arguments and result, run in a child process.

    The child can write nothing but one new file, of at most ``process.written_bytes``, in a folder of its own beside
    ``out``. Raises UnsupportedMediaError when it crashes, hangs or goes over ``process``, TooLargeError for more than
    ``limits.max_bytes`` or ``limits.max_wall_s``, CancelledWorkError once ``cancelled`` is set, NotFoundError, and
    OSError where ``out`` cannot be written.
    """
    limits = limits or VideoLimits()
    with _open_to_read(source, limits.max_bytes) as file:
        # Beside the result, so that moving it there needs no copying.
        folder = Path(tempfile.mkdtemp(prefix=".sound-", dir=out.parent))
        try:
            written = folder / "sound"
            task = {"out": str(written.resolve()), "container": container, "start_s": start_s, "end_s": end_s}
            inside = str(folder.resolve())
            has_sound = _run_to_end(file.fileno(), task, inside, limits, process or ProcessLimits(), cancelled)
            if has_sound:
                if not stat.S_ISREG(written.lstat().st_mode):
                    raise UnsupportedMediaError("the decoder crashed on this file")
                written.replace(out)
            return has_sound
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run_to_end(
    fd: int,
    task: dict[str, Any],
    folder: str,
    limits: VideoLimits,
    process: ProcessLimits,
    cancelled: threading.Event | None,
) -> bool:
    entry = "streamseg.media.untrusted_child:copy_sound"
    decoder = DecoderProcess(
        entry, fd, task, process, writable=folder, max_wall_s=limits.max_wall_s, cancelled=cancelled
    )
    try:
        message = decoder.receive()
        has_sound = message.get("has_sound")
        if message.get("kind") != "end" or not isinstance(has_sound, bool):
            decoder.distrust(message)
        return bool(has_sound)
    finally:
        decoder.close()


def _open_to_read(source: VideoSource, max_bytes: int) -> io.FileIO:
    """The file opened anew, for reading only. A file that exists only in this process is copied first."""
    file, owned = video._open(source)
    try:
        raw = getattr(file, "raw", file)
        if isinstance(raw, io.FileIO) and stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            if file.writable():
                file.flush()
            return _again(raw.fileno())
        return _copy(file, max_bytes)
    finally:
        if owned:
            file.close()


def _again(fd: int) -> io.FileIO:
    return io.FileIO(f"/proc/self/fd/{fd}")


def _copy(file: BinaryIO, max_bytes: int) -> io.FileIO:
    fd = os.memfd_create("video", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as copy:
        size = 0
        file.seek(0)
        while piece := file.read(2**20):
            if not isinstance(piece, bytes):
                raise UnsupportedMediaError("the file gives text, not bytes: open it in binary mode ('rb')")
            size += len(piece)
            if size > max_bytes:
                raise TooLargeError(f"the video file has more than the {max_bytes} bytes that are allowed")
            copy.write(piece)
        copy.flush()
        return _again(fd)


def _video_info(message: dict[str, Any], limits: VideoLimits) -> VideoInfo:
    _expect(message.get("kind") == "info", message)
    info = message.get("info")
    if not isinstance(info, dict):
        raise MessageError("a description of the video was expected")
    width = _whole(info.get("width"), 1, limits.max_pixels)
    height = _whole(info.get("height"), 1, limits.max_pixels // width)
    return VideoInfo(
        width=width,
        height=height,
        duration_s=_number_or_none(info.get("duration_s")),
        frame_count=None if info.get("frame_count") is None else _whole(info.get("frame_count"), 0, 2**53),
        fps=_number_or_none(info.get("fps")),
        codec=text(info.get("codec"))[:64],
        container=text(info.get("container"))[:64],
        has_audio=info.get("has_audio") is True,
        rotation_deg=_whole(info.get("rotation_deg"), 0, 359),
        start_s=_number(info.get("start_s")),
    )


def _frame(
    message: dict[str, Any], ring: FrameRing, limits: VideoLimits, after: tuple[int, float]
) -> tuple[Frame, Choice]:
    """``after``: index and time of the frame before."""
    _expect(message.get("kind") == "frame", message)
    index = _whole(message.get("index"), after[0] + 1, limits.max_frames)
    time_s = _number(message.get("time_s"))
    _expect(time_s > after[1], message)
    choice = _WANTED.get(text(message.get("choice")))
    if choice is None:
        raise MessageError("a choice was expected")
    return Frame(ring.take(_whole(message.get("slot"), 0, ring.slots - 1)), index, time_s), choice


def _expect(holds: bool, message: dict[str, Any]) -> None:
    if not holds:
        raise MessageError(f"an unexpected message: {message!r:.200}")


def _whole(value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MessageError(f"a whole number from {low} to {high} was expected")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -(2.0**53) <= value <= 2.0**53:
        raise MessageError("a finite number was expected")
    return float(value)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)
