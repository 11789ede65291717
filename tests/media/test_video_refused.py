"""What VideoReader refuses, and how it says so: files that are no videos, files that lure, files over a limit."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from pathlib import Path
from typing import Any

import av
import pytest

from media.make_video import make_animation, make_packets, make_sound, make_video, picture, to_frame, tone
from media.read_video import read, refusal
from streamseg.errors import NotFoundError, TooLargeError, UnsupportedMediaError
from streamseg.media.libav import LibavVideo
from streamseg.media.sampling import Sampling
from streamseg.media.video import VideoReader

# Files that are no videos.


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile {path}\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
        b"[playlist]\nFile1={path}\n",
        b"subfile,,start,0,end,100,,:{path}",
    ],
)
def test_playlists_dressed_as_videos_are_refused_and_open_no_other_file(data: bytes, canary: Path) -> None:
    dressed = canary.with_name("clip.mp4")
    dressed.write_bytes(data.replace(b"{path}", str(canary).encode()))
    with pytest.raises(UnsupportedMediaError, match="no video of an accepted format"):
        VideoReader(dressed)
    assert not was_read(canary)


@pytest.mark.parametrize(
    ("demuxer", "text"),
    [
        ("hls", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n"),
        ("concat", "ffconcat version 1.0\nfile {path}\n"),
    ],
)
def test_even_a_demuxer_that_opens_other_files_cannot(demuxer: str, text: str, canary: Path) -> None:
    playlist = text.format(path=canary).encode()
    with pytest.raises(UnsupportedMediaError):
        list(LibavVideo.open_file(io.BytesIO(playlist), demuxer, 10**6).pictures())
    assert not was_read(canary)
    # Without what is done against it, it would: the canary sings.
    options = {"safe": "0", "allowed_extensions": "ALL"}
    with av.open(io.BytesIO(playlist), format=demuxer, options=options) as unguarded:
        next(unguarded.decode(video=0))
    assert was_read(canary)


def test_a_quicktime_file_that_refers_to_another_file_does_not_open_it(canary: Path) -> None:
    dressed = canary.with_name("clip.mov")
    dressed.write_bytes(reference_movie(str(canary).encode()))
    with pytest.raises(UnsupportedMediaError), VideoReader(dressed) as reader:
        list(reader.frames())
    assert not was_read(canary)
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(dressed), options=options) as unguarded, contextlib.suppress(av.FFmpegError):
        list(unguarded.decode(video=0))
    assert was_read(canary)


def reference_movie(target: bytes) -> bytes:
    """A QuickTime file whose samples are in the file ``target``: an alias record takes the place of "in here"."""
    name = target.rsplit(b"/", 1)[-1]
    even = target + bytes(len(target) % 2)
    record = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    record += struct.pack(">hh", 2, len(target)) + even + struct.pack(">hh", 18, len(target)) + even
    record += struct.pack(">hh", -1, 0)
    entry = b"alis" + bytes(4) + record
    data = make_video("mov", frames=3)
    at = data.index(b"dref") - 4
    old = int.from_bytes(data[at : at + 4], "big")
    reference = b"dref" + struct.pack(">II", 0, 1) + struct.pack(">I", len(entry) + 4) + entry
    data = data[:at] + struct.pack(">I", len(reference) + 4) + reference + data[at + old :]
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = data.index(parent) - 4
        size = int.from_bytes(data[at : at + 4], "big") + len(reference) + 4 - old
        data = data[:at] + struct.pack(">I", size) + data[at + 4 :]
    return data


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A video that nobody may read; the times of access of this file system must be kept to tell."""
    path = tmp_path / "canary.ts"
    path.write_bytes(make_video("mpegts"))
    os.utime(path, (1, 1))
    path.read_bytes()
    if not was_read(path):
        pytest.skip("this file system does not keep times of access")
    os.utime(path, (1, 1))
    return path


def was_read(path: Path) -> bool:
    return path.stat().st_atime != 1


def test_sound_files_are_refused_as_such() -> None:
    for data in (make_sound("mp4", "aac"), make_sound("webm", "libopus"), make_sound("avi", "mp3")):
        assert "sound, but no video" in refusal(data)


def test_a_cover_picture_is_no_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        voice: Any = output.add_stream("aac", rate=48_000, layout="mono")
        cover: Any = output.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = to_frame(picture(1), "yuvj420p")
        frame.pts = 0
        output.mux([*cover.encode(frame), *cover.encode(None)])
        for chunk in tone(0.3):
            output.mux(voice.encode(chunk))
        output.mux(voice.encode(None))
    assert "cover picture, but no video" in refusal(file.getvalue())


def test_a_video_track_without_pictures_is_refused() -> None:
    data = bytearray(make_video("matroska", "ffv1", frames=1))
    # The only block becomes padding.
    at = data.rindex(b"\xa3")
    data[at] = 0xEC
    assert "without a single picture" in refusal(bytes(data))


def test_pictures_that_cannot_be_decoded_are_refused() -> None:
    data = bytearray(make_video("mp4", "libx264", container_options={"movflags": "faststart"}))
    at = data.index(b"mdat") + 4
    data[at:] = bytes(len(data) - at)
    assert "can be decoded" in refusal(bytes(data))


