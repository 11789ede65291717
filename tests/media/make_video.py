"""Small videos for tests, made in code: every frame shows its own number, so that frames can be told apart."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.video.frame import VideoFrame
from PIL import Image

from streamseg.media.frame import RgbImage

# The AV1 encoder writes to the terminal unless told not to.
os.environ.setdefault("SVT_LOG", "-1")

RED, BLUE = (220, 30, 30), (30, 30, 220)
TICKS = 1000  # of the clock that times are given in, a second
SOUND_RATE = 48_000


def picture(number: int, width: int = 64, height: int = 48) -> RgbImage:
    """Upright: 8 bits of ``number`` across the top half, the highest left; red bottom left, blue bottom right."""
    rgb = np.empty((height, width, 3), np.uint8)
    edges = [round(width * i / 8) for i in range(9)]
    for bit, (left, right) in enumerate(pairwise(edges)):
        rgb[: height // 2, left:right] = 230 if number >> (7 - bit) & 1 else 25
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = RED, BLUE
    return rgb


def number_of(rgb: RgbImage) -> int:
    """The number that ``picture`` drew, after any compression and scaling."""
    height, width = rgb.shape[:2]
    bits = [rgb[height // 4, int(width * (bit + 0.5) / 8)].mean() > 128 for bit in range(8)]
    return sum(bool(on) << (7 - bit) for bit, on in enumerate(bits))


def is_upright(rgb: RgbImage) -> bool:
    """Whether red is bottom left and blue bottom right."""
    height, width = rgb.shape[:2]
    left, right = (rgb[height * 3 // 4, width * at // 4].astype(int) for at in (1, 3))
    return bool(np.abs(left - RED).max() < 40 and np.abs(right - BLUE).max() < 40)


def make_video(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    fps: int = 25,
    times_s: Sequence[float] | None = None,
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    turn_deg: float | None = None,
    mirror: bool = False,
    sound: str | None = None,
    colorspace: int | None = None,
    color_range: int | None = None,
    pictures: Sequence[RgbImage] | None = None,
) -> bytes:
    """A video file. ``container``: an FFmpeg muxer; ``codec``, ``sound``: encoders; ``frames``: with numbers from 0.

    ``times_s``: of each frame, where not one after the other at ``fps``. ``turn_deg`` (counterclockwise), then
    ``mirror`` (left-right): what a player is told to do with the stored pictures, of which ``size`` is the size; they
    are stored so that they come out upright. ``pictures``: shown in place of the numbers.
    """
    turns = round((turn_deg or 0.0) / 90)
    shown = size[::-1] if turns % 2 else size
    # By name, because the index of an MP4 is moved to its front by opening the file a second time.
    with (
        _usual_priority(),
        tempfile.NamedTemporaryFile() as file,
        av.open(file.name, "w", format=container, options=dict(container_options or {})) as output,
    ):
        stream: Any = output.add_stream(codec, rate=fps, options=_options(codec, options))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if times_s is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if turn_deg is not None or mirror:
            stream.set_display_rotation(turn_deg or 0.0, hflip=mirror)
        voice = output.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for index in range(frames):
            rgb = pictures[index] if pictures is not None else picture(index % 256, *shown)
            rgb = np.rot90(rgb[:, ::-1] if mirror else rgb, -turns)
            frame = to_frame(rgb, pix_fmt, colorspace, color_range)
            frame.pts, frame.time_base = (
                (index, Fraction(1, fps)) if times_s is None else (round(times_s[index] * TICKS), Fraction(1, TICKS))
            )
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if voice is not None:
            last_s = times_s[-1] if times_s is not None else frames / fps
            for chunk in tone(last_s):
                output.mux(voice.encode(chunk))
            output.mux(voice.encode(None))
        output.close()
        return file.read()


def make_sound(container: str = "mp4", codec: str = "aac", *, seconds: float = 0.5) -> bytes:
    """A file of sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        voice: Any = output.add_stream(codec, rate=SOUND_RATE, layout="mono")
        for chunk in tone(seconds):
            output.mux(voice.encode(chunk))
        output.mux(voice.encode(None))
    return file.getvalue()


