"""Recordings made in code in which a white flash and a beep come at the same time, and what finds both again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 96, 64
FPS = 25
FLASH_S = 0.2


def picture(time_s: float, events_s: Sequence[float], width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """White while an event lasts, else dark with a texture."""
    lit = any(at - 1e-6 <= time_s < at + FLASH_S - 1e-6 for at in events_s)
    rgb = np.full((height, width, 3), 250 if lit else 20, np.uint8)
    rgb[::4, ::4] += 5
    return rgb


def write_recording(
    path: Path,
    container: str = "mp4",
    video: str = "libx264",
    sounds: Sequence[str] = ("aac",),
    *,
    seconds: float = 2.0,
    events_s: Sequence[float] = (1.0,),
    start_s: float = 0.0,
    sound_s: tuple[float, float] | None = None,
    silent_s: tuple[float, float] | None = None,
    rate: int = 48000,
    layout: str = "stereo",
) -> Path:
    """``start_s``: added to every stored time. ``sound_s``: where the sound begins and ends, if not as the pictures.

    ``silent_s``: no packets of sound are stored between these times.
    """
    from_s, to_s = sound_s or (0.0, seconds)
    with av.open(str(path), "w", format=container) as output:
        pictures: Any = output.add_stream(video, rate=FPS, width=WIDTH, height=HEIGHT)
        pictures.pix_fmt = "yuv420p"
        pictures.codec_context.options = {"preset": "ultrafast"} if video == "libx264" else {}
        voices: list[Any] = []
        for codec in sounds:
            # FFmpeg's own Vorbis encoder calls itself experimental.
            voice: Any = output.add_stream(codec, rate=rate, options={"strict": "experimental"})
            voice.codec_context.layout = layout
            voices.append(voice)
        chunks = [_chunk(at, events_s, rate, layout) for at in np.arange(from_s, to_s - 1e-9, 0.02)]
        for number in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(picture(number / FPS, events_s), format="rgb24")
            frame.pts, frame.time_base = number + round(start_s * FPS), Fraction(1, FPS)
            output.mux(pictures.encode(frame))
            while chunks and (chunks[0].time <= number / FPS or number == round(seconds * FPS) - 1):
                chunk = chunks.pop(0)
                if silent_s and silent_s[0] <= chunk.time < silent_s[1]:
                    continue
                chunk.pts += round(start_s * rate)
                for voice in voices:
                    output.mux(voice.encode(chunk))
        for stream in (pictures, *voices):
            output.mux(stream.encode(None))
    return path


def _chunk(at: float, events_s: Sequence[float], rate: int, layout: str) -> av.AudioFrame:
    first, count = round(at * rate), round((at + 0.02) * rate) - round(at * rate)
    times = (np.arange(count) + first) / rate
    loud = np.zeros(count, bool)
    for event in events_s:
        loud |= (times >= event) & (times < event + FLASH_S)
    wave = (np.where(loud, 0.7, 0.002) * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    channels = len(av.AudioLayout(layout).channels)
    chunk = av.AudioFrame.from_ndarray(np.tile(wave, (channels, 1)), format="fltp", layout=layout)
    chunk.sample_rate, chunk.pts, chunk.time_base = rate, first, Fraction(1, rate)
    return chunk


def beeps(path: Path) -> list[float]:
    """When each beep begins, by the first loud sample after a quiet tenth of a second."""
    found: list[float] = []
    last_loud = -1.0
    with av.open(str(path)) as recording:
        for frame in recording.decode(recording.streams.audio[0]):
            samples = frame.to_ndarray()
            scale = np.iinfo(samples.dtype).max if samples.dtype.kind == "i" else 1.0
            if frame.format.is_packed:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            assert frame.time is not None
            for index in np.flatnonzero(np.abs(samples[0] / scale) > 0.3):
                at = frame.time + index / frame.sample_rate
                if at - last_loud > 0.1:
                    found.append(at)
                last_loud = at
    return found


def flashes(path: Path) -> list[float]:
    """When each flash begins."""
    found: list[float] = []
    lit = False
    with av.open(str(path)) as recording:
        for frame in recording.decode(video=0):
            now = frame.to_ndarray(format="gray").mean() > 128
            if now and not lit:
                assert frame.time is not None
                found.append(frame.time)
            lit = now
    return found


def packets(path: Path) -> list[bytes]:
    """What the first stream of sound holds, packet by packet."""
    with av.open(str(path)) as recording:
        return [bytes(packet) for packet in recording.demux(recording.streams.audio[0]) if packet.size]


def sound_span(path: Path) -> tuple[float, float]:
    """When the sound begins and ends, decoded."""
    with av.open(str(path)) as recording:
        frames = [
            (float(frame.time or 0.0), frame.samples / frame.sample_rate)
            for frame in recording.decode(recording.streams.audio[0])
        ]
    return frames[0][0], frames[-1][0] + frames[-1][1]


def sound_codec(path: Path) -> str:
    with av.open(str(path)) as recording:
        return recording.streams.audio[0].codec_context.codec.canonical_name
