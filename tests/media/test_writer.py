"""Videos written from pictures: times, sizes, colours, sound, errors; and that a real browser plays them."""

from __future__ import annotations

import gc
import logging
import resource
import shutil
import time
import weakref
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.errors import BadSettingError, InternalError, NotFoundError
from streamseg.media.audio import TargetContainer, extract_audio
from streamseg.media.video import VideoReader
from streamseg.media.writer import VideoOptions, VideoWriter, output_size

from .sounding import beeps, flashes, packets, picture, sound_span, write_recording

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CONTAINERS: tuple[TargetContainer, ...] = ("mp4", "webm")


def textured(width: int = 64, height: int = 48, number: int = 0) -> NDArray[np.uint8]:
    rows, columns = np.indices((height, width))
    return np.stack([rows * 3 + number, columns * 2, (rows + columns) % 256], axis=-1).astype(np.uint8)


def write(path: Path, times_s: Sequence[float], size: tuple[int, int] = (64, 48), **options: Any) -> Path:
    audio, origin_s = options.pop("audio", None), options.pop("origin_s", None)
    with VideoWriter(path, *size, options=VideoOptions(**options), audio=audio, origin_s=origin_s) as writer:
        for number, time_s in enumerate(times_s):
            writer.write(textured(*size, number), time_s)
    return path


def times(path: Path) -> list[float]:
    with av.open(str(path)) as video:
        return [float(frame.time or 0.0) for frame in video.decode(video=0)]


def first_picture(path: Path) -> NDArray[np.uint8]:
    with VideoReader(path) as reader:
        return next(reader.frames())[0].rgb


def rewritten(source: Path, out: Path, container: TargetContainer, **cut: float) -> Path:
    """The recording read to RGB and written again, sound and all."""
    sound = out.with_suffix(".mka")
    has_sound = extract_audio(source, sound, container=container, **cut)
    start_s, end_s = cut.get("start_s", 0.0), cut.get("end_s", 1e9)
    with VideoReader(source) as reader:
        options = VideoOptions(container=container)
        size = reader.info.width, reader.info.height
        with VideoWriter(out, *size, options=options, audio=sound if has_sound else None) as writer:
            for frame, _ in reader.frames():
                if start_s <= frame.time_s < end_s:
                    writer.write(frame.rgb, frame.time_s)
    return out


@pytest.mark.parametrize("container", CONTAINERS)
def test_variable_times_are_kept(container: TargetContainer, tmp_path: Path) -> None:
    given = [0.0, 0.04, 0.05, 0.3337, 1.0, 1.001001, 4.5, 4.54]
    path = write(tmp_path / "out", given, container=container)
    assert times(path) == pytest.approx(given, abs=1 / 90_000 if container == "mp4" else 1e-3)


def test_the_last_picture_is_shown_as_long_as_usual(tmp_path: Path) -> None:
    for name, given, end_s in (
        ("even", [0.0, 0.1, 0.2], 0.3),
        ("a pause at the end", [0.0, 0.1, 0.2, 5.2], 5.2 + 5.2 / 3),
        ("one picture", [0.0], 0.04),
    ):
        with av.open(str(write(tmp_path / name, given))) as video:
            stream = video.streams.video[0]
            assert float(stream.duration * stream.time_base) == pytest.approx(end_s, abs=1e-3), name


def test_two_times_closer_than_the_clock_stay_in_order(tmp_path: Path) -> None:
    found = times(write(tmp_path / "out", [0.0, 1e-6, 2e-6, 0.04]))
    assert len(found) == 4
    assert all(before < after for before, after in pairwise(found))


def test_the_index_comes_first_so_that_playing_starts_at_once(tmp_path: Path) -> None:
    data = write(tmp_path / "out", [0.0, 0.04, 0.08]).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("container", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_the_stream_is_what_browsers_take_and_says_its_colours(container: Any, codec: str, tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "out", [0.0, 0.04], container=container))) as video:
        context = video.streams.video[0].codec_context
        next(video.decode(video=0))
        assert (context.codec.canonical_name, context.pix_fmt) == (codec, "yuv420p")
        # 1: BT.709 for the matrix, the primaries and the transfer; limited range.
        assert (context.colorspace, context.color_range) == (1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)


