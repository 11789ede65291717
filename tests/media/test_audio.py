"""Sound taken out of recordings: copied where that goes, else encoded again, at the times of the pictures."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import av
import pytest

from streamseg.errors import NotFoundError
from streamseg.media.audio import TargetContainer, extract_audio
from streamseg.media.video import VideoReader

from .sounding import beeps, packets, sound_codec, sound_span, write_recording

# Container, pictures, sound -> the codec in MP4 and in WebM.
KINDS = {
    "mp4 aac": ("mp4", "libx264", "aac", "aac", "opus"),
    "mp4 mp3": ("mp4", "libx264", "libmp3lame", "mp3", "opus"),
    "mp4 alac": ("mp4", "libx264", "alac", "aac", "opus"),
    "mov pcm": ("mov", "libx264", "pcm_s16le", "aac", "opus"),
    "mkv opus": ("matroska", "libx264", "libopus", "opus", "opus"),
    "mkv flac": ("matroska", "libx264", "flac", "flac", "opus"),
    "mkv ac3": ("matroska", "libx264", "ac3", "aac", "opus"),
    "webm vorbis": ("webm", "libvpx", "vorbis", "aac", "vorbis"),
    "avi mp3": ("avi", "mpeg4", "libmp3lame", "mp3", "opus"),
    "avi pcm": ("avi", "mpeg4", "pcm_s16le", "aac", "opus"),
    "ts aac": ("mpegts", "libx264", "aac", "aac", "opus"),
    "ts mp2": ("mpegts", "libx264", "mp2", "aac", "opus"),
}


@pytest.mark.parametrize("target", ["mp4", "webm"])
@pytest.mark.parametrize("kind", KINDS)
def test_sound_is_copied_or_encoded_again_and_beeps_when_it_did(
    kind: str, target: TargetContainer, tmp_path: Path
) -> None:
    container, video, sound, in_mp4, in_webm = KINDS[kind]
    source = write_recording(tmp_path / "source", container, video, [sound])
    out = tmp_path / "sound.mka"
    assert extract_audio(source, out, container=target)
    assert sound_codec(out) == (in_mp4 if target == "mp4" else in_webm)
    assert beeps(out) == pytest.approx([1.0], abs=0.03)


@pytest.mark.parametrize("kind", ["mp4 aac", "mkv opus", "avi mp3"])
def test_what_the_container_takes_is_copied_byte_for_byte(kind: str, tmp_path: Path) -> None:
    container, video, sound, _, _ = KINDS[kind]
    source = write_recording(tmp_path / "source", container, video, [sound])
    assert extract_audio(source, tmp_path / "sound", container="mp4")
    assert packets(tmp_path / "sound") == packets(source)


def test_a_recording_without_sound_gives_none_and_leaves_no_file(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", sounds=[])
    assert not extract_audio(source, tmp_path / "sound", container="mp4")
    assert not (tmp_path / "sound").exists()


def test_a_file_object_serves_as_a_source_and_stays_open(tmp_path: Path) -> None:
    file = io.BytesIO(write_recording(tmp_path / "source").read_bytes())
    assert extract_audio(file, tmp_path / "sound", container="webm")
    assert not file.closed


def test_a_reader_of_the_same_file_object_goes_on_undisturbed(tmp_path: Path) -> None:
    file = io.BytesIO(write_recording(tmp_path / "source", seconds=4).read_bytes())
    with VideoReader(file) as reader:
        frames = reader.frames()
        next(frames)
        assert extract_audio(file, tmp_path / "sound", container="mp4")
        assert len(list(frames)) == 99
        assert reader.problems == []


def test_the_cut_keeps_the_original_times(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", seconds=4, events_s=(0.5, 1.5, 2.5, 3.5))
    for target, kind in (("mp4", "copied"), ("webm", "encoded")):
        out = tmp_path / kind
        assert extract_audio(source, out, container=target, start_s=1.2, end_s=3.2)  # type: ignore[arg-type]
        assert beeps(out) == pytest.approx([1.5, 2.5], abs=0.03)
        assert sound_span(out) == pytest.approx((1.2, 3.2), abs=0.06)


def test_a_cut_behind_the_end_gives_none(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source")
    assert not extract_audio(source, tmp_path / "sound", container="mp4", start_s=60.0)
    assert not (tmp_path / "sound").exists()


@pytest.mark.parametrize("container", ["mpegts", "matroska", "mp4"])
def test_times_count_from_the_first_picture(container: str, tmp_path: Path) -> None:
    """The file's own clock starts at 7 s (a transport stream adds more): the first picture is at 0 all the same."""
    source = write_recording(tmp_path / "source", container, start_s=7.0)
    assert extract_audio(source, tmp_path / "sound", container="mp4")
    assert beeps(tmp_path / "sound") == pytest.approx([1.0], abs=0.03)


def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", sound_s=(0.8, 2.0))
    for target in ("mp4", "webm"):
        assert extract_audio(source, tmp_path / target, container=target)  # type: ignore[arg-type]
        assert sound_span(tmp_path / target)[0] == pytest.approx(0.8, abs=0.03)
        assert beeps(tmp_path / target) == pytest.approx([1.0], abs=0.03)


