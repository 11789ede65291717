"""The tab Video in a real browser, against a real server, with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest
from looking import OpenPage, StartServer, click_stage, listen, wait_for_disc, wait_for_mask_on_disc
from media_made import write_clip
from playwright.sync_api import Page, expect

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

PANEL = "#panel-video"
RATE = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound."""
    return write_clip(tmp_path_factory.mktemp("clips") / "disc.mp4", 24, RATE)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute: longer than a test waits."""
    return write_clip(tmp_path_factory.mktemp("clips") / "long.mp4", 60 * RATE, RATE, sound=False)


def choose(page: Page, *files: Path | dict[str, Any]) -> None:
    page.locator(f"{PANEL} input[type=file]").set_input_files(files[0])  # type: ignore[arg-type]


def open_clip(page: Page, clip: Path) -> None:
    choose(page, clip)
    wait_for_disc(page, PANEL)


def click_disc(page: Page) -> None:
    disc = wait_for_disc(page, PANEL)
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)


def shown_s(page: Page) -> float:
    return float(page.locator(f"{PANEL} .stage").get_attribute("data-time") or 0)


def press_until_time(page: Page, key: str, time_s: float) -> None:
    page.keyboard.press(key)
    page.wait_for_function(
        "([panel, time]) => Math.abs(document.querySelector(`${panel} .stage`).dataset.time - time) < 0.005",
        arg=[PANEL, time_s],
    )


def process(page: Page, name: str = "Process the video") -> None:
    page.get_by_role("button", name=name).click()


def modes(said: list[dict[str, Any]]) -> list[str]:
    """Of the jobs that were asked for."""
    return [message["mode"] for message in said if message["type"] == "start" and message["source"] == "file"]


def wait_for_files(page: Page) -> None:
    expect(page.locator(f"{PANEL} [data-part=files]")).to_be_visible(timeout=60_000)


def download(page: Page, name: str) -> tuple[str, Path]:
    with page.expect_download() as started:
        page.get_by_role("link", name=name).click()
    return started.value.suggested_filename, Path(started.value.path())


def masks(page: Page) -> list[dict[str, Any]]:
    name, file = download(page, "Masks (")
    assert name.endswith("masks.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def videos(page: Page) -> list[dict[str, float]]:
    """Original and result."""
    found: list[dict[str, float]] = page.evaluate(
        """(panel) => [...document.querySelectorAll(`${panel} video`)].map((video) => ({
            at: video.currentTime, lasts: video.duration, width: video.videoWidth, height: video.videoHeight,
            muted: video.muted, paused: video.paused}))""",
        PANEL,
    )
    return found


def wait_for_videos(page: Page, condition: str) -> None:
    page.wait_for_function(
        f"(panel) => {{ const [a, b] = document.querySelectorAll(`${{panel}} video`); return {condition}; }}", arg=PANEL
    )


def test_from_a_click_to_a_result_that_plays_beside_the_original(open_page: OpenPage, clip: Path) -> None:
    page = open_page("/#tab=video")
    said = listen(page)
    open_clip(page, clip)
    press_until_time(page, ".", 1 / RATE)
    press_until_time(page, "ArrowRight", 2 / RATE)
    press_until_time(page, ",", 1 / RATE)
    click_disc(page)
    expect(page.locator(f"{PANEL} .object")).to_have_attribute("data-state", "tracked")
    process(page)
    expect(page.locator(f"{PANEL} [data-part=work-words]")).to_contain_text("Processing")
    page.wait_for_function("(panel) => document.querySelector(`${panel} .stage`).dataset.index >= 1", arg=PANEL)
    wait_for_files(page)
    assert modes(said) == ["track"]

    lines = masks(page)
    assert [line["index"] for line in lines] == list(range(24))
    assert [line["objects"][0]["state"] for line in lines[:2]] == ["lost", "tracked"]
    assert lines[12]["objects"][0]["area_px"] > 2000
    name, file = download(page, "Video with masks")
    assert name.endswith("overlay.mp4")
    with av.open(file) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (320, 240)
        assert made.streams.audio[0].codec_context.name == "aac"
        assert sum(1 for _ in made.decode(video=0)) == 24

    # The frame with the click is shown on both sides; then they play together, and only the original is heard.
    wait_for_videos(page, "b.readyState >= 2 && !b.seeking && !a.seeking")
    original, result = videos(page)
    assert (result["width"], result["height"]) == (320, 240)
    assert result["at"] == pytest.approx(original["at"], abs=0.005)
    assert shown_s(page) == pytest.approx(1 / RATE, abs=0.005)
    assert result["muted"]
    assert not original["muted"]
    page.locator(f"{PANEL} .stage").focus()
    page.keyboard.press(" ")
    wait_for_videos(page, "b.currentTime > 0.5 && !b.paused && Math.abs(a.currentTime - b.currentTime) < 0.25")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("slider", name="Position").fill("1.5")
    wait_for_videos(page, "Math.abs(a.currentTime - 1.5) < 0.01 && Math.abs(b.currentTime - 1.5) < 0.01 && b.paused")

    page.get_by_text("Wipe", exact=True).click()
    divider = page.get_by_role("slider", name="Divider")
    divider.press("ArrowLeft")
    expect(divider).to_have_attribute("aria-valuenow", "45")

    # Another click on another frame, and the same file again.
    expect(page.get_by_role("button", name="Process again")).to_be_enabled()
    page.locator(f"{PANEL} .object-select").click()
    click_disc(page)
    expect(page.locator(f"{PANEL} .flag")).to_have_count(2)
    process(page, "Process again")
    wait_for_files(page)
    assert len(masks(page)) == 24


def test_options_choose_part_frames_and_form(open_page: OpenPage, clip: Path) -> None:
    page = open_page("/#tab=video")
    said = listen(page)
    open_clip(page, clip)
    page.get_by_role("switch", name="Follow").uncheck()
    page.get_by_text("More", exact=True).click()
    press_until_time(page, ".", 1 / RATE)
    press_until_time(page, ".", 2 / RATE)
    page.get_by_role("button", name="Start here").click()
    page.get_by_role("slider", name="Position").fill("0")
    page.wait_for_function("(panel) => document.querySelector(`${panel} .stage`).dataset.time == 0", arg=PANEL)
    click_disc(page)
    process(page)
    expect(page.locator("#notices")).to_contain_text("Object 1 was clicked at 0:00.00, outside the part from 0:00.17")
    page.get_by_role("button", name="Delete Object 1").click()
    page.locator(f"{PANEL} .stage").focus()
    press_until_time(page, ".", 1 / RATE)
    press_until_time(page, ".", 2 / RATE)
    click_disc(page)
    page.get_by_label("Frames Every").select_option("2")
    page.get_by_label("Keep the frames between").uncheck()
    page.get_by_label("File MP4").select_option("webm")
    process(page)
    wait_for_files(page)
    assert modes(said) == ["image"]
    times = [line["time_s"] for line in masks(page)]
    assert times == pytest.approx([number / RATE for number in range(2, 24, 2)], abs=0.002)
    wait_for_videos(page, "b.readyState >= 2 && !b.seeking && !a.seeking")
    original, result = videos(page)
    # The result begins where the part does.
    assert original["at"] - result["at"] == pytest.approx(2 / RATE, abs=0.02)
    name, file = download(page, "Video with masks")
    assert name.endswith("overlay.webm")
    with av.open(file) as made:
        assert made.streams.video[0].codec_context.name == "vp9"


def test_stopping_midway_keeps_what_is_done(open_page: OpenPage, long_clip: Path) -> None:
    page = open_page("/#tab=video")
    open_clip(page, long_clip)
    click_disc(page)
    process(page)
    page.wait_for_function("(panel) => document.querySelector(`${panel} .stage`).dataset.index >= 3", arg=PANEL)
    page.get_by_role("button", name="Stop here").click()
    wait_for_files(page)
    expect(page.locator(f"{PANEL} [data-part=files-words]")).to_contain_text("Stopped at 0:")
    lines = masks(page)
    assert 3 <= len(lines) < 60 * RATE
    with av.open(download(page, "Video with masks")[1]) as made:
        assert sum(1 for _ in made.decode(video=0)) == len(lines)
    expect(page.get_by_role("button", name="Process again")).to_be_enabled()


def test_a_lost_connection_is_said_and_clicks_are_kept(
    open_page: OpenPage, model: LoadedModel, long_clip: Path
) -> None:
    with Server(load_settings(None, {"port": 0}), model) as server:
        page = open_page("/#tab=video", url=server.url, expected="")
        open_clip(page, long_clip)
        click_disc(page)
        process(page)
        page.wait_for_function("(panel) => document.querySelector(`${panel} .stage`).dataset.index >= 1", arg=PANEL)
    expect(page.locator("#notices")).to_contain_text("Connection lost")
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)
    expect(page.get_by_role("button", name="Process the video")).to_be_enabled()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"Dear diary, this is no video.\n", "This is not a video that can be used here"),
        ("nothing.mp4", b"", "This file is empty"),
    ],
    ids=["text", "empty"],
)
def test_a_file_that_is_no_video_is_refused_in_words(
    open_page: OpenPage, name: str, content: bytes, words: str
) -> None:
    page = open_page("/#tab=video")
    choose(page, {"name": name, "mimeType": "video/mp4", "buffer": content})
    expect(page.locator("#notices")).to_contain_text(words)
    expect(page.get_by_role("button", name="Choose a video")).to_be_visible()


def test_a_video_beyond_the_limit_is_refused_before_it_is_sent(
    open_page: OpenPage, start_server: StartServer, clip: Path
) -> None:
    server = start_server(limits={"max_video_bytes": 4096})
    page = open_page("/#tab=video", url=server.url)
    expect(page.locator("#model")).to_contain_text("nano")
    choose(page, clip)
    expect(page.locator("#notices")).to_contain_text("this server takes up to 4 kB")


def test_a_video_that_the_browser_cannot_play_is_clicked_on_in_a_copy(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("/#tab=video")
    choose(page, write_clip(tmp_path / "old.avi", 6, RATE, codec="mjpeg", sound=False))
    expect(page.get_by_text("This browser cannot show this video")).to_be_visible()
    page.get_by_role("button", name="Make a copy to click on").click()
    wait_for_disc(page, PANEL)
    click_disc(page)
    process(page)
    wait_for_files(page)
    lines = masks(page)
    assert len(lines) == 6
    assert lines[0]["objects"][0]["area_px"] > 2000


def test_a_truncated_video_is_refused_by_the_server_in_words(open_page: OpenPage, clip: Path) -> None:
    """Begins like an MP4, but nothing in it can be decoded."""
    page = open_page("/#tab=video")
    choose(page, {"name": "cut.mp4", "mimeType": "video/mp4", "buffer": clip.read_bytes()[:200]})
    page.get_by_role("button", name="Make a copy to click on").click()
    expect(page.locator("#notices")).to_contain_text("This file cannot be used")
    expect(page.get_by_role("button", name="Make a copy to click on")).to_be_visible()


def test_times_count_from_the_first_frame_and_places_are_in_stored_pixels(open_page: OpenPage, tmp_path: Path) -> None:
    """Sound begins half a second before the first frame, and pixels are twice as wide as high."""
    page = open_page("/#tab=video")
    open_clip(page, write_clip(tmp_path / "odd.mp4", 8, RATE, first_frame=6, pixel_aspect=2))
    assert videos(page)[0]["width"] == 640
    press_until_time(page, ".", 1 / RATE)
    press_until_time(page, ".", 2 / RATE)
    click_disc(page)
    process(page)
    wait_for_files(page)
    objects = [line["objects"][0] for line in masks(page)]
    assert [one["state"] for one in objects[:3]] == ["lost", "lost", "tracked"]
    # The disc's own box on that frame, in the pixels of the file.
    assert objects[2]["box_xyxy_px"] == pytest.approx([79, 75, 169, 165], abs=12)
