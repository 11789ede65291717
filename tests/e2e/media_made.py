"""Pictures and a camera recording made in code: an orange disc over a blue-grey texture."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORANGE = (255, 140, 0)


def disc_picture(width: int, height: int, x: float, y: float, radius: float) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): the texture with one disc at (x, y)."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    texture = 90 + 14 * np.sin(columns / 9.0) * np.cos(rows / 7.0) + 8 * np.sin((columns + 2 * rows) / 31.0)
    picture = np.stack([texture * 0.8, texture, texture * 1.3], axis=-1)
    picture[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = ORANGE
    return picture.clip(0, 255).astype(np.uint8)


def write_camera_recording(path: Path, frames: int = 180) -> Path:
    """A .y4m of 480 x 360 at 15 frames/s, which ends where it began: Chromium plays it as its camera, in a loop.

    The disc moves by half its radius a second: on a busy machine that is from one mask to the next.
    """
    with av.open(path, "w", format="yuv4mpegpipe") as container:
        stream: Any = container.add_stream("wrapped_avframe", rate=15)
        stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
        for number in range(frames):
            turn = 2 * math.pi * number / frames
            picture = disc_picture(480, 360, 240 + 60 * math.cos(turn), 180 + 40 * math.sin(turn), 55)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encoded(picture: NDArray[np.uint8], form: str, exif_orientation: int | None = None) -> bytes:
    """The picture as a file; with ``exif_orientation`` its pixels are stored as they are and the tag is added."""
    exif = Image.Exif()
    if exif_orientation is not None:
        exif[0x0112] = exif_orientation
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, exif=exif)
    return file.getvalue()


def write_clip(
    path: Path,
    frames: int = 24,
    rate: int = 12,
    codec: str = "libx264",
    sound: bool = True,
    first_frame: int = 0,
    pixel_aspect: int = 1,
) -> Path:
    """A video of 320 x 240 in which the disc moves slowly from left to right, and a tone.

    ``first_frame``: the place of the first frame on the time axis. ``pixel_aspect``: width of a pixel to its height.
    """
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = 320, 240
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.sample_aspect_ratio = Fraction(pixel_aspect, 1)
        tone: Any = container.add_stream("aac", rate=16_000) if sound else None
        for number in range(frames):
            picture = disc_picture(320, 240, 90 + 120 * number / max(1, frames - 1), 120, 45)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = first_frame + number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            times = np.arange(int(16_000 * frames / rate)) / 16_000
            samples = (0.2 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            block.sample_rate, block.time_base, block.pts = 16_000, Fraction(1, 16_000), 0
            container.mux(tone.encode(block))
            container.mux(tone.encode())
    return path
