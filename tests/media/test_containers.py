"""sniff_container: what a file is, by its content alone; missing_bytes: whether all of it is there."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from media.make_video import make_animation, make_sound, make_video, picture
from streamseg.media.containers import HEAD_BYTES, VIDEO_SUFFIXES, describe, missing_bytes, sniff_container


def still(format_: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(1)).save(file, format_)
    return file.getvalue()


@pytest.mark.parametrize(
    ("muxer", "codec", "wanted"),
    [
        ("mp4", "libx264", "mov"),
        ("mov", "libx264", "mov"),
        ("3gp", "libx264", "mov"),
        ("matroska", "libx264", "matroska"),
        ("webm", "libvpx", "matroska"),
        ("avi", "mpeg4", "avi"),
        ("mpegts", "libx264", "mpegts"),
        ("mpeg", "mpeg2video", "mpeg"),
    ],
)
def test_real_files_are_recognised(muxer: str, codec: str, wanted: str) -> None:
    assert sniff_container(make_video(muxer, codec, frames=3)[:HEAD_BYTES]) == wanted


@pytest.mark.parametrize("container", ["gif", "webp"])
def test_animations_are_recognised(container: str) -> None:
    assert sniff_container(make_animation(container, frames=2)[:HEAD_BYTES]) == container


def test_quicktime_files_without_a_type_box_are_recognised() -> None:
    for box in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        assert sniff_container(b"\0\0\0\x08" + box + bytes(64)) == "mov"


@pytest.mark.parametrize("layout", ["blu-ray", "error correction", "cut at the front", "two packets"])
def test_transport_streams_are_recognised_in_every_layout(layout: str) -> None:
    data = make_video("mpegts", frames=10)
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    variants = {
        "blu-ray": b"".join(b"\x12\x34\x56\x78" + packet for packet in packets),
        "error correction": b"".join(packet + bytes(16) for packet in packets),
        "cut at the front": data[100:],
        "two packets": data[:376],
    }
    assert sniff_container(variants[layout][:HEAD_BYTES]) == "mpegts"


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"", ""),
        (b"G", ""),
        (b"\0" * 4096, ""),
        (b"hello, this is text " * 50, ""),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/hostname\n", "playlist"),
        (b"\xef\xbb\xbf  \n#EXTM3U\n", "playlist"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "playlist"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "playlist"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04" + bytes(100), "archive"),
        (b"\0\0\0\x1cftypavif" + bytes(100), "still picture"),
        (b"\0\0\0\x1cftypheic" + bytes(100), "still picture"),
        (b"ID3\x04" + bytes(100), "sound"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound"),
    ],
)
def test_everything_else_is_refused_and_described(head: bytes, word: str) -> None:
    assert sniff_container(head) is None
    assert word in describe(head)
    assert bool(word) == bool(describe(head))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_still_pictures_are_no_videos(format_: str) -> None:
    assert sniff_container(still(format_)) is None
    assert "still picture" in describe(still(format_))


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts", "webp", "gif"])
def test_the_bytes_that_a_cut_file_lacks_are_counted(container: str) -> None:
    data = make_animation(container) if container in ("webp", "gif") else make_video(container, "mpeg4")
    kind = sniff_container(data[:HEAD_BYTES])
    assert kind is not None
    assert missing_bytes(io.BytesIO(data), kind, len(data)) == 0
    cut = data[: len(data) * 6 // 10]
    # Streams that are made to be cut, and GIF, do not say how long they are.
    known = container not in ("mpegts", "gif")
    assert missing_bytes(io.BytesIO(cut), kind, len(cut)) == (len(data) - len(cut) if known else 0)


def test_what_is_appended_to_a_whole_file_is_not_taken_for_a_cut() -> None:
    data = make_video("mp4") + b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8" * 4
    assert missing_bytes(io.BytesIO(data), "mov", len(data)) == 0


def test_sound_files_of_the_same_containers_pass_here_and_fail_later() -> None:
    assert sniff_container(make_sound("mp4")) == "mov"


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".mp4", ".mov", ".webm", ".mkv", ".avi", ".ts", ".gif", ".webp"} <= VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)
