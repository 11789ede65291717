"""VideoReader: every accepted format and the oddities of real files, and a named error for everything else."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import struct
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from media.make_video import (
    is_upright,
    loop,
    make_animation,
    make_packets,
    make_sound,
    make_video,
    number_of,
    picture,
    to_frame,
    tone,
)
from streamseg.errors import NotFoundError, StreamsegError, TooLargeError, UnsupportedMediaError
from streamseg.media.frame import Frame
from streamseg.media.libav import LibavVideo
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.video import VideoInfo, VideoLimits, VideoReader

B_FRAMES = {"preset": "medium", "bf": "3"}
TEN = list(range(10))


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


# Formats: muxer, encoder, what the encoder is told; then the names that the reader gives.
FORMATS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("mp4", "libx264", {}, "mov", "h264"),
    ("mp4", "libx264", {"options": B_FRAMES}, "mov", "h264"),
    ("mp4", "libx264", {"pix_fmt": "yuv422p10le"}, "mov", "h264"),
    ("mp4", "libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, "mov", "h264"),
    ("mp4", "libx264", {"container_options": {"movflags": "faststart"}, "sound": "aac"}, "mov", "h264"),
    ("mp4", "libx265", {}, "mov", "hevc"),
    ("mp4", "libx265", {"pix_fmt": "yuv420p10le"}, "mov", "hevc"),
    ("mp4", "libsvtav1", {"pix_fmt": "yuv420p10le"}, "mov", "av1"),
    ("mp4", "mpeg4", {"options": {"bf": "2"}}, "mov", "mpeg4"),
    ("mov", "libx264", {"sound": "aac"}, "mov", "h264"),
    ("mov", "prores", {"pix_fmt": "yuv422p10le"}, "mov", "prores"),
    ("mov", "mjpeg", {"pix_fmt": "yuvj420p"}, "mov", "mjpeg"),
    ("mov", "png", {"pix_fmt": "rgb24"}, "mov", "png"),
    ("matroska", "libx264", {"options": B_FRAMES}, "matroska", "h264"),
    ("matroska", "libx265", {}, "matroska", "hevc"),
    ("matroska", "ffv1", {"pix_fmt": "yuv444p"}, "matroska", "ffv1"),
    ("webm", "libvpx", {"sound": "libopus"}, "matroska", "vp8"),
    ("webm", "libvpx-vp9", {}, "matroska", "vp9"),
    ("webm", "libsvtav1", {}, "matroska", "av1"),
    ("avi", "mpeg4", {"sound": "pcm_s16le"}, "avi", "mpeg4"),
    ("avi", "mpeg4", {"options": {"bf": "2"}}, "avi", "mpeg4"),
    ("avi", "libx264", {"options": B_FRAMES}, "avi", "h264"),
    ("avi", "mjpeg", {"pix_fmt": "yuvj422p"}, "avi", "mjpeg"),
    ("avi", "rawvideo", {"pix_fmt": "bgr24"}, "avi", "rawvideo"),
    ("mpegts", "libx264", {"options": B_FRAMES, "sound": "aac"}, "mpegts", "h264"),
    ("mpegts", "libx265", {}, "mpegts", "hevc"),
    ("mpegts", "mpeg2video", {}, "mpegts", "mpeg2video"),
]


@pytest.mark.parametrize(("muxer", "codec", "how", "container", "name"), FORMATS)
def test_every_frame_of_every_format_comes_in_order_with_its_time(
    muxer: str, codec: str, how: dict[str, Any], container: str, name: str
) -> None:
    info, frames, problems = read(make_video(muxer, codec, **how))
    assert numbers(frames) == TEN
    assert all(is_upright(frame.rgb) for frame in frames)
    assert [frame.index for frame in frames] == TEN
    assert times(frames) == steady(10)
    assert (info.container, info.codec, info.width, info.height) == (container, name, 64, 48)
    assert info.has_audio == ("sound" in how)
    assert info.fps == pytest.approx(25)
    assert info.duration_s == pytest.approx(0.4, abs=0.09)  # in AVI and TS the sound may last longer
    assert info.frame_count == pytest.approx(10, abs=2)
    assert problems == []


@pytest.mark.parametrize("container", ["gif", "webp"])
def test_animations_keep_their_uneven_durations(container: str) -> None:
    info, frames, problems = read(make_animation(container, durations_ms=(40, 100)))
    assert numbers(frames) == TEN
    assert times(frames) == [0.0, 0.04, 0.14, 0.18, 0.28, 0.32, 0.42, 0.46, 0.56, 0.6]
    assert all(is_upright(frame.rgb) for frame in frames)
    assert (info.container, info.codec, info.frame_count, info.has_audio) == (container, container, 10, False)
    assert info.duration_s == pytest.approx(0.7)
    assert problems == []


def test_a_gif_of_one_picture_is_a_video_of_one_frame() -> None:
    _, frames, _ = read(make_animation("gif", frames=1))
    assert times(frames) == [0.0]


@pytest.mark.parametrize(
    ("muxer", "codec", "how"),
    [
        ("mp4", "libx264", {"pix_fmt": "yuv444p"}),
        ("webm", "libvpx", {}),
        ("webm", "libvpx-vp9", {}),
        ("avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
        ("matroska", "ffv1", {}),
        ("avi", "mpeg4", {}),
    ],
)
def test_odd_sizes_are_kept_to_the_last_row_and_column(muxer: str, codec: str, how: dict[str, Any]) -> None:
    info, frames, _ = read(make_video(muxer, codec, size=(65, 47), **how))
    assert (info.width, info.height) == (65, 47)
    assert numbers(frames) == TEN
    expected = picture(9, 65, 47).astype(int)
    assert np.abs(frames[9].rgb[:, -1].astype(int) - expected[:, -1]).mean() < 25
    assert np.abs(frames[9].rgb[-1].astype(int) - expected[-1]).mean() < 25


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270, -90, -180, 450])
def test_pictures_come_upright_whatever_way_they_are_stored(turn_deg: int, mirror: bool) -> None:
    data = make_video(turn_deg=turn_deg, mirror=mirror, size=(64, 32), frames=3)
    info, frames, _ = read(data)
    stands = turn_deg % 180 != 0
    assert (info.width, info.height) == ((32, 64) if stands else (64, 32))
    assert frames[0].rgb.shape == (info.height, info.width, 3)
    assert numbers(frames) == [0, 1, 2]
    assert all(is_upright(frame.rgb) for frame in frames)
    if not mirror:
        assert info.rotation_deg == -turn_deg % 360
        with av.open(io.BytesIO(data)) as check:
            stored = next(check.decode(video=0))
            assert (stored.rotation - turn_deg) % 360 == 0


UNEVEN = [0.0, 0.1, 0.15, 0.5, 0.6, 0.61, 0.7, 2.0, 2.04, 3.0]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("start_s", [0.0, 0.52])
def test_a_variable_frame_rate_is_kept_and_counted_from_the_first_frame(container: str, start_s: float) -> None:
    info, frames, problems = read(make_video(container, times_s=[start_s + time_s for time_s in UNEVEN]))
    assert times(frames) == UNEVEN
    assert numbers(frames) == TEN
    assert problems == []
    if container != "mpegts":  # its clock may begin anywhere
        assert info.start_s == pytest.approx(start_s, abs=0.001)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_times_that_begin_below_zero_are_moved_to_zero(container: str) -> None:
    options = {"avoid_negative_ts": "disabled"} | ({} if container == "matroska" else {"use_editlist": "0"})
    data = make_video(container, times_s=[-0.2 + time_s for time_s in steady(10)], container_options=options)
    _, frames, _ = read(data)
    assert numbers(frames) == TEN
    assert times(frames) == steady(10)


def test_times_of_frames_in_the_wrong_order_are_moved_on_and_said() -> None:
    given = [0.0, 0.04, 0.04, 0.08, 0.12, 0.1, 0.16, 0.2]
    _, frames, problems = read(make_packets("matroska", [(picture(i), time_s) for i, time_s in enumerate(given)]))
    assert times(frames) == [0.0, 0.04, 0.06, 0.08, 0.12, 0.14, 0.16, 0.2]
    assert numbers(frames) == list(range(8))
    assert problems == ["the times of 2 frames did not increase; they were moved on"]


def test_frames_that_all_have_the_same_time_follow_at_the_frame_rate() -> None:
    _, frames, problems = read(make_packets("matroska", [(picture(i), 0.0) for i in range(10)]))
    assert all(0 < later - earlier <= 0.041 for earlier, later in pairwise(times(frames)))
    assert times(frames)[-1] == pytest.approx(0.36, abs=0.03)
    assert len(problems) == 1


def test_a_clock_that_starts_anew_goes_on_where_it_was() -> None:
    given = [5.0, 5.04, 5.08, 1.0, 1.04, 1.08]
    _, frames, problems = read(make_packets("matroska", [(picture(i), time_s) for i, time_s in enumerate(given)]))
    assert times(frames) == steady(6)
    assert "starts anew" in problems[0]


@pytest.mark.parametrize(("first", "second"), [((64, 48), (64, 48)), ((64, 48), (96, 64)), ((96, 64), (64, 48))])
def test_joined_transport_streams_are_one_video_of_the_first_size(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    info, frames, problems = read(make_video("mpegts", size=first) + make_video("mpegts", size=second))
    assert numbers(frames) == TEN + TEN
    assert times(frames) == steady(20)
    assert {frame.rgb.shape for frame in frames} == {(first[1], first[0], 3)}
    assert (info.width, info.height) == first
    changes = [problem for problem in problems if "size" in problem]
    assert len(changes) == (first != second)
    if changes:
        assert f"{first[0]} x {first[1]} to {second[0]} x {second[1]}" in changes[0]


def test_a_size_that_changes_within_a_track_is_scaled_to_the_first() -> None:
    sized = [(picture(i, *((64, 48) if i < 5 else (128, 96))), 0.04 * i) for i in range(10)]
    _, frames, problems = read(make_packets("matroska", sized))
    assert numbers(frames) == TEN
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert any("64 x 48 to 128 x 96" in problem for problem in problems)


def test_a_transport_stream_that_begins_mid_packet_is_read_from_its_first_whole_picture() -> None:
    data = make_video("mpegts", frames=20, options={"g": "5"})
    _, frames, _ = read(data[188 * 9 + 50 :])
    assert numbers(frames) == list(range(5, 20))
    assert times(frames) == steady(15)


CUT: list[tuple[str, str, dict[str, Any]]] = [
    ("mp4", "libx264", {"container_options": {"movflags": "faststart"}}),
    ("mp4", "libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "2"}}),
    ("matroska", "libx264", {}),
    ("webm", "libvpx-vp9", {}),
    ("avi", "mpeg4", {}),
    ("mpegts", "libx264", {}),
]


@pytest.mark.parametrize(("muxer", "codec", "how"), CUT)
def test_of_a_truncated_file_what_is_there_is_read_and_the_rest_is_said(
    muxer: str, codec: str, how: dict[str, Any]
) -> None:
    data = make_video(muxer, codec, size=(320, 240), frames=20, **how)
    _, frames, problems = read(data[: len(data) * 6 // 10])
    assert 5 <= len(frames) < 20
    assert numbers(frames) == list(range(len(frames)))
    # A transport stream has no end that could be missing.
    assert any("truncated" in problem for problem in problems) == (muxer != "mpegts")


@pytest.mark.parametrize("container", ["gif", "webp"])
def test_of_a_truncated_animation_the_whole_pictures_are_read(container: str) -> None:
    data = make_animation(container, frames=20)
    _, frames, problems = read(data[: len(data) * 6 // 10])
    assert 5 <= len(frames) < 20
    assert numbers(frames) == list(range(len(frames)))
    assert problems


def test_a_truncated_file_whose_index_was_at_its_end_is_refused_with_the_reason() -> None:
    data = make_video("mp4")
    assert "index is missing" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize(("muxer", "codec"), [("mp4", "libx264"), ("matroska", "libx265"), ("avi", "mpeg4")])
def test_a_damaged_part_does_not_end_the_video(muxer: str, codec: str) -> None:
    data = bytearray(make_video(muxer, codec, size=(320, 240), frames=40, options={"g": "5"}))
    middle = len(data) // 2
    data[middle : middle + 400] = os.urandom(400)
    _, frames, _ = read(bytes(data))
    assert len(frames) >= 20
    assert number_of(frames[-1].rgb) == 39
    assert all(earlier < later for earlier, later in pairwise(frame.time_s for frame in frames))


@pytest.mark.parametrize(("muxer", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mjpeg")])
def test_random_damage_ends_in_frames_or_a_named_error(muxer: str, codec: str) -> None:
    whole = make_video(muxer, codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p")
    random = np.random.default_rng(1)
    for _ in range(40):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 6):
            data[at] = random.integers(0, 256)
        try:
            _, frames, _ = read(bytes(data), max_seconds=1e6)
        except StreamsegError:
            continue
        assert all(earlier < later for earlier, later in pairwise(frame.time_s for frame in frames))


# Colours: ITU-T H.273 numbers of the matrix, what libswscale calls it, and the range.
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize(("matrix", "space"), [(1, Colorspace.ITU709), (5, Colorspace.ITU601), (9, Colorspace.BT2020)])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p", "yuv420p10le"])
def test_colours_are_those_that_were_encoded(
    matrix: int, space: Colorspace, color_range: ColorRange, pix_fmt: str
) -> None:
    colors = [(200, 60, 40), (40, 180, 60), (60, 50, 190), (235, 235, 235), (20, 20, 20), (128, 128, 128)]
    flat = [np.full((48, 64, 3), color, np.uint8) for color in colors]
    data = make_video(
        "mp4",
        "libx264",
        frames=len(flat),
        pictures=flat,
        pix_fmt=pix_fmt,
        colorspace=int(space),
        color_range=int(color_range),
        options={"crf": "4"},
    )
    with av.open(io.BytesIO(data)) as check:
        stored = next(check.decode(video=0))
        assert stored.color_range == color_range
        assert stored.colorspace == matrix
    _, frames, _ = read(data)
    for frame, color in zip(frames, colors, strict=True):
        assert np.abs(frame.rgb[24, 32].astype(int) - color).max() <= 6


@pytest.mark.parametrize(("size", "space"), [((64, 48), Colorspace.ITU601), ((1280, 720), Colorspace.ITU709)])
def test_untold_colours_are_taken_as_those_of_their_size(size: tuple[int, int], space: Colorspace) -> None:
    color = (200, 60, 40)
    frame = to_frame(np.full((size[1], size[0], 3), color, np.uint8), "yuv444p", int(space))
    frame.colorspace, frame.pts = 2, 0  # not told
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        output.mux([*stream.encode(frame), *stream.encode(None)])
    _, frames, _ = read(file.getvalue())
    assert np.abs(frames[0].rgb[10, 10].astype(int) - color).max() <= 6


@pytest.mark.parametrize(
    ("sampling", "indices"),
    [
        (Sampling(every=4), [0, 4, 8]),
        (Sampling(fps=5.0), [0, 5]),
        (Sampling(start_s=0.1, end_s=0.3), [3, 4, 5, 6, 7]),
    ],
)
def test_frames_are_sampled_and_keep_their_own_numbers(sampling: Sampling, indices: list[int]) -> None:
    _, frames, _ = read(make_video(options=B_FRAMES), sampling)
    assert [frame.index for frame in frames] == indices == numbers(frames)


def test_held_frames_come_marked_and_prompted_ones_are_always_segmented() -> None:
    with VideoReader(io.BytesIO(make_video(frames=5))) as reader:
        got = [(frame.index, choice) for frame, choice in reader.frames(Sampling(every=3, hold=True), always=[1])]
    segment, hold = Choice.SEGMENT, Choice.HOLD
    assert got == [(0, segment), (1, segment), (2, hold), (3, segment), (4, hold)]


def test_frames_can_be_read_again_from_the_start_and_only_the_last_iterator_counts() -> None:
    with VideoReader(io.BytesIO(make_video())) as reader:
        first = reader.frames()
        assert next(first)[0].index == 0
        again = reader.frames()
        assert [number_of(frame.rgb) for frame, _ in again] == TEN
        with pytest.raises(UnsupportedMediaError, match="anew"):
            next(first)


def test_a_frame_stays_as_it_was_when_later_ones_are_read() -> None:
    with VideoReader(io.BytesIO(make_video())) as reader:
        frames = reader.frames()
        first, _ = next(frames)
        before = first.rgb.copy()
        list(frames)
    gc.collect()
    assert np.array_equal(first.rgb, before)


def test_a_path_is_opened_and_closed_and_a_file_object_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "clip.bin"
    path.write_bytes(make_video())
    for source in (path, str(path)):
        with VideoReader(source) as reader:
            assert len(list(reader.frames())) == 10
    with path.open("rb") as file:
        file.seek(100)
        with VideoReader(file) as reader:
            assert len(list(reader.frames())) == 10
        assert not file.closed


def test_after_close_nothing_is_read_and_nothing_breaks() -> None:
    reader = VideoReader(io.BytesIO(make_video()))
    frames = reader.frames()
    next(frames)
    reader.close()
    reader.close()
    with pytest.raises(UnsupportedMediaError, match="closed"):
        next(frames)
    with pytest.raises(UnsupportedMediaError, match="closed"):
        reader.frames()


def test_closing_while_another_thread_reads_ends_it_with_an_error() -> None:
    reader = VideoReader(io.BytesIO(loop(make_video(options={"g": "1"}), 100)))
    begun, ended = threading.Event(), []

    def consume() -> None:
        try:
            for _ in reader.frames():
                begun.set()
        except UnsupportedMediaError as error:
            ended.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    assert begun.wait(5)
    reader.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(ended) == 1


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
        list(LibavVideo(io.BytesIO(playlist), demuxer, 10**6).pictures())
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
    with VideoReader(file) as reader, pytest.raises(UnsupportedMediaError, match="cannot be read: input/output error"):
        for _ in reader.frames():
            file.failing = True


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


def test_memory_does_not_grow_with_the_length_of_the_video() -> None:
    clip = make_video("matroska", "mpeg4", size=(320, 240), frames=10, options={"g": "1"})
    with VideoReader(io.BytesIO(loop(clip, 400))) as reader:
        settled = 0
        for frame, _ in reader.frames(Sampling(every=2)):
            if frame.index == 2000:
                settled = _resident_bytes()
        assert frame.index == 3998
        # 2000 frames were decoded since, 460 MB of pixels.
        assert _resident_bytes() - settled < 5_000_000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
