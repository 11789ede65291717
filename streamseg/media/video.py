"""Recorded videos as upright RGB frames with the times that the file gives them."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import cv2

from streamseg.closable import Closable
from streamseg.errors import NotFoundError, TooLargeError, UnsupportedMediaError
from streamseg.media.clock import Clock
from streamseg.media.containers import ACCEPTED, HEAD_BYTES, describe, missing_bytes, sniff_container
from streamseg.media.frame import Frame, RgbImage
from streamseg.media.libav import LibavPicture, LibavVideo, degrees
from streamseg.media.sampling import Choice, Chooser, Sampling
from streamseg.media.webp import WebpPicture, WebpVideo

VideoSource: TypeAlias = str | Path | BinaryIO

# Where neither the frame nor the file says how long a frame lasts.
_USUAL_FPS = 25.0
_LONGEST_USUAL_S = 1.0
# Less than this is missing at the end of many whole files.
_SHORT_S = 0.1


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What one video may cost. Checked while it is decoded, so that a header that lies gains nothing.

    ``max_pixels``: of each picture. ``max_wall_s``: seconds spent decoding, not counting what is done with the frames.
    """

    max_pixels: int = 8192 * 4352
    max_frames: int = 1_000_000
    max_seconds: float = 4 * 3600.0
    max_bytes: int = 4 * 2**30
    max_wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video before it is read through.

    ``width``, ``height``: of the first frame, upright, in stored pixels: where these are not square the picture is as
    narrow or wide as it is stored. ``duration_s``, ``frame_count``, ``fps`` (average): what the file says of itself,
    None where it says nothing. ``rotation_deg``: how far clockwise stored pictures are turned to be upright: 0, 90,
    180 or 270. ``start_s``: the file's own time of the first frame, from which ``Frame.time_s`` counts.
    """

    width: int
    height: int
    duration_s: float | None
    frame_count: int | None
    fps: float | None
    codec: str
    container: str
    has_audio: bool
    rotation_deg: int
    start_s: float = 0.0


class VideoReader(Closable):
    """Reads the frames of one video file, in order and in constant memory.

    ``source``: a path or a seekable binary file: MP4, MOV, WebM, Matroska, AVI, MPEG-TS, MPEG-PS, GIF or animated
    WebP, told by its content, not by its name. Text is always a path: nothing is fetched, and a file that refers to
    other files (a playlist) is refused. HDR is shown as it is coded, interlaced pictures as they are stored. What is
    wrong but can be lived with is put into ``problems``, at the latest when the frames end.

    Raises NotFoundError (no such file), TooLargeError (over ``limits``) and UnsupportedMediaError (no video in it,
    or none that can be decoded), on opening or while frames are read.
    """

    def __init__(self, source: VideoSource, *, limits: VideoLimits | None = None) -> None:
        self.limits = limits or VideoLimits()
        self.problems: list[str] = []
        self._spent_s = 0.0
        self._begun = False
        # The decoder must not be freed under a thread that decodes.
        self._lock = threading.Lock()
        self._file, self._owned = _open(source)
        self._video: LibavVideo | WebpVideo | None = None
        try:
            self._container, self._missing_bytes = self._inspect()
            self._rewind()
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the decoder, and the file if it was opened here. Waits for a frame that is just being decoded."""
        with self._lock:
            if self._video is not None:
                self._video.close()
                self._video = None
            if self._owned:
                self._file.close()

    def frames(self, sampling: Sampling | None = None, always: Collection[int] = ()) -> Iterator[tuple[Frame, Choice]]:
        """The frames that ``sampling`` wants, each with what it is wanted for: SEGMENT or HOLD.

        ``always``: indices that are wanted for SEGMENT wherever the rule would leave them out. ``Frame.index`` counts
        every frame of the source from 0, ``Frame.time_s`` starts at 0 and strictly increases. A frame of another size
        than the first is scaled to it. Frames may be read again from the start by calling this again; only the last
        call's iterator is then valid.
        """
        with self._lock:
            if self._video is None:
                raise UnsupportedMediaError("the video was closed; open it again")
            if self._begun:
                self._rewind()
            self._begun = True
            return self._read(self._video, (sampling or Sampling()).sampler(always))

    def _read(self, video: LibavVideo | WebpVideo, choose: Chooser) -> Iterator[tuple[Frame, Choice]]:
        clock = self._new_clock()
        size = self.info.width, self.info.height
        resized: tuple[int, int] | None = None
        ended = False
        index = 0
        try:
            while True:
                rgb = None
                with self._lock:
                    self._check_open(video)
                    began = time.monotonic()
                    picture = next(self._pictures, None)
                    if picture is None:
                        ended = True
                        return
                    time_s = clock.next(picture.stored_s, picture.duration_s)
                    self._check(index, time_s)
                    choice = choose(index, time_s)
                    if choice is Choice.STOP:
                        return
                    if choice is not Choice.SKIP:
                        rgb = picture.rgb()
                    # Its buffer can be used again for the next one.
                    del picture
                    self._spend(began)
                if rgb is not None:
                    if rgb.shape[1::-1] != size:
                        resized = resized or (rgb.shape[1], rgb.shape[0])
                        rgb = resize(rgb, size)
                    yield Frame(rgb, index, time_s), choice
                index += 1
        finally:
            self._report(video, clock, resized, ended)

    def _check_open(self, video: LibavVideo | WebpVideo) -> None:
        if video is not self._video:
            raise UnsupportedMediaError("the video was closed, or its frames are read anew; use the new iterator")

    def _rewind(self) -> None:
        """Opens the file from its start and decodes the first picture, whose size stands for all."""
        if self._video is not None:
            self._video.close()
            self._video = None
        began = time.monotonic()
        max_pixels = self.limits.max_pixels
        self._video = (
            WebpVideo(self._file, max_pixels)
            if self._container == "webp"
            else LibavVideo.open_file(self._file, self._container, max_pixels)
        )
        pictures: Iterator[LibavPicture | WebpPicture] = self._video.pictures()
        first = next(pictures, None)
        if first is None:
            raise UnsupportedMediaError(
                "no picture of the video can be decoded: the file is truncated or damaged"
                if self._video.damaged or self._video.read_failures or self._missing_bytes
                else "the file holds a video track without a single picture"
            )
        self._first = first
        # From a deque, so that the first picture does not live as long as the iterator.
        self._pictures = chain(_drain(deque([first])), pictures)
        self._begun = False
        self._spend(began)

    def _inspect(self) -> tuple[str, int]:
        size = self._file.seek(0, os.SEEK_END)
        if size > self.limits.max_bytes:
            raise TooLargeError(f"the video file has {size} bytes; at most {self.limits.max_bytes} are allowed")
        if size == 0:
            raise UnsupportedMediaError(f"the video file is empty (0 bytes); give a file of {ACCEPTED}")
        self._file.seek(0)
        head = self._file.read(HEAD_BYTES)
        if not isinstance(head, bytes):
            raise UnsupportedMediaError("the file gives text, not bytes: open it in binary mode ('rb')")
        container = sniff_container(head)
        if container is None:
            raise UnsupportedMediaError(f"this is no video of an accepted format: {ACCEPTED}{describe(head)}")
        return container, missing_bytes(self._file, container, size)

    def _describe(self) -> VideoInfo:
        video, first = self._video, self._first
        assert video is not None
        del self._first
        duration_s = video.duration_s
        if duration_s is not None and duration_s > self.limits.max_seconds:
            raise TooLargeError(
                f"the video says that it lasts {duration_s:.0f} s; at most {self.limits.max_seconds:g} s are allowed"
            )
        orientation = first.orientation()
        width, height = (first.height, first.width) if orientation[0] else (first.width, first.height)
        return VideoInfo(
            width=width,
            height=height,
            duration_s=duration_s,
            frame_count=video.frame_count,
            fps=video.fps,
            codec=video.codec,
            container=self._container,
            has_audio=video.has_audio,
            rotation_deg=degrees(orientation),
            start_s=float(first.stored_s or 0.0),
        )

    def _new_clock(self) -> Clock:
        nominal_s = min(1.0 / (self.info.fps or _USUAL_FPS), _LONGEST_USUAL_S)
        return Clock(nominal_s, joins=self._container in ("mpegts", "mpeg"))

    def _check(self, index: int, time_s: float) -> None:
        if index >= self.limits.max_frames:
            raise TooLargeError(f"the video has more than {self.limits.max_frames} frames; no more are allowed")
        if time_s > self.limits.max_seconds:
            raise TooLargeError(f"the video lasts longer than {self.limits.max_seconds:g} s; no more is allowed")

    def _spend(self, began: float) -> None:
        self._spent_s += time.monotonic() - began
        allowed = self.limits.max_wall_s
        if allowed is not None and self._spent_s > allowed:
            raise TooLargeError(f"decoding the video takes longer than the {allowed:g} s that are allowed")

    def _report(
        self, video: LibavVideo | WebpVideo, clock: Clock, resized: tuple[int, int] | None, ended: bool
    ) -> None:
        whole_s = self.info.duration_s or 0.0
        is_short = whole_s > clock.end_s + _SHORT_S
        if ended and (self._missing_bytes or (video.read_failures and is_short)):
            of_whole = f" of {whole_s:.1f} s" if is_short else ""
            self._say(f"the file is truncated: its pictures end after {clock.end_s:.1f} s{of_whole}")
        elif video.read_failures:
            self._say("parts of the file cannot be read; they were passed over")
        if video.damaged:
            self._say(f"parts of the file are damaged: {video.damaged} of its pictures are missing or incomplete")
        if clock.missing:
            self._say(f"{clock.missing} frames had no time of their own; it was filled in from the frames around them")
        if clock.disordered:
            self._say(f"the times of {clock.disordered} frames did not increase; they were moved on")
        if clock.restarts:
            self._say("the clock of the video starts anew within it; the parts were joined without a gap")
        if resized:
            self._say(
                f"the picture changes its size from {self.info.width} x {self.info.height} to "
                f"{resized[0]} x {resized[1]}; all frames were scaled to the first size"
            )

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _open(source: Any) -> tuple[BinaryIO, bool]:
    """The file, and whether it is ours to close."""
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fsdecode(source)), True
    if not callable(getattr(source, "read", None)):
        raise UnsupportedMediaError(f"a video is a path or a binary file, not {type(source).__name__}")
    if not callable(getattr(source, "seekable", None)) or not source.seekable():
        raise UnsupportedMediaError("a video is read back and forth: give a file that can seek, not a pipe")
    return source, False


def _open_path(name: str) -> BinaryIO:
    try:
        path = Path(name)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnsupportedMediaError(f"{name} is a folder; give a video file inside it")
        if not stat.S_ISREG(mode):
            raise UnsupportedMediaError(f"{name} is no regular file; give a video file")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        hint = " (addresses are not fetched: download the video first)" if "://" in name else ""
        raise NotFoundError(f"no such file: {name[:300]}{hint}") from error
    except OSError as error:
        raise UnsupportedMediaError(f"{name[:300]} cannot be read: {error.strerror or error}") from error


def _drain(pictures: deque[Any]) -> Iterator[Any]:
    while pictures:
        yield pictures.popleft()


def resize(rgb: RgbImage, size: tuple[int, int]) -> RgbImage:
    """``rgb`` scaled to ``size`` (width, height)."""
    shrinks = rgb.shape[1] * rgb.shape[0] > size[0] * size[1]
    return cast(RgbImage, cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