@pytest.mark.parametrize("container", CONTAINERS)
def test_colours_come_back(container: TargetContainer, tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 140, 0)]
    rgb = np.repeat(np.array([colours], np.uint8), 64, axis=0).repeat(32, axis=1)
    with VideoWriter(tmp_path / "out", 192, 64, options=VideoOptions(container=container, quality=95)) as writer:
        writer.write(rgb, 0.0)
    shown = first_picture(tmp_path / "out")
    for number, colour in enumerate(colours):
        assert shown[32, 32 * number + 16].astype(int) == pytest.approx(colour, abs=8)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (63, 47), (64, 47), (201, 113)])
def test_odd_sizes_grow_by_a_pixel_and_nothing_moves(
    size: tuple[int, int], container: TargetContainer, tmp_path: Path
) -> None:
    write(tmp_path / "out", [0.0, 0.04], size, container=container, quality=95)
    width, height = size
    shown = first_picture(tmp_path / "out")
    assert shown.shape == (height + height % 2, width + width % 2, 3)
    difference = np.abs(shown[:height, :width].astype(int) - textured(*size))
    assert difference.mean() < 8


def test_max_side_scales_down_and_never_up(tmp_path: Path) -> None:
    path = write(tmp_path / "out", [0.0, 0.04], (203, 101), max_side_px=100)
    assert first_picture(path).shape == (48, 100, 3)
    assert output_size(1920, 1080, 1280) == (1280, 720)
    assert output_size(1080, 1920, 1280) == (720, 1280)
    assert output_size(640, 360, 1280) == (640, 360)
    assert output_size(4000, 3, 100) == (100, 2)
    assert output_size(20_000, 1000) == (16_384, 818)


def test_higher_quality_takes_more_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (96, 128, 3), np.uint8)
    for container in CONTAINERS:
        sizes = []
        for quality in (1, 50, 75, 100):
            path = tmp_path / f"{quality}.{container}"
            with VideoWriter(path, 128, 96, options=VideoOptions(container=container, quality=quality)) as writer:
                for number in range(5):
                    writer.write(np.roll(noise, number, axis=1).copy(), number / 25)
            sizes.append(path.stat().st_size)
        assert sizes == sorted(sizes)
        assert sizes[-1] > 2 * sizes[0]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_cut_starts_at_zero_with_its_first_picture(container: TargetContainer, tmp_path: Path) -> None:
    """Chromium cannot seek in an MP4 file whose first picture is at 5 s."""
    assert times(write(tmp_path / "cut", [5.0, 5.04, 5.2], container=container)) == pytest.approx([0, 0.04, 0.2])
    path = write(tmp_path / "kept", [5.0, 5.04, 5.2], container=container, origin_s=4.5)
    assert times(path) == pytest.approx([0.5, 0.54, 0.7])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("source", "sound"), [("mp4", "aac"), ("matroska", "libopus"), ("mpegts", "aac"), ("avi", "pcm_s16le")]
)
def test_sound_and_picture_stay_together(source: str, sound: str, container: TargetContainer, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "source", source, "mpeg4" if source == "avi" else "libx264", [sound])
    out = rewritten(recording, tmp_path / "out", container)
    assert flashes(out) == pytest.approx([1.0], abs=0.002)
    assert beeps(out) == pytest.approx(flashes(out), abs=0.03)


@pytest.mark.parametrize("container", CONTAINERS)
def test_sound_and_picture_of_a_cut_stay_together(container: TargetContainer, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "source", seconds=4, events_s=(0.5, 1.5, 2.5, 3.5))
    out = rewritten(recording, tmp_path / "out", container, start_s=1.21, end_s=3.2)
    assert times(out)[0] == 0.0
    assert flashes(out) == pytest.approx([0.26, 1.26], abs=0.05)
    assert beeps(out) == pytest.approx(flashes(out), abs=0.03)


@pytest.mark.parametrize("container", CONTAINERS)
def test_sound_ends_with_the_last_picture_or_where_it_ended_before(container: TargetContainer, tmp_path: Path) -> None:
    longer = write_recording(tmp_path / "longer", sound_s=(0.0, 5.0))
    assert sound_span(rewritten(longer, tmp_path / "out", container))[1] == pytest.approx(2.0, abs=0.05)
    shorter = write_recording(tmp_path / "shorter", sound_s=(0.0, 0.7), events_s=(0.4,))
    out = rewritten(shorter, tmp_path / "out", container)
    assert sound_span(out)[1] == pytest.approx(0.7, abs=0.06)
    assert len(times(out)) == 50


