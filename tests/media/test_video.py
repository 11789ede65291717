"""VideoReader: every accepted format and the oddities of real files, and a named error for everything else."""

from __future__ import annotations

import gc
import io
import os
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
    make_video,
    number_of,
    picture,
    to_frame,
)
from media.read_video import numbers, read, refusal, steady, times
from streamseg.errors import StreamsegError, UnsupportedMediaError
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.video import VideoReader

B_FRAMES = {"preset": "medium", "bf": "3"}
TEN = list(range(10))


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