def make_animation(
    container: str = "webp", *, frames: int = 10, size: tuple[int, int] = (64, 48), durations_ms: Sequence[int] = (40,)
) -> bytes:
    """An animated WebP or GIF by Pillow; ``durations_ms`` are used in turn."""
    images = [Image.fromarray(picture(index, *size)) for index in range(frames)]
    file = io.BytesIO()
    durations = [durations_ms[index % len(durations_ms)] for index in range(frames)]
    images[0].save(file, container.upper(), save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def make_packets(
    container: str, packets: Sequence[tuple[RgbImage, float]], *, codec: str = "mjpeg", pix_fmt: str = "yuvj420p"
) -> bytes:
    """A video of whole pictures, each of its own size and with any time (seconds), even one before the last."""
    file = io.BytesIO()
    height, width = packets[0][0].shape[:2]
    with av.open(file, "w", format=container, options={"avoid_negative_ts": "disabled"}) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = Fraction(1, TICKS)
        for order, (rgb, time_s) in enumerate(packets):
            encoder: Any = CodecContext.create(codec, "w")
            encoder.height, encoder.width = rgb.shape[:2]
            encoder.pix_fmt, encoder.time_base = pix_fmt, Fraction(1, TICKS)
            frame = to_frame(rgb, pix_fmt)
            frame.pts = 0
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream = stream
                packet.time_base = Fraction(1, TICKS)
                packet.pts = round(time_s * TICKS)
                # Muxers insist on decoding times that increase and come before the times of the pictures.
                packet.dts = order - 100 * TICKS
                output.mux(packet)
    return file.getvalue()


def loop(data: bytes, times: int, container: str = "matroska") -> bytes:
    """A video of intra-coded or whole clips played ``times`` times on end, without encoding again."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        first = source.streams.video[0]
        stream = output.add_stream_from_template(first)
        base = first.time_base or Fraction(1, TICKS)
        packets = [packet for packet in source.demux(first) if packet.size]
        stamps = [(packet.pts or 0, packet.dts or 0, bytes(packet)) for packet in packets]
        step = packets[1].dts - packets[0].dts if len(packets) > 1 else 1
        length = max(pts for pts, _, _ in stamps) + step
        for turn in range(times):
            for (pts, dts, content), original in zip(stamps, packets, strict=True):
                packet = av.Packet(content)
                packet.pts, packet.dts, packet.time_base = pts + turn * length, dts + turn * length, base
                packet.is_keyframe, packet.stream = original.is_keyframe, stream
                output.mux(packet)
    return file.getvalue()


def tone(seconds: float) -> list[AudioFrame]:
    """A 440 Hz tone in frames of 20 ms."""
    chunks = []
    count = SOUND_RATE // 50
    for index in range(max(1, round(seconds * 50))):
        at = (np.arange(count) + index * count) / SOUND_RATE
        wave = (0.3 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)[None]
        chunk = AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = SOUND_RATE, index * count, Fraction(1, SOUND_RATE)
        chunks.append(chunk)
    return chunks


def to_frame(rgb: RgbImage, pix_fmt: str, colorspace: int | None = None, color_range: int | None = None) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range)


@contextmanager
def _usual_priority() -> Iterator[None]:
    """Root's AV1 encoder makes its whole process a real-time one, and with it every browser that is started later."""
    pid = os.getpid()
    before = os.sched_getscheduler(pid), os.sched_getparam(pid)
    try:
        yield
    finally:
        os.sched_setscheduler(pid, *before)


def _options(codec: str, options: Mapping[str, str] | None) -> dict[str, str]:
    quick = {
        "libx264": {"preset": "ultrafast", "crf": "18"},
        # With B-frames it gives clips of a few frames arbitrary decoding times.
        "libx265": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none:pools=none:bframes=0"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "2M"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
        "libsvtav1": {"preset": "12", "crf": "30", "svtav1-params": "lp=1"},
        "mpeg4": {"q": "3"},
        "mjpeg": {"q": "3"},
    }
    return {**quick.get(codec, {}), **(options or {})}