@pytest.mark.parametrize("container", CONTAINERS)
def test_sound_that_begins_late_stays_late(container: TargetContainer, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "source", sound_s=(0.8, 2.0))
    out = rewritten(recording, tmp_path / "out", container)
    assert beeps(out) == pytest.approx(flashes(out), abs=0.03)
    assert sound_span(out)[0] == pytest.approx(0.8, abs=0.03)


def test_sound_is_copied_packet_by_packet_and_lies_among_the_pictures(tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "source", seconds=6)
    out = rewritten(recording, tmp_path / "out", "mp4")
    original = packets(recording)
    assert packets(out) == original[: len(packets(out))]
    assert len(packets(out)) > len(original) - 3
    with av.open(str(out)) as video:
        last = {"video": 0.0, "audio": 0.0}
        by_position = sorted((packet for packet in video.demux() if packet.size), key=lambda packet: packet.pos or 0)
        for packet in by_position:
            assert packet.pts is not None
            last[packet.stream.type] = float(packet.pts * packet.time_base)
            assert abs(last["video"] - last["audio"]) < 1.2


def test_sound_that_cannot_be_read_leaves_a_silent_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sound").write_bytes(b"no sound")
    with caplog.at_level(logging.WARNING):
        path = write(tmp_path / "out", [0.0, 0.04], audio=tmp_path / "sound")
    assert "without sound" in caplog.text
    with av.open(str(path)) as video:
        assert [stream.type for stream in video.streams] == ["video"]


def test_the_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"from before")
    writer = VideoWriter(path, 64, 48)
    for number in range(40):
        writer.write(textured(number=number), number / 25)
    assert path.read_bytes() == b"from before"
    assert writer.close() is True
    assert len(times(path)) == 40
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 64, 48)
    assert writer.close() is False
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 64, 48)
    for number in range(60):
        writer.write(textured(number=number), number / 25)
    writer.abort()
    writer.abort()
    assert writer.close() is False
    assert list(tmp_path.iterdir()) == []


def test_an_exception_inside_the_with_block_aborts(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
            writer.write(textured(), 0.0)
            raise KeyError("elsewhere")

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_and_aborting_afterwards_change_nothing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 64, 48)
    writer.write(textured(), 0.0)
    assert writer.close() is True
    assert writer.close() is True
    writer.abort()
    assert times(tmp_path / "out.mp4") == [0.0]
    with pytest.raises(ValueError, match="closed"):
        writer.write(textured(), 1.0)