def test_sound_before_the_first_picture_is_left_out(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", "matroska", start_s=2.0, sound_s=(-1.0, 2.0), events_s=(-0.5, 1.0))
    assert extract_audio(source, tmp_path / "sound", container="mp4")
    assert beeps(tmp_path / "sound") == pytest.approx([1.0], abs=0.03)


@pytest.mark.parametrize("sound", ["libopus", "flac"])
def test_a_gap_in_the_sound_stays_a_gap(sound: str, tmp_path: Path) -> None:
    source = write_recording(
        tmp_path / "source", "matroska", sounds=[sound], seconds=6, silent_s=(0.6, 0.9), events_s=(0.3, 1.5)
    )
    for target in ("mp4", "webm"):
        assert extract_audio(source, tmp_path / target, container=target)  # type: ignore[arg-type]
        assert beeps(tmp_path / target) == pytest.approx([0.3, 1.5], abs=0.05)


def test_a_gap_of_any_length_costs_nothing(tmp_path: Path) -> None:
    source = write_recording(
        tmp_path / "source", "matroska", sounds=["ac3"], seconds=2, sound_s=(0.0, 2.0), events_s=(1.5,)
    )
    far = tmp_path / "far"
    with av.open(str(source)) as original, av.open(str(far), "w", format="matroska") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in original.streams}
        for packet in original.demux():
            if packet.size and packet.pts is not None and packet.dts is not None:
                if packet.stream.type == "audio" and packet.pts * packet.time_base > 1:
                    packet.pts += 36_000_000
                    packet.dts += 36_000_000
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    assert extract_audio(far, tmp_path / "sound", container="mp4")
    assert (tmp_path / "sound").stat().st_size < 100_000
    assert len(packets(tmp_path / "sound")) < 150


def test_of_several_streams_the_default_one_is_taken(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", "matroska", sounds=["aac", "libopus"])
    marked = tmp_path / "marked"
    for default, codec in ((0, "aac"), (1, "opus")):
        with av.open(str(source)) as original, av.open(str(marked), "w", format="matroska") as output:
            copies = {stream.index: output.add_stream_from_template(stream) for stream in original.streams}
            for number, stream in enumerate(original.streams.audio):
                copies[stream.index].disposition = av.stream.Disposition(1 if number == default else 0)
            for packet in original.demux():
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    output.mux(packet)
        assert extract_audio(marked, tmp_path / "sound", container="mp4")
        assert sound_codec(tmp_path / "sound") == codec


def damaged(source: Path, out: Path, chosen: range) -> Path:
    """The recording with the bytes of some packets of sound overwritten."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as recording:
        sound = [packet for packet in recording.demux(recording.streams.audio[0]) if packet.size]
    for number in chosen:
        if number < len(sound):
            position = sound[number].pos
            assert position is not None
            data[position : position + sound[number].size] = b"\xff" * sound[number].size
    out.write_bytes(data)
    return out


def test_damage_inside_is_passed_over_and_the_rest_stays_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_recording(tmp_path / "source", seconds=3, events_s=(0.5, 2.5))
    broken = damaged(source, tmp_path / "broken", range(60, 70))
    with caplog.at_level(logging.WARNING):
        assert extract_audio(broken, tmp_path / "sound", container="mp4")
    assert "cannot be copied" in caplog.text
    assert beeps(tmp_path / "sound") == pytest.approx([0.5, 2.5], abs=0.03)
    with av.open(str(tmp_path / "sound")) as whole:
        assert sum(frame.samples for frame in whole.decode(audio=0)) > 100_000


def test_sound_that_is_damaged_throughout_gives_none_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = damaged(write_recording(tmp_path / "source"), tmp_path / "broken", range(10_000))
    with caplog.at_level(logging.WARNING):
        assert not extract_audio(broken, tmp_path / "sound", container="mp4")
    assert caplog.text
    assert not (tmp_path / "sound").exists()


def test_a_truncated_recording_gives_the_sound_up_to_there(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", "matroska", seconds=4, events_s=(0.5, 3.5))
    data = source.read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    assert extract_audio(tmp_path / "cut", tmp_path / "sound", container="mp4")
    assert beeps(tmp_path / "sound") == pytest.approx([0.5], abs=0.03)


@pytest.mark.parametrize("content", [b"", b"no recording at all", b"#EXTM3U\nfile:///etc/passwd\n"])
def test_what_is_no_recording_gives_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(content)
    assert not extract_audio(tmp_path / "source", tmp_path / "sound", container="mp4")
    assert not (tmp_path / "sound").exists()


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no such file: gone\.mp4"):
        extract_audio(tmp_path / "gone.mp4", tmp_path / "sound", container="mp4")


def test_a_folder_that_does_not_exist_is_no_fault_of_the_recording(tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source")
    with pytest.raises(FileNotFoundError):
        extract_audio(source, tmp_path / "gone" / "sound", container="mp4")


@pytest.mark.parametrize(("layout", "rate", "channels"), [("mono", 22050, 1), ("5.1", 48000, 2)])
def test_other_layouts_and_rates_become_mono_or_stereo(layout: str, rate: int, channels: int, tmp_path: Path) -> None:
    source = write_recording(tmp_path / "source", "matroska", sounds=["flac"], layout=layout, rate=rate)
    assert extract_audio(source, tmp_path / "sound", container="webm")
    with av.open(str(tmp_path / "sound")) as sound:
        assert sound.streams.audio[0].codec_context.layout.nb_channels == channels
    assert beeps(tmp_path / "sound") == pytest.approx([1.0], abs=0.03)
