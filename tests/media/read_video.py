"""Reading a whole video in a test, and what its frames say."""

from __future__ import annotations

import io
from typing import Any

import pytest

from media.make_video import number_of
from streamseg.errors import StreamsegError, UnsupportedMediaError
from streamseg.media.frame import Frame
from streamseg.media.sampling import Sampling
from streamseg.media.video import VideoInfo, VideoLimits, VideoReader


def read(data: bytes, sampling: Sampling | None = None, **limits: Any) -> tuple[VideoInfo, list[Frame], list[str]]:
    with VideoReader(io.BytesIO(data), limits=VideoLimits(**limits)) as reader:
        frames = [frame for frame, _ in reader.frames(sampling)]
        return reader.info, frames, reader.problems


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(frame.rgb) for frame in frames]


def times(frames: list[Frame]) -> list[float]:
    return [round(frame.time_s, 3) for frame in frames]


def steady(count: int, fps: float = 25) -> list[float]:
    return [round(index / fps, 3) for index in range(count)]


def refusal(data: bytes, kind: type[StreamsegError] = UnsupportedMediaError, **limits: Any) -> str:
    with pytest.raises(kind) as caught:
        read(data, **limits)
    return caught.value.message
