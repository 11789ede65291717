"""The sound of a recording: taken out of it, and copied beside new pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, cast

import av
from av.audio.resampler import AudioResampler
from av.container import Flags, InputContainer, OutputContainer
from av.stream import Discard, Disposition

from streamseg.closable import Closable
from streamseg.errors import NotFoundError, StreamsegError
from streamseg.media.clock import Clock
from streamseg.media.containers import HEAD_BYTES, sniff_container
from streamseg.media.libav import NamelessFile, packets_of, refuse_other_files
from streamseg.media.video import VideoLimits, VideoReader

log = logging.getLogger(__name__)

TargetContainer: TypeAlias = Literal["mp4", "webm"]

# What the containers take and browsers play. AC-3 and ALAC fit into MP4, but most browsers stay silent over them.
_COPIED: Final = {"mp4": frozenset({"aac", "mp3", "opus", "flac"}), "webm": frozenset({"opus", "vorbis"})}
# Rare decoders are where the faults are: they are not reached.
_AUDIO_CODECS: Final = frozenset(
    {"aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "vorbis", "flac", "alac"}
    | {"amr_nb", "amr_wb", "wmav1", "wmav2", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"}
)
_PCM = "pcm_"
# Names of implementations, for the ones that may look into a stream while the file is opened.
_DECODERS: Final = ",".join(
    sorted(_AUDIO_CODECS | {"mp1float", "mp2float", "mp3float", "dca", "libopus", "amrnb", "amrwb"})
)

_AAC_RATES: Final = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_OPUS_RATE = 48000
_BITS_PER_CHANNEL = 80_000
# A longer gap is left to the timestamps: as silence it could be of any length, which a stranger chooses.
_FILLED_GAP_S = 1.0
# Rounded times of packets that touch a limit must not fall to its other side.
_TOLERANCE_S = 0.002


class _DamagedError(Exception):
    """Packets that must not be copied as they are."""


def extract_audio(
    source: str | Path | BinaryIO,
    out: Path,
    *,
    container: TargetContainer,
    start_s: float | None = None,
    end_s: float | None = None,
) -> bool:
    """Writes the recording's sound to ``out`` so that ``VideoWriter`` can copy it into ``container``.

    ``out`` is an audio-only file of that container, whatever its name. Sound that the container takes and browsers
    play is copied packet by packet (MP4: AAC, MP3, Opus, FLAC; WebM: Opus, Vorbis); other sound, and sound with
    damage inside, becomes AAC or Opus, in mono or stereo. Of several streams it is the one marked as default, else
    the first. Times count from the same zero as ``VideoReader``'s ``time_s``; what lies before it is left out. With
    ``start_s`` and ``end_s`` only what lies between is written, at its original times.

    False, and no file, where there is no sound or none that can be read; the latter is logged as a warning. Raises
    NotFoundError (no such file) and OSError (``out`` cannot be made).
    """
    first_s = max(0.0, start_s or 0.0)
    last_s = math.inf if end_s is None else end_s
    if not isinstance(source, str | Path):
        # Whoever else reads this file, such as a VideoReader, goes on where it was.
        position = source.tell()
        try:
            return _extract(source, out, container, first_s, last_s)
        finally:
            source.seek(position)
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; only the opening may fail as "no such file"
    except FileNotFoundError as error:
        raise NotFoundError(f"no such file: {Path(source).name}") from error
    with file:
        return _extract(file, out, container, first_s, last_s)


def _extract(file: BinaryIO, out: Path, container: TargetContainer, first_s: float, last_s: float) -> bool:
    # Made here, so that what fails below is the recording's fault.
    out.open("wb").close()
    written = False
    try:
        written = _take(file, out, container, first_s, last_s)
    except (av.FFmpegError, StreamsegError, _DamagedError, ValueError, OverflowError) as error:
        log.warning("the sound cannot be read: %s", error)
    finally:
        if not written:
            out.unlink(missing_ok=True)
    return written


def _take(file: BinaryIO, out: Path, container: TargetContainer, first_s: float, last_s: float) -> bool:
    file.seek(0)
    kind = sniff_container(file.read(HEAD_BYTES))
    if kind is None or kind in ("gif", "webp"):
        return False
    with _Recording(file, kind) as recording:
        codec = recording.codec
    if codec is None:
        return False
    zero_s = _first_picture_s(file)
    for taken in (_copy, _encode):
        if taken is _copy and codec not in _COPIED[container]:
            continue
        try:
            with _Recording(file, kind, zero_s) as recording, av.open(str(out), "w", format=container) as target:
                return taken(recording, target, first_s, last_s)
        except (av.FFmpegError, _DamagedError, ValueError) as error:
            if taken is _encode:
                raise
            log.warning("the sound is encoded again, it cannot be copied: %s", error)
    return False


def _first_picture_s(file: BinaryIO) -> float:
    """The time of the file that ``VideoReader`` counts from."""
    everything = VideoLimits(max_pixels=2**30, max_seconds=math.inf, max_bytes=2**62)
    with VideoReader(file, limits=everything) as reader:
        return reader.info.start_s


class _Recording(Closable):
    """The sound of a file, as packets with times that can be relied on."""

    def __init__(self, file: BinaryIO, kind: str, zero_s: float = 0.0) -> None:
        self._zero_s = zero_s
        self._joins = kind in ("mpegts", "mpeg")
        self._container: InputContainer = av.open(
            NamelessFile(file),
            "r",
            format=kind,
            container_options={"protocol_whitelist": "none", "codec_whitelist": _DECODERS},
            metadata_errors="replace",
            io_open=refuse_other_files,
        )
        self.stream: Any = _audio_stream(self._container)
        for stream in self._container.streams:
            if stream is not self.stream:
                stream.discard = Discard.all
        # Else packets without a time are held back until one with a time comes, and that may be never.
        self._container.flags &= ~cast(Any, Flags.gen_pts).value

    def close(self) -> None:
        self._container.close()

    @property
    def codec(self) -> str | None:
        """The name of the codec; None where there is no sound, or none that is decoded here."""
        if self.stream is None:
            return None
        name: str = self.stream.codec_context.codec.canonical_name
        return name

    def packets(self) -> Iterator[tuple[Any, float, float]]:
        """Each packet with its time and its duration in seconds; the times strictly increase."""
        base = self.stream.time_base
        clock: Clock | None = None
        late_s = 0.0
        for packet in packets_of(self._container, self.stream):
            stored = packet.pts if packet.pts is not None else packet.dts
            duration_s = float((packet.duration or 0) * base)
            if clock is None:
                if stored is None:
                    continue
                # The clock starts at 0 with the first sound; this is how much later than the first picture it is.
                late_s = float(stored * base) - self._zero_s
                clock = Clock(duration_s or 0.02, joins=self._joins)
            time_s = clock.next(None if stored is None else stored * base, duration_s or None) + late_s
            yield packet, time_s, duration_s


def _audio_stream(container: InputContainer) -> Any:
    known = [stream for stream in container.streams.audio if stream.codec_context is not None and _is_known(stream)]
    marked = [stream for stream in known if stream.disposition & Disposition.default]
    if not known and container.streams.audio:
        log.warning("the sound is in a format (codec) that is not read; the video will be silent")
    return next(iter(marked or known), None)


def _is_known(stream: Any) -> bool:
    name = stream.codec_context.codec.canonical_name
    return name in _AUDIO_CODECS or name.startswith(_PCM)


def _copy(recording: _Recording, target: OutputContainer, first_s: float, last_s: float) -> bool:
    stream = recording.stream
    copy: Any = target.add_stream_from_template(stream)
    last_pts: int | None = None
    for packet, time_s, duration_s in recording.packets():
        if time_s >= last_s:
            break
        # The packet that ends at the start stays: it primes the decoder.
        if time_s + duration_s < first_s - _TOLERANCE_S:
            continue
        _check(packet)
        pts = round(time_s / stream.time_base)
        if last_pts is not None and pts <= last_pts:
            continue
        packet.pts = packet.dts = last_pts = pts
        packet.stream = copy
        target.mux(packet)
    return last_pts is not None


def _check(packet: Any) -> None:
    """A damaged packet would end the playback in a browser: it is found by decoding."""
    try:
        packet.decode()
    except av.FFmpegError as error:
        raise _DamagedError("it is damaged") from error
    if packet.is_corrupt:
        raise _DamagedError("it is damaged or cut off")


def _encode(recording: _Recording, target: OutputContainer, first_s: float, last_s: float) -> bool:
    mp4 = target.format.name == "mp4"
    source = recording.stream.codec_context
    rate = (source.sample_rate if source.sample_rate in _AAC_RATES else 48000) if mp4 else _OPUS_RATE
    layout = "mono" if source.layout.nb_channels == 1 else "stereo"
    encoder: Any = target.add_stream("aac" if mp4 else "libopus", rate=rate)
    context = encoder.codec_context
    context.layout = layout
    context.bit_rate = _BITS_PER_CHANNEL * (1 if layout == "mono" else 2)
    written = False
    for piece in _resampled(_decoded(recording, first_s, last_s), context.format, layout, rate):
        target.mux(encoder.encode(piece))
        written = True
    if written:
        target.mux(encoder.encode(None))
    return written


def _decoded(recording: _Recording, first_s: float, last_s: float) -> Iterator[Any]:
    """Frames whose pts are samples since the zero of the pictures; damaged packets are passed over."""
    for packet, time_s, _ in recording.packets():
        if time_s >= last_s:
            return
        stored = packet.pts if packet.pts is not None else packet.dts
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        next_s = time_s
        for frame in frames:
            # A decoder that holds back samples says so in the frame's own time.
            if frame.pts is not None and stored is not None:
                next_s = time_s + float(frame.pts * frame.time_base - stored * packet.time_base)
            begins_s, next_s = next_s, next_s + frame.samples / frame.sample_rate
            if next_s > first_s and begins_s < last_s:
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = round(begins_s * frame.sample_rate)
                yield frame


def _resampled(frames: Iterator[Any], sample_format: Any, layout: str, rate: int) -> Iterator[Any]:
    """The frames in one format; a short gap between them becomes silence."""
    resampler: AudioResampler | None = None
    kind: object = None
    expected_s = 0.0
    for frame in frames:
        begins_s = float(frame.pts * frame.time_base)
        frame_kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        if resampler is None or frame_kind != kind or abs(begins_s - expected_s) > _FILLED_GAP_S:
            if resampler is not None:
                yield from resampler.resample(None)
            kind = frame_kind
            resampler = AudioResampler(sample_format, layout, rate, options={"async": "1"})
        expected_s = begins_s + frame.samples / frame.sample_rate
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


class SoundTrack:
    """The packets of a file by ``extract_audio``, copied into a video as that advances."""

    def __init__(self, audio: Path, target: OutputContainer, origin_s: float) -> None:
        """Adds a stream to ``target``, whose 0 is at ``origin_s`` of the sound. Raises what PyAV raises."""
        self._target = target
        self._source = av.open(str(audio), "r", format="mov" if target.format.name == "mp4" else "matroska")
        try:
            template: Any = self._source.streams.audio[0]
            self._origin = round(origin_s / template.time_base)
            # MP4 can hide what lies before 0 (an edit list); WebM would shift the pictures by it.
            self._earliest_s = -math.inf if target.format.name == "mp4" else -0.01
            self._packets = self._source.demux(template)
            self._last_pts: int | None = None
            self._next = self._following()
            self._stream: Any = target.add_stream_from_template(template)
        except BaseException:
            self._source.close()
            raise

    def pump(self, until_s: float) -> None:
        """Copies every packet that begins before ``until_s`` (0 is the video's own) and was not copied yet."""
        while (packet := self._next) is not None and float(packet.pts * packet.time_base) < until_s:
            packet.stream = self._stream
            self._target.mux(packet)
            try:
                self._next = self._following()
            except av.FFmpegError as error:
                log.warning("the sound ends early: %s", error)
                self._next = None

    def close(self) -> None:
        self._next = None
        self._source.close()

    def _following(self) -> Any:
        for packet in self._packets:
            if packet.pts is None or not packet.size:
                continue
            base = packet.time_base
            packet.pts = packet.dts = packet.pts - self._origin
            ends_s = float((packet.pts + (packet.duration or 0)) * base)
            early = ends_s < -_TOLERANCE_S or float(packet.pts * base) < self._earliest_s
            if early or (self._last_pts is not None and packet.pts <= self._last_pts):
                continue
            self._last_pts = packet.pts
            return packet
        return None