def test_a_codec_outside_the_list_is_named() -> None:
    assert "(codec) cinepak" in refusal(make_video("avi", "cinepak", pix_fmt="rgb24", frames=3))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"text " * 1000, "no video of an accepted format"),
        (b"\0\0\0\x18ftypisom" + bytes(200), "truncated or damaged"),
        (b"\x1a\x45\xdf\xa3" + bytes(2000), "truncated or damaged"),
        (b"RIFF\xff\0\0\0AVI " + bytes(2000), "truncated or damaged"),
        (b"GIF89a" + bytes(200), "truncated or damaged"),
        (b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(200), "truncated or damaged"),
        ((b"G" + bytes(187)) * 30, "no video|damaged"),
        (b"\0\0\x01\xba" + bytes(2000), "no video|damaged"),
    ],
)
def test_bytes_that_are_no_video_are_refused_with_the_reason(data: bytes, word: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=word):
        VideoReader(io.BytesIO(data))


def test_paths_that_lead_to_no_file_are_refused_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError, match="no such file"):
        VideoReader(tmp_path / "absent.mp4")
    with pytest.raises(NotFoundError, match="not fetched"):
        VideoReader("https://example.invalid/clip.mp4")
    with pytest.raises(UnsupportedMediaError, match="folder"):
        VideoReader(tmp_path)
    with pytest.raises(UnsupportedMediaError, match="no regular file"):
        VideoReader(tmp_path / "pipe")


def test_sources_that_are_no_binary_files_are_refused_with_the_reason() -> None:
    source: Any
    for source, word in (
        (io.StringIO("text"), "binary mode"),
        (5, "not int"),
        (open(os.pipe()[0], "rb"), "can seek"),  # noqa: SIM115, PTH123
    ):
        with pytest.raises(UnsupportedMediaError, match=word):
            VideoReader(source)
        if hasattr(source, "close"):
            source.close()


def test_a_file_that_fails_while_it_is_read_is_an_error_of_its_own() -> None:
    class Failing(io.BytesIO):
        failing = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.failing:
                raise OSError("input/output error")
            return super().read(size)

    file = Failing(make_video("matroska", "mjpeg", size=(320, 240), pix_fmt="yuvj420p", frames=50))
    with VideoReader(file) as reader:
        frames = reader.frames()
        file.failing = True
        with pytest.raises(UnsupportedMediaError, match="cannot be read: input/output error"):
            list(frames)


# Limits.


@pytest.mark.parametrize("size", [(66, 48), (1024, 768), (2048, 1536)])
@pytest.mark.parametrize(("muxer", "codec"), [("mpegts", "libx264"), ("webm", "libvpx-vp9"), ("mp4", "libx265")])
def test_pictures_over_the_limit_are_refused(muxer: str, codec: str, size: tuple[int, int]) -> None:
    data = make_video(muxer, codec, size=size, frames=2)
    assert "at most 3072" in refusal(data, TooLargeError, max_pixels=64 * 48)
    assert len(read(data, max_pixels=size[0] * size[1])[1]) == 2


@pytest.mark.parametrize("container", ["gif", "webp"])
def test_animations_over_the_limit_are_refused(container: str) -> None:
    data = make_animation(container, size=(66, 48))
    assert "at most 3072" in refusal(data, TooLargeError, max_pixels=64 * 48)


@pytest.mark.parametrize("size", [(96, 64), (1024, 768), (2048, 1536)])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_pictures_that_grow_over_the_limit_within_a_video_are_refused(codec: str, size: tuple[int, int]) -> None:
    data = make_video("mpegts", codec) + make_video("mpegts", codec, size=size)
    assert "at most 3072" in refusal(data, TooLargeError, max_pixels=64 * 48)


@pytest.mark.parametrize("size", [(96, 64), (1024, 768)])
def test_jpegs_that_grow_over_the_limit_within_a_video_are_refused(size: tuple[int, int]) -> None:
    data = make_packets("matroska", [(picture(i, *((64, 48) if i < 5 else size)), 0.04 * i) for i in range(10)])
    assert "at most 3072" in refusal(data, TooLargeError, max_pixels=64 * 48)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"max_frames": 9}, "more than 9 frames"),
        ({"max_seconds": 0.3}, "at most 0.3 s"),
        ({"max_bytes": 1000}, "at most 1000 are allowed"),
        ({"max_wall_s": 0.0}, "0 s"),
    ],
)
def test_each_limit_is_named_when_it_is_exceeded(limits: dict[str, Any], word: str) -> None:
    assert word in refusal(make_video(), TooLargeError, **limits)
    generous = {"max_frames": 10, "max_seconds": 0.4, "max_bytes": 10**6, "max_wall_s": 60.0}
    assert len(read(make_video(), **generous)[1]) == 10


def test_frames_that_are_left_out_count_too() -> None:
    with pytest.raises(TooLargeError, match="9 frames"):
        read(make_video(), Sampling(every=100), max_frames=9)


def test_a_duration_that_the_file_does_not_tell_is_limited_while_it_is_read() -> None:
    data = make_packets("matroska", [(picture(i), 0.0) for i in range(50)])
    with pytest.raises(TooLargeError, match="longer than 0\\.5 s"):
        read(data, max_seconds=0.5)