def test_an_error_of_the_encoder_reaches_the_next_call_and_nobody_hangs(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = VideoWriter(folder / "out.mp4", 64, 48)
    folder.rmdir()

    def write_on() -> None:
        for number in range(200):
            writer.write(textured(number=number), number / 25)

    with pytest.raises(InternalError, match="cannot be written: No such file"):
        write_on()
    with pytest.raises(InternalError):
        writer.write(textured(), 99.0)
    assert writer.close() is False


def test_an_error_at_the_end_is_raised_by_close_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = VideoWriter(folder / "out.mp4", 64, 48)
    writer.write(textured(), 0.0)
    folder.rmdir()
    with pytest.raises(InternalError):
        writer.close()
    assert writer.close() is False


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("pictures", [1, 60])
def test_a_full_disk_is_told_and_nothing_is_left(container: TargetContainer, pictures: int, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing beyond it fails in the same way."""
    noise = np.random.default_rng(5).integers(0, 255, (240, 320, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = VideoWriter(tmp_path / "out", 320, 240, options=VideoOptions(container=container, quality=100))

    def fill() -> None:
        for number in range(pictures):
            writer.write(np.roll(noise, number, axis=1).copy(), number / 25)
        writer.close()

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InternalError, match="File too large"):
            fill()
        assert writer.close() is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_slow_encoder_holds_back_whoever_writes(tmp_path: Path) -> None:
    """Few pictures are alive at any time, however fast they come."""
    alive: list[weakref.ref[Any]] = []
    most = 0
    with VideoWriter(tmp_path / "out.mp4", 640, 480) as writer:
        for number in range(60):
            rgb = textured(640, 480, number)
            alive.append(weakref.ref(rgb))
            writer.write(rgb, number / 25)
            del rgb
            most = max(most, sum(reference() is not None for reference in alive))
    gc.collect()
    assert most <= 5
    assert sum(reference() is not None for reference in alive) == 0


def test_pictures_and_times_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 48) as writer:
        writer.write(textured(), 1.0)
        with pytest.raises(ValueError, match=r"uint8 \(48, 64, 3\), not uint8 \(64, 48, 3\)"):
            writer.write(textured(48, 64), 2.0)
        with pytest.raises(ValueError, match="float32"):
            writer.write(textured().astype(np.float32), 2.0)  # type: ignore[arg-type]
        for time_s, problem in ((1.0, "not later"), (0.5, "not later"), (float("nan"), "number of seconds")):
            with pytest.raises(ValueError, match=problem):
                writer.write(textured(), time_s)
        writer.write(np.asfortranarray(textured()), 2.0)
    assert times(tmp_path / "out.mp4") == [0.0, 1.0]
    with (
        pytest.raises(ValueError, match=r"3\.0 s or later"),
        VideoWriter(tmp_path / "late.mp4", 64, 48, origin_s=3.0) as late,
    ):
        late.write(textured(), 2.0)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"container": "avi"}, "mp4 or webm"),
        ({"quality": 0}, "1 to 100"),
        ({"quality": 50.5}, "1 to 100"),
        ({"max_side_px": 0}, "at least 16"),
        ({"preset": "placebo"}, "ultrafast"),
    ],
)
def test_impossible_options_are_named(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSettingError, match=words):
        VideoOptions(**bad)


def test_impossible_places_and_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"folder for out\.mp4 does not exist"):
        VideoWriter(tmp_path / "gone" / "out.mp4", 64, 48)
    with pytest.raises(BadSettingError, match="0 x 48"):
        VideoWriter(tmp_path / "out.mp4", 0, 48)


# Plays a file and says what a viewer would meet; seeks to one second and reads a pixel of what is shown then.
PLAY = """async (source) => {
  const video = document.createElement("video");
  video.muted = true;
  const heard = (name) => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(video.error.message)), { once: true });
  });
  const ready = heard("canplaythrough");
  video.src = source;
  document.body.append(video);
  await ready;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const brightness = async (at) => {
    const seeked = heard("seeked");
    video.currentTime = at;
    await seeked;
    // The picture may reach the page a moment after the event.
    await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
    const context = canvas.getContext("2d");
    context.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data[0];
  };
  const dark = await brightness(0.5);
  const lit = await brightness(1.1);
  await brightness(0);
  // Asked for before playing: on a slow machine the end may come before play() has answered.
  const ended = heard("ended");
  await video.play();
  await ended;
  return {
    duration: video.duration, width: video.videoWidth, height: video.videoHeight, ended: video.currentTime,
    dark, lit, soundBytes: video.webkitAudioDecodedByteCount,
  };
}"""


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: run tests/e2e/install_browser.sh chromium as root"
)
def test_a_real_browser_plays_seeks_and_hears_the_files(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    recording = write_recording(tmp_path / "source")
    files = [rewritten(recording, tmp_path / f"out.{container}", container) for container in CONTAINERS]
    odd = tmp_path / "odd.mp4"
    with VideoWriter(odd, 101, 75) as writer:
        for number in range(50):
            # A cut of a longer recording, of an odd size.
            writer.write(picture(number / 25, (1.0,), 101, 75), 5 + number / 25)
    page_file = tmp_path / "page.html"
    page_file.write_text("<!doctype html><body>")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=["--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--no-first-run"],
        )
        page = browser.new_page()
        page.goto(page_file.as_uri())
        for path in (*files, odd):
            met = page.evaluate(PLAY, path.as_uri())
            assert met["duration"] == pytest.approx(2.0, abs=0.05), path.name
            assert (met["width"], met["height"]) == ((102, 76) if path == odd else (96, 64))
            assert met["ended"] == pytest.approx(met["duration"], abs=0.05)
            assert met["dark"] < 60
            assert met["lit"] > 200
            assert (met["soundBytes"] > 0) is (path != odd)
        browser.close()


@pytest.mark.slow
def test_memory_stays_flat_over_a_long_video(tmp_path: Path) -> None:
    pages = Path("/proc/self/statm")
    pool = [textured(1280, 720, number) for number in range(30)]
    used: list[int] = []
    began = time.monotonic()
    with VideoWriter(tmp_path / "out.mp4", 1280, 720) as writer:
        for number in range(3000):
            writer.write(pool[number % 30], number / 25)
            if number % 500 == 499:
                used.append(int(pages.read_text().split()[1]) * 4096)
    assert used[-1] - used[1] < 20 * 2**20, (used, time.monotonic() - began)
