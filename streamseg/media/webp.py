"""Pictures out of an animated WebP, which FFmpeg does not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from streamseg.errors import UnsupportedMediaError
from streamseg.media.frame import RgbImage
from streamseg.media.libav import UPRIGHT, Orientation, too_many_pixels


@dataclass(frozen=True, slots=True)
class WebpPicture:
    """One picture of the animation, over white where it is transparent."""

    image: Image.Image
    stored_s: float | None
    duration_s: float
    width: int
    height: int

    def rgb(self) -> RgbImage:
        if self.image.mode != "RGBA":
            return np.array(self.image.convert("RGB"))
        ground = Image.new("RGB", self.image.size, "white")
        ground.paste(self.image, mask=self.image.getchannel("A"))
        return np.array(ground)

    def orientation(self) -> Orientation:
        return UPRIGHT


class WebpVideo:
    """The same shape as LibavVideo. The packed file is held in memory, its pictures are not."""

    codec = "webp"
    has_audio = False

    def __init__(self, file: BinaryIO, max_pixels: int) -> None:
        """Raises UnsupportedMediaError and TooLargeError."""
        self.damaged = 0
        self.read_failures = 0
        file.seek(0)
        data = file.read()
        # Read by hand: Pillow warns of large pictures, or refuses them, by a limit of its own.
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if width * height > max_pixels:
            too_many_pixels(width, height, max_pixels)
        durations_s = [duration_s for _, _, duration_s in _pictures(data)]
        self.frame_count = len(durations_s)
        self.duration_s = sum(durations_s) or None
        self.fps = self.frame_count / self.duration_s if self.duration_s else None
        try:
            self._image = Image.open(BytesIO(_whole_chunks(data)), formats=["WEBP"])
        except Exception as error:
            raise UnsupportedMediaError("the animated WebP is truncated or damaged; save or send it again") from error

    def close(self) -> None:
        self._image.close()

    def pictures(self) -> Iterator[WebpPicture]:
        """Every picture in order, valid until the next is asked for; the first one that is damaged ends them."""
        for index in range(getattr(self._image, "n_frames", 1)):
            try:
                self._image.seek(index)
                self._image.load()
            except Exception:
                self.damaged += 1
                return
            info = self._image.info
            yield WebpPicture(
                self._image,
                stored_s=info["timestamp"] / 1000 if "timestamp" in info else None,
                duration_s=info.get("duration", 0) / 1000,
                width=self._image.width,
                height=self._image.height,
            )


def _pictures(data: bytes) -> Iterator[tuple[int, int, float]]:
    """Start, end and duration (seconds) of each picture's chunk; the end of the last may be beyond the data."""
    at = 12
    while at + 8 <= len(data):
        # Each chunk is filled up to an even length.
        end = at + 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
        if data[at : at + 4] == b"ANMF":
            yield at, end, int.from_bytes(data[at + 20 : at + 23], "little") / 1000
        at = end


def _whole_chunks(data: bytes) -> bytes:
    """``data`` itself, or what is left of a truncated file up to its last whole picture: else none could be read."""
    if int.from_bytes(data[4:8], "little") + 8 <= len(data):
        return data
    end = max((end for _, end, _ in _pictures(data) if end <= len(data)), default=len(data))
    return data[:4] + (end - 8).to_bytes(4, "little") + data[8:end]
