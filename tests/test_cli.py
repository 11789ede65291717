"""The command line: options, outputs, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from streamseg.cli.app import app
from streamseg.cli.console import WrongUsageError
from streamseg.cli.outputs import OutputFolder, read_formats, replace_file
from streamseg.cli.prompt_options import read_groups, read_prompts, read_window
from streamseg.errors import BadSettingError
from streamseg.segmentation.masks import FrameResult

if TYPE_CHECKING:
    from streamseg.service.server import Server

# pycocotools calls numpy as it was before version 2.


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


# segment


def test_pictures_and_folders_give_a_folder_of_results_each_and_a_bad_file_stops_nothing(tmp_path: Path) -> None:
    disc(tmp_path / "in" / "one.png")
    disc(tmp_path / "in" / "two.JPG", x=150)
    disc(tmp_path / "in" / "deeper" / "three.png")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "empty").mkdir()
    disc(tmp_path / "other" / "one.png", x=170)
    inputs = ["in", "bad.jpg", "clip.mp4", "empty", "missing.png", "other/one.png"]
    ended = here(
        *inputs, "--point", "160,120", "--object", "5", "--point", "10,10", "--format", "overlay,rle,png,polygons"
    )

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
    files = ["mask_1.png", "mask_5.png", "masks.jsonl", "overlay.jpg", "polygons.json"]
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
    polygons = json.loads((tmp_path / "out" / "one" / "polygons.json").read_text())
    assert [one["object_id"] for one in polygons["objects"]] == [1, 5]


def test_a_second_run_replaces_the_results_of_the_first(tmp_path: Path) -> None:
    picture = disc(tmp_path / "one.png")
    assert here(picture, "--object", "3", "--point", "160,120", "--format", "png", "--multimask").exit_code == 0
    names = {one.name for one in (tmp_path / "out" / "one").iterdir()}
    assert names == {"mask_3.png", "mask_3_candidate_1.png", "mask_3_candidate_2.png"}
    assert here(picture, "--box", "100,60,220,180", "--format", "png", "--no-refine").exit_code == 0
    assert {one.name for one in (tmp_path / "out" / "one").iterdir()} == {"mask_1.png"}


def test_a_server_gives_the_same_files_as_a_model_here(tmp_path: Path, server: Server) -> None:
    picture = disc(tmp_path / "one.png")
    options = ("--point", "160,120", "--format", "rle,png", "--multimask")
    assert here(picture, *options, "--out", "here").exit_code == 0
    ended = streamseg("segment", picture, *options, "--out", "there", "--server", server.url)
    assert ended.exit_code == 0, ended.stderr
    for path in (tmp_path / "here" / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / "one" / path.name).read_bytes()


def test_the_samples_come_with_prompts_of_their_own(tmp_path: Path, server: Server) -> None:
    ended = streamseg("segment", "--sample", "--server", server.url, "--format", "rle")
    assert ended.exit_code == 0, ended.stderr
    lines = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/masks.jsonl")]
    assert lines
    assert all(line["objects"][0]["area_px"] > 1000 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to segment"),
        (["a.png"], "say what to segment: --point"),
        (["a.png", "--sample"], "prompts of their own"),
        (["a.png", "--point", "1"], "--point takes X,Y"),
        (["a.png", "--frame", "2", "--point", "1,2"], "frame 0 only"),
        (["a.png", "--point", "1,2", "--format", "gif"], "--format takes"),
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
