"""The command line: options, outputs, exit statuses."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from streamseg.cli.app import app
from streamseg.cli.console import WrongUsageError
from streamseg.cli.job import is_video
from streamseg.cli.outputs import OutputFolder, read_formats, replace_file
from streamseg.cli.progress import Display, VideoProgress, clock_time, describe
from streamseg.cli.prompt_options import read_groups, read_prompts, read_time, read_window
from streamseg.errors import BadSettingError
from streamseg.segmentation.masks import FrameResult
from tests.media.make_video import make_video
from tests.media.network_servers import HttpServer, mjpeg, square

if TYPE_CHECKING:
    from streamseg.service.server import Server


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the developer's, and an own current folder."""
    for name in [one for one in os.environ if one.startswith("STREAMSEG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def disc(path: Path, x: float = 160, y: float = 120) -> Path:
    """A picture file of 320 x 240 with a bright disc of radius 50."""
    rows, columns = np.mgrid[:240, :320]
    picture = np.stack([columns // 4, rows // 4, columns // 8], axis=2).astype(np.uint8)
    picture[(columns - x) ** 2 + (rows - y) ** 2 < 50**2] = (240, 200, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def clip(path: Path, frames: int = 8, *, size: tuple[int, int] = (160, 120), sound: bool = False) -> Path:
    """A video file with a bright disc of radius 25 that moves to the right from (60, 60) on, at 10 frames a second."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    ground = np.stack([columns // 2, rows // 2, columns // 4], axis=2).astype(np.uint8)
    pictures = [ground.copy() for _ in range(frames)]
    for index, picture in enumerate(pictures):
        picture[(columns - 60 - index % 40) ** 2 + (rows - 60) ** 2 < 25**2] = (240, 200, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        make_video(
            {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}[path.suffix],
            frames=frames,
            size=size,
            fps=10,
            pictures=pictures,
            sound="aac" if sound else None,
            options={"preset": "ultrafast", "g": "5"},
        )
    )
    return path


def lines_of(path: Path) -> list[FrameResult]:
    """The results in a masks.jsonl; every line must be whole."""
    text = path.read_text()
    assert text.endswith("\n")
    return [FrameResult.from_json(json.loads(line)) for line in text.splitlines()]


@dataclass(frozen=True)
class Played:
    """What a player finds in a video file."""

    times_s: list[float]
    size: tuple[int, int]
    codecs: dict[str, str]
    sound_s: float


def play(path: Path) -> Played:
    """Decode a video file to its end."""
    with av.open(str(path)) as container:
        codecs = {stream.type: stream.codec_context.name for stream in container.streams}
        frames = list(container.decode(video=0))
    sound_s = 0.0
    if "audio" in codecs:
        with av.open(str(path)) as container:
            sound_s = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    return Played([frame.time for frame in frames], (frames[0].width, frames[0].height), codecs, sound_s)


def streamseg(*arguments: str | Path) -> Any:
    """Run a command in this process; ``exit_code``, ``stdout``, ``stderr``."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def here(*arguments: str | Path) -> Any:
    return streamseg("segment", "--model", "nano", "--device", "cpu", *arguments)


# Options


def test_prompts_belong_to_the_object_named_before_them() -> None:
    prompts = read_prompts(
        [
            ("--point", "1,2"),
            ("--object", "7"),
            ("--point", "3,4"),
            ("--point", "5,6,0"),
            ("--object", "2"),
            ("--box", "1,2,3.5,4"),
            ("--object", "7"),
            ("--point", "8,9"),
        ]
    )
    assert [one.object_id for one in prompts] == [1, 7, 2]
    assert prompts[0].points == ((1, 2),)
    assert prompts[1].points == ((3, 4), (5, 6), (8, 9))
    assert prompts[1].point_labels == (1, 0, 1)
    assert prompts[2].box == (1, 2, 3.5, 4)


def test_a_frame_opens_a_group_of_the_same_object() -> None:
    groups = read_groups(
        [
            ("--object", "3"),
            ("--frame", "5"),
            ("--point", "1,2"),
            ("--frame", "9"),
            ("--point", "3,4"),
            ("--object", "4"),
            ("--box", "0,0,1,1"),
        ]
    )
    assert [(one.object_id, one.frame) for one in groups] == [(3, 5), (3, 9), (4, 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([("--point", "1")], "X,Y or X,Y,LABEL"),
        ([("--point", "1,2,3")], "label is 1"),
        ([("--point", "a,b")], "X,Y"),
        ([("--point", "nan,1")], "finite"),
        ([("--box", "1,2,3")], "X1,Y1,X2,Y2"),
        ([("--box", "9,9,1,1")], "no area"),
        ([("--box", "1,1,9,9"), ("--box", "1,1,8,8")], "second box"),
        ([("--mask", "a.png"), ("--mask", "b.png")], "second mask"),
        ([("--mask", "missing.png")], "missing.png"),
        ([("--object", "-1"), ("--point", "1,2")], "whole number"),
        ([("--object", "99999999999"), ("--point", "1,2")], "object_id"),
        ([("--object", "1"), ("--object", "2"), ("--point", "1,2")], "--object 1 has no prompt"),
        ([("--point", "1,2"), ("--object", "2")], "--object 2 has no prompt"),
        ([("--point", "1,2"), ("--frame", "2")], "--frame 2 has no prompt"),
    ],
)
def test_prompts_that_cannot_be_meant_are_refused(options: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(WrongUsageError, match=message):
        read_prompts(options)


def test_a_mask_file_is_bright_where_the_object_is(tmp_path: Path) -> None:
    (prompt,) = read_prompts([("--mask", str(disc(tmp_path / "mask.png")))])
    assert prompt.mask is not None
    assert prompt.mask[120, 160]
    assert not prompt.mask[0, 0]


@pytest.mark.parametrize("value", ["1", "1,2,3", "5,5", "9,1", "a,b"])
def test_a_window_is_two_numbers_the_first_the_smaller(value: str) -> None:
    assert read_window("100,4000") == (100, 4000)
    assert read_window(None) is None
    with pytest.raises(WrongUsageError, match="--window"):
        read_window(value)


def test_times_are_seconds_or_minutes_and_hours_before_them() -> None:
    times = [read_time("--start", value) for value in (None, "83.5", ".5", "1:23.5", "61:00", "1:00:02")]
    assert times == [None, 83.5, 0.5, 83.5, 3660, 3602]
    for value in ("", "a", "-1", "1:60", "1:2:3:4", "nan", "inf", "1e3", "1:"):
        with pytest.raises(WrongUsageError, match="--start"):
            read_time("--start", value)


@pytest.mark.parametrize("value", ["", "rle,gif", "RLE"])
def test_formats_are_known_ones(value: str) -> None:
    assert read_formats("png, rle,png") == ("png", "rle")
    with pytest.raises(BadSettingError, match="--format"):
        read_formats(value)


# Files


def test_inputs_of_one_stem_get_folders_of_their_own_inside_out(tmp_path: Path) -> None:
    out = OutputFolder(tmp_path, ("rle",))
    names = [out.folder_for(stem) for stem in ("a", "a", "A", "a-2", "..", ".", "b.c")]
    assert [one.name for one in names] == ["a", "a-2", "A-3", "a-2-2", "picture", "picture-2", "b.c"]
    assert all(one.parent == tmp_path for one in names)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "masks.jsonl"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        replace_file(tmp_path / "folder", b"x")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "masks.jsonl"]


def test_a_link_out_of_the_output_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    out = OutputFolder(tmp_path / "out", ("rle",))
    with pytest.raises(OSError, match="leads out"):
        out.write(out.folder_for("a"), None, FrameResult(0, 0.0, 1, 1))  # type: ignore[arg-type]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_a_video_is_told_by_the_suffix_or_by_the_content(tmp_path: Path) -> None:
    shades = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 90, 180)]
    for suffix in ("gif", "webp"):
        shades[0].save(tmp_path / f"still.{suffix}")
        shades[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=shades[1:])
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    disc(tmp_path / "photo.jpg")
    clip(tmp_path / "clip.mp4", 2).rename(tmp_path / "download")
    (tmp_path / "missing.webm").touch()
    videos = {path.name for path in tmp_path.iterdir() if is_video(path)}
    assert videos == {"moving.gif", "moving.webp", "download", "missing.webm"}


# Progress


def test_progress_is_a_line_every_ten_seconds_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    with Display(3, clock=lambda: now_s) as display:
        video = display.video("clip.mp4")
        for second in range(25):
            now_s = second
            video.update(second, 25, 1.0, 25.0 - second)
        video.close()
        display.advance()
    assert capsys.readouterr().err.splitlines() == [
        "clip.mp4: 10 of 25 frames, 1.0 frames/s, 0:15 left",
        "clip.mp4: 20 of 25 frames, 1.0 frames/s, 0:05 left",
    ]


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Display(2) as display:
        video = display.video("clip.mp4")
        video.upload(2_000_000, 5_000_000)
        video.wait(2)
        video.update(10, 25, 1.0, 15.0)
        time.sleep(0.3)
        video.close()
        display.advance()
    text = sys.stderr.getvalue()
    assert "clip.mp4" in text
    assert "10 of 25 frames, 1.0 frames/s, 0:15 left" in text
    assert "1 of 2" in text


def test_progress_does_not_say_what_it_does_not_know() -> None:
    assert describe(3, None, 2.0, None) == "3 frames, 2.0 frames/s"
    assert describe(30, 20, 2.0, 0.0) == "30 frames, 2.0 frames/s, 0:00 left"
    assert [clock_time(seconds) for seconds in (0.4, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]


# segment: pictures


def test_pictures_and_folders_give_a_folder_of_results_each_and_a_bad_file_stops_nothing(tmp_path: Path) -> None:
    disc(tmp_path / "in" / "one.png")
    disc(tmp_path / "in" / "two.JPG", x=150)
    disc(tmp_path / "in" / "deeper" / "three.png")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    disc(tmp_path / "other" / "one.png", x=170)
    inputs = ["in", "bad.jpg", "clip.mp4", "empty", "missing.png", "other/one.png"]
    formats = ("--format", "overlay,rle,png,polygons,cutout")
    ended = here(*inputs, "--point", "160,120", "--object", "5", "--point", "10,10", *formats)

    assert ended.exit_code == 1, ended.stderr
    assert "3 of 7 segmented, 4 failed" in ended.stdout
    for name in (
        "bad.jpg: unsupported_media",
        "clip.mp4: unsupported_media",
        "empty: not_found",
        "missing.png: not_found",
    ):
        assert name in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["one", "one-2", "two"]
    files = ["cutout.png", "mask_1.png", "mask_5.png", "masks.jsonl", "overlay.jpg", "polygons.json"]
    for folder in (tmp_path / "out").iterdir():
        assert sorted(one.name for one in folder.iterdir()) == files
    (line,) = (tmp_path / "out" / "one" / "masks.jsonl").read_text().splitlines()
    result = FrameResult.from_json(json.loads(line))
    assert list(json.loads(line)) == ["index", "time_s", "width", "height", "objects"]
    assert [one.object_id for one in result.objects] == [1, 5]
    with Image.open(tmp_path / "out" / "one" / "mask_1.png") as picture:
        assert np.array_equal(np.asarray(picture) > 0, result.objects[0].mask)
    with Image.open(tmp_path / "out" / "one" / "overlay.jpg") as picture:
        assert picture.size == (320, 240)
    with (
        Image.open(tmp_path / "out" / "one" / "cutout.png") as picture,
        Image.open(tmp_path / "in" / "one.png") as whole,
    ):
        cutout, rgb = np.asarray(picture), np.asarray(whole.convert("RGB"))
    covered = result.objects[0].mask | result.objects[1].mask
    assert np.array_equal(cutout[..., 3] > 0, covered)
    assert np.array_equal(cutout[covered][:, :3], rgb[covered])
    polygons = json.loads((tmp_path / "out" / "one" / "polygons.json").read_text())
    assert [one["object_id"] for one in polygons["objects"]] == [1, 5]


def test_a_second_run_replaces_the_results_of_the_first(tmp_path: Path) -> None:
    picture = disc(tmp_path / "one.png")
    assert here(picture, "--object", "3", "--point", "160,120", "--format", "png", "--multimask").exit_code == 0
    names = {one.name for one in (tmp_path / "out" / "one").iterdir()}
    assert names == {"mask_3.png", "mask_3_candidate_1.png", "mask_3_candidate_2.png"}
    assert here(picture, "--box", "100,60,220,180", "--format", "png", "--no-refine").exit_code == 0
    assert {one.name for one in (tmp_path / "out" / "one").iterdir()} == {"mask_1.png"}


def test_nothing_of_a_former_run_stays_and_everything_of_the_users_own(tmp_path: Path) -> None:
    out = OutputFolder(tmp_path / "out", ("rle",), (Path("out/one/mask_3.png"), Path("out/two")))
    folder, picture = tmp_path / "out" / "one", disc(tmp_path / "one.png")
    pictures = ("overlay.jpg", "cutout.png", "mask_2.png", "masks/000003_1.png")
    former = (*pictures, "overlay.webm", "polygons.json", "polygons.jsonl")
    own = ("mask_3.png", "overlay.png", "mask_of_me.png", "masks/0001.png", "photo.jpg", "notes/masks.jsonl")
    for name in (*former, *own):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "polygons.json").unlink()
    (folder / "polygons.json").symlink_to(folder / "photo.jpg")
    out.clear(folder, ("masks.jsonl",))
    assert {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()} == set(own)
    (folder / "masks" / "0001.png").unlink()
    out.clear(folder)
    assert not (folder / "masks").exists()
    (tmp_path / "out" / "two").mkdir()
    (tmp_path / "out" / "two" / "overlay.mp4").touch()
    out.clear(tmp_path / "out" / "two")
    assert (tmp_path / "out" / "two" / "overlay.mp4").exists()

    # What is used as a prompt is used again by the same command.
    Image.open(picture).convert("L").save(folder / "mask_3.png")
    for formats in ("overlay,polygons", "rle"):
        ended = here(picture, "--mask", "out/one/mask_3.png", "--format", formats)
        assert ended.exit_code == 0, ended.stderr
    assert {one.name for one in folder.iterdir() if one.name not in own} == {"masks.jsonl", "notes"}


def test_a_server_gives_the_same_files_as_a_model_here(tmp_path: Path, server: Server) -> None:
    picture = disc(tmp_path / "one.png")
    options = ("--point", "160,120", "--format", "rle,png", "--multimask")
    assert here(picture, *options, "--out", "here").exit_code == 0
    ended = streamseg("segment", picture, *options, "--out", "there", "--server", server.url)
    assert ended.exit_code == 0, ended.stderr
    for path in (tmp_path / "here" / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / "one" / path.name).read_bytes()


def test_the_second_look_at_a_small_object_can_be_left_out(tmp_path: Path, server: Server) -> None:
    with Image.open(disc(tmp_path / "one.png")) as picture:
        Image.fromarray(np.pad(np.asarray(picture), ((0, 240), (0, 320), (0, 0)), mode="edge")).save(
            tmp_path / "one.png"
        )
    without = ("--point", "160,120", "--format", "png", "--no-second-look")
    assert here("one.png", *without[:-1], "--out", "twice").exit_code == 0
    assert here("one.png", *without, "--out", "once").exit_code == 0
    ended = streamseg("segment", "one.png", *without, "--out", "there", "--server", server.url)
    assert ended.exit_code == 0, ended.stderr
    twice, once, there = ((tmp_path / out / "one" / "mask_1.png").read_bytes() for out in ("twice", "once", "there"))
    assert twice != once
    assert once == there


def test_the_samples_come_with_prompts_of_their_own(tmp_path: Path, server: Server) -> None:
    ended = streamseg("segment", "--sample", "--server", server.url, "--format", "rle")
    assert ended.exit_code == 0, ended.stderr
    lines = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/masks.jsonl")]
    assert lines
    assert all(line["objects"][0]["area_px"] > 1000 for line in lines)


# segment: videos


def test_a_video_has_no_cut_out_and_nothing_is_lost_when_one_is_asked_for(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4", 2)
    box = ("--box", "33,33,87,87")
    assert here("clip.mp4", *box, "--format", "rle,cutout").exit_code == 0
    out = tmp_path / "out" / "clip"
    assert [one.name for one in out.iterdir()] == ["masks.jsonl"]
    ended = here("clip.mp4", *box, "--format", "cutout")
    assert ended.exit_code != 0
    assert "--format cutout is for pictures" in ended.stderr
    assert [one.name for one in out.iterdir()] == ["masks.jsonl"]


def test_a_video_gives_an_overlay_with_its_sound_and_a_line_of_masks_for_each_frame(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4", 8, sound=True)
    ended = here("clip.mp4", "--box", "33,33,87,87", "--format", "overlay,rle,png,polygons")

    assert ended.exit_code == 0, ended.stderr
    assert "8 frames over 0.7 s" in ended.stdout
    assert "object 1 never lost" in ended.stdout
    out = tmp_path / "out" / "clip"
    assert {one.name for one in out.iterdir()} == {"overlay.mp4", "masks.jsonl", "masks", "polygons.jsonl"}
    played = play(out / "overlay.mp4")
    assert played.times_s == pytest.approx([index / 10 for index in range(8)], abs=1e-3)
    assert played.size == (160, 120)
    assert played.codecs == {"video": "h264", "audio": "aac"}
    assert played.sound_s == pytest.approx(0.8, abs=0.06)
    results = lines_of(out / "masks.jsonl")
    assert [one.index for one in results] == list(range(8))
    assert [one.time_s for one in results] == pytest.approx([index / 10 for index in range(8)])
    for result in results:
        assert result.objects[0].area_px == pytest.approx(np.pi * 25**2, rel=0.15)
    assert {one.name for one in (out / "masks").iterdir()} == {f"{index:06d}_1.png" for index in range(8)}
    with Image.open(out / "masks" / "000007_1.png") as picture:
        assert np.array_equal(np.asarray(picture) > 0, results[7].objects[0].mask)
    polygons = [json.loads(line) for line in (out / "polygons.jsonl").read_text().splitlines()]
    assert [one["index"] for one in polygons] == list(range(8))


def test_later_prompts_and_sampling(tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4", 10)
    prompts = ("--box", "33,33,87,87", "--object", "2", "--frame", "4", "--point", "10,10")
    ended = here("clip.mp4", *prompts, "--every", "3", "--format", "rle", "--out", "every")
    assert ended.exit_code == 0, ended.stderr
    results = lines_of(tmp_path / "every" / "clip" / "masks.jsonl")
    # The frame of a prompt is segmented, wherever sampling would leave it out.
    assert [one.index for one in results] == [0, 3, 4, 6, 9]
    assert [[one.object_id for one in result.objects] for result in results] == [[1, 2]] * 5
    assert [result.objects[1].state for result in results[:2]] == ["lost", "lost"]
    assert "object 2 lost in" in ended.stdout

    held = ("--fps", "2.5", "--start", "0:00.2", "--end", "0.8", "--hold", "--container", "webm", "--max-side", "80")
    ended = here("clip.mp4", "--box", "33,33,87,87", *held, "--quality", "40", "--out", "held")
    assert ended.exit_code == 0, ended.stderr
    results = lines_of(tmp_path / "held" / "clip" / "masks.jsonl")
    assert [one.index for one in results] == [2, 3, 4, 5, 6, 7]
    assert [one.held for one in results] == [False, True, True, True, False, True]
    played = play(tmp_path / "held" / "clip" / "overlay.webm")
    assert (len(played.times_s), played.size, played.codecs) == (6, (80, 60), {"video": "vp9"})


def test_a_video_whose_prompts_are_never_reached_has_failed(tmp_path: Path, server: Server) -> None:
    clip(tmp_path / "clip.mp4", 4)
    clip(tmp_path / "long.mp4", 6)
    late = ("--frame", "5", "--point", "60,60", "--format", "overlay,rle,png")
    for more in (["--model", "nano", "--device", "cpu"], ["--server", server.url]):
        ended = streamseg("segment", "clip.mp4", *late, *more)
        assert ended.exit_code == 2, ended.stderr
        assert "clip.mp4: bad_prompt: no prompt was ever reached: the first is for frame 5" in ended.stderr
        assert "0 of 1 segmented, 1 failed" in ended.stdout
        assert not list((tmp_path / "out" / "clip").iterdir())
    ended = here("clip.mp4", "long.mp4", *late, "--end", "0.55")
    assert ended.exit_code == 1, ended.stderr
    assert "1 of 2 segmented, 1 failed" in ended.stdout
    # One of them is: that is a note.
    ended = here("clip.mp4", "--point", "60,60", *late)
    assert ended.exit_code == 0, ended.stderr
    assert "clip.mp4: note: the prompt for object 1 on frame 5 was never reached" in ended.stderr


def test_pictures_and_videos_of_one_stem_and_bad_ones_among_them(tmp_path: Path) -> None:
    disc(tmp_path / "in" / "a.png")
    whole = clip(tmp_path / "in" / "a.mp4", 4)
    (tmp_path / "in" / "b.webm").write_bytes(b"no video")
    clip(tmp_path / "in" / "cut.ts", 30)
    data = (tmp_path / "in" / "cut.ts").read_bytes()
    (tmp_path / "in" / "cut.ts").write_bytes(data[: len(data) // 2])
    clip(tmp_path / "in" / "small.mkv", 2, size=(48, 48))
    stale = tmp_path / "out" / "a" / "masks" / "000099_1.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    ended = here("in", "--point", "70,60", "--untrusted", "--end", "1", "--format", "overlay,png")

    assert ended.exit_code == 1, ended.stderr
    assert "3 of 5 segmented, 2 failed" in ended.stdout
    assert "b.webm: unsupported_media" in ended.stderr
    assert "small.mkv: bad_prompt" in ended.stderr
    assert "outside the 48 x 48 frame" in ended.stderr
    assert not stale.exists()
    # Sorted by name: a.mp4 comes before a.png.
    assert (tmp_path / "out" / "a" / "overlay.mp4").is_file()
    assert (tmp_path / "out" / "a-2" / "overlay.jpg").is_file()
    assert (tmp_path / "out" / "cut" / "overlay.mp4").is_file()
    assert not (tmp_path / "out" / "small").exists()
    assert len(play(tmp_path / "out" / "a" / "overlay.mp4").times_s) == len(play(whole).times_s)


def test_a_truncated_video_is_done_as_far_as_it_goes_with_a_note(tmp_path: Path) -> None:
    path = clip(tmp_path / "cut.mkv", 20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    ended = here("cut.mkv", "--box", "33,33,87,87", "--every", "3", "--format", "rle")
    assert ended.exit_code == 0, ended.stderr
    assert "cut.mkv: note: " in ended.stderr
    assert "truncated" in ended.stderr
    assert 1 <= len(lines_of(tmp_path / "out" / "cut" / "masks.jsonl")) < 7


def test_a_server_gives_the_same_video_results_as_a_model_here(tmp_path: Path, server: Server) -> None:
    clip(tmp_path / "clip.mp4", 6, sound=True)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    clip(tmp_path / "small.mkv", 2, size=(48, 48))
    options = ("--box", "33,33,87,87", "--every", "2", "--hold", "--format", "overlay,rle,png,polygons", "--untrusted")
    assert here("clip.mp4", *options, "--out", "here").exit_code == 0
    ended = streamseg("segment", *tmp_path.glob("*.m*"), *options, "--out", "there", "--server", server.url)
    assert ended.exit_code == 1, ended.stderr
    assert "1 of 3 segmented, 2 failed" in ended.stdout
    assert "bad.mp4: unsupported_media" in ended.stderr
    assert "small.mkv: bad_prompt" in ended.stderr
    assert "6 frames over 0.5 s" in ended.stdout
    assert "object 1 never lost" in ended.stdout
    ours, theirs = tmp_path / "here" / "clip", tmp_path / "there" / "clip"
    assert {one.name for one in theirs.iterdir()} == {"overlay.mp4", "masks.jsonl", "masks", "polygons.jsonl"}
    for name in ("masks.jsonl", "polygons.jsonl", *(f"masks/{index:06d}_1.png" for index in range(6))):
        assert (theirs / name).read_bytes() == (ours / name).read_bytes()
    played = play(theirs / "overlay.mp4")
    assert len(played.times_s) == 6
    assert played.sound_s == pytest.approx(0.6, abs=0.06)


def test_an_interrupt_fetches_what_a_server_has_done_so_far(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(tmp_path / "long.mp4", 1500)
    update, interrupts = VideoProgress.update, iter([signal.SIGINT])

    def update_and_interrupt(self: VideoProgress, *values: Any) -> None:
        update(self, *values)
        # A second one would end the tests.
        for number in interrupts:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(VideoProgress, "update", update_and_interrupt)
    ended = streamseg("segment", "long.mp4", "--point", "60,60", "--server", server.url)
    assert ended.exit_code == 130, ended.stderr
    assert "interrupted after" in ended.stdout
    results = lines_of(tmp_path / "out" / "long" / "masks.jsonl")
    assert [one.index for one in results] == list(range(len(results)))
    assert 1 <= len(results) < 1500
    assert len(play(tmp_path / "out" / "long" / "overlay.mp4").times_s) == len(results)


def test_the_example_program_follows_an_object_through_a_server(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Path(__file__).parents[1] / "clients" / "python" / "segment_video.py"
    arguments = [str(clip(tmp_path / "clip.mp4", 4)), "33", "33", "87", "87", "--server", server.url]
    monkeypatch.setattr(sys, "argv", [str(program), *arguments])
    runpy.run_path(str(program), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5
    assert all(": tracked" in line for line in said[:4])
    assert len(play(tmp_path / "out" / "overlay.mp4").times_s) == 4


def test_the_sample_clip_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    ended = here("--sample-clip", "--end", "0.1", "--format", "rle")
    assert ended.exit_code == 0, ended.stderr
    results = lines_of(tmp_path / "out" / "clip" / "masks.jsonl")
    assert len(results) == 3
    assert 8_000 < results[0].objects[0].area_px < 16_000


def interrupted(command: list[str], enough: Callable[[], bool]) -> tuple[str, str]:
    """What a command says, and complains of, that is interrupted as soon as ``enough`` of its files are there."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline_s = time.monotonic() + 60
            while not enough():
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted after" in said
    return said, errors


def test_an_interrupt_leaves_the_video_so_far_whole_and_ends_with_130(tmp_path: Path) -> None:
    clip(tmp_path / "long.mp4", 1500, sound=True)
    disc(tmp_path / "z.png")
    out = tmp_path / "out" / "long"
    command = [sys.executable, "-m", "streamseg", "segment", "long.mp4", "z.png", "--box", "33,33,87,87"]
    command += ["--model", "nano", "--device", "cpu", "--format", "overlay,rle,png"]
    said, errors = interrupted(command, (out / "masks" / "000005_1.png").exists)
    assert "once more quits at once" in errors
    assert "0 of 2 segmented, 0 failed, interrupted" in said
    results = lines_of(out / "masks.jsonl")
    assert [one.index for one in results] == list(range(len(results)))
    assert 6 <= len(results) < 1500
    played = play(out / "overlay.mp4")
    assert len(played.times_s) == len(results) == len(list((out / "masks").iterdir()))
    assert played.sound_s == pytest.approx(len(results) / 10, abs=0.15)
    assert {one.name for one in out.iterdir()} == {"overlay.mp4", "masks.jsonl", "masks"}


def test_a_second_interrupt_quits_at_once() -> None:
    code = """
import time
from streamseg.cli.interrupt import interrupts_as_event
with interrupts_as_event() as asked:
    print("ready", flush=True)
    asked.wait()
    print("asked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for word in (b"ready\n", b"asked\n"):
            assert process.stdout.readline() == word
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.count(b"\n") == 2
    assert b"once more quits at once" in errors


# segment: streams


def test_a_camera_is_segmented_until_the_end_that_was_asked_for(tmp_path: Path) -> None:
    with HttpServer({"/video": mjpeg(25, square)}) as camera:
        url = f"http://user:hunter2@127.0.0.1:{camera.port}/video?token=hunter2"
        ended = here(url, "--box", "10,25,40,55", "--end", "1.5")
    assert ended.exit_code == 0, ended.stderr
    assert f"http://127.0.0.1:{camera.port}/video -> out/127.0.0.1/: " in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr
    results = lines_of(tmp_path / "out" / "127.0.0.1" / "masks.jsonl")
    assert results[0].objects[0].state == "tracked"
    assert results[-1].time_s < 1.5
    played = play(tmp_path / "out" / "127.0.0.1" / "overlay.mp4")
    assert len(played.times_s) == len(results)
    assert np.allclose(np.diff(played.times_s), np.diff([one.time_s for one in results]), atol=0.02)


def test_an_interrupt_ends_a_camera_with_its_files_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamseg", "segment", "--box", "10,25,40,55", "--model", "nano"]
    command += ["--device", "cpu", "--format", "overlay,rle,png"]
    out = tmp_path / "out" / "127.0.0.1"
    with HttpServer({"/video": mjpeg(25, square)}) as camera:
        interrupted([*command, f"{camera.origin}/video"], lambda: len(list((out / "masks").glob("*"))) >= 5)
    assert len(play(out / "overlay.mp4").times_s) == len(lines_of(out / "masks.jsonl")) >= 5


def test_streams_that_cannot_be_had_are_one_line_each(server: Server) -> None:
    with HttpServer({}) as camera:
        box = ("--box", "10,25,40,55")
        missing = f"http://user:hunter2@127.0.0.1:{camera.port}/x"
        ended = here(missing, "srt://camera:9000", *box)
        assert ended.exit_code == 2
        assert f"http://127.0.0.1:{camera.port}/x: stream_unavailable: there is no such stream" in ended.stderr
        assert "srt://camera:9000: address_refused: " in ended.stderr
        assert "hunter2" not in ended.stderr
        for more, message in (
            (["--backwards", "--model", "nano"], "--backwards is for recordings"),
            (["--untrusted", "--model", "nano"], "--untrusted is for files"),
            (["--server", server.url], "leave out --server"),
        ):
            ended = streamseg("segment", missing, *box, *more)
            assert ended.exit_code == 2
            assert message in ended.stderr


# segment: usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to segment"),
        (["a.png"], "say what to segment: --point"),
        (["a.png", "--sample"], "prompts of their own"),
        (["a.png", "--point", "1"], "--point takes X,Y"),
        (["a.png", "--frame", "2", "--point", "1,2"], "frame 0 only"),
        (["a.png", "--point", "1,2", "--format", "gif"], "--format takes"),
        (["a.png", "--point", "1,2", "--every", "2", "--fps", "3"], "exclude each other"),
        (["a.png", "--point", "1,2", "--every", "0"], "--every"),
        (["a.png", "--point", "1,2", "--start", "soon"], "--start takes a time"),
        (["a.png", "--point", "1,2", "--start", "3", "--end", "2"], "after start_s"),
        (["a.png", "--point", "1,2", "--container", "avi"], "--container"),
        (["a.png", "--point", "1,2", "--quality", "0"], "--quality"),
        (["a.png", "--point", "1,2", "--mode", "dream"], "--mode"),
        (["a.png", "--point", "1,2", "--score-threshold", "2"], "--score-threshold"),
        (["a.png", "--point", "1,2", "--no-refine", "--smooth", "2"], "--no-refine"),
        (["a.png", "--point", "1,2", "--server", "127.0.0.1:1", "--model", "nano"], "leave out --model"),
        (["a.png", "--point", "1,2", "--config", "missing.yaml"], "missing.yaml"),
        (["a.png", "--point", "1,2", "--close", "65"], "close_px"),
        (["a.png", "--point", "1,2", "--model", "nanno"], "nanno"),
        (["a.png", "--point", "1,2", "--server", "127.0.0.1:1"], "no server answers"),
        (["a.png", "--point", "1,2", "--out", "a.png/x"], "output folder"),
        (["a.png", "--point", "1,2", "--pint", "1"], "--pint"),
        (["missing.png", "--point", "1,2"], "missing.png: not_found"),
        (["a.png", "--point", "1000,2"], "outside the 320 x 240 frame"),
    ],
)
def test_wrong_usage_or_nothing_done_is_one_line_and_exit_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    disc(tmp_path / "a.png")
    ended = streamseg("segment", *arguments)
    assert ended.exit_code == 2
    lines = [line for line in ended.stderr.splitlines() if "model" not in line.split()[:3]]
    assert len(lines) == 1
    assert message in lines[0]


def test_an_interrupt_ends_with_130_and_says_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disc(tmp_path / "in" / "a.png")
    disc(tmp_path / "in" / "b.png")
    written = []

    def write_once(self: OutputFolder, *arguments: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(arguments)

    monkeypatch.setattr(OutputFolder, "write", write_once)
    ended = here("in", "--point", "160,120")
    assert ended.exit_code == 130
    assert "1 of 2 segmented, 0 failed, interrupted" in ended.stdout


# The other commands


def test_version_help_and_unknown_commands() -> None:
    import streamseg as package

    assert streamseg("--version").stdout == f"streamseg {package.__version__}\n"
    ended = streamseg("--help")
    assert ended.exit_code == 0
    assert all(name in ended.stdout for name in ("serve", "segment", "models", "bench"))
    assert streamseg().exit_code == 2
    ended = streamseg("segmnet")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'segment'?" in ended.stderr


def test_models_lists_every_model_with_its_licence() -> None:
    from streamseg.models.catalog import MODELS

    ended = streamseg("models")
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert len(lines) == 1 + len(MODELS)
    assert [line.split()[0] for line in lines[1:]] == list(MODELS)
    assert "research-use" in next(line for line in lines if line.startswith("nano"))


def test_bench_measures_and_names_the_hardware() -> None:
    ended = streamseg("bench", "--model", "nano", "--device", "cpu", "--repeat", "1")
    assert ended.exit_code == 0, ended.stderr
    assert "nano, 384 px, fp32" in ended.stdout
    assert "encode" in ended.stdout
    assert "8 object(s)" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "without a token"),
        (["--port", "70000"], "port"),
        (["--log-level", "loud"], "log_level"),
        (["--token", ""], "token is empty"),
        (["--model", "nope"], "There is no model 'nope'"),
    ],
)
def test_bad_settings_of_serve_are_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    ended = streamseg("serve", *arguments)
    assert ended.exit_code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert message in ended.stderr


def test_a_taken_port_is_one_line_and_exit_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = streamseg("serve", "--port", str(taken.getsockname()[1]))
    assert ended.exit_code == 2
    assert "is taken" in ended.stderr.splitlines()[-1]


def test_serve_says_where_it_is_and_what_to_try_and_ends_on_an_interrupt(tmp_path: Path) -> None:
    disc(tmp_path / "one.png")
    command = [sys.executable, "-m", "streamseg", "serve", "--port", "0", "--model", "nano", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(6)]
        url = said[0].removeprefix("streamseg is ready: ").strip()
        try:
            assert url.startswith("http://127.0.0.1:")
            assert said[1] == "try this:\n"
            assert all(url in line for line in said[2:5])
            assert said[5].startswith("model: nano on cpu")
            ended = streamseg("segment", "one.png", "--point", "160,120", "--server", url)
            assert ended.exit_code == 0, ended.stderr
        finally:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
