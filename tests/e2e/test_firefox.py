"""The page in a real Firefox: what differs from browser to browser, once each."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from firefox import FIREFOX, Firefox, FirefoxPage, running_firefox
from looking import click_stage, see_disc, see_offset, wait_for_disc, wait_for_frames, wait_for_mask_on_disc
from media_made import disc_picture, encoded, write_clip

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

pytestmark = pytest.mark.firefox

CAMERA_WIDTH = 480
# The disc goes round within 90 pictures, 90 pixels to either side.
STEP_PX = 2 * math.pi * 90 / 90
# Firefox's own camera for tests has one colour all over: this one takes its place, once it was given.
CAMERA = """() => {
    const devices = globalThis.navigator.mediaDevices;
    if (!devices) return;
    const getUserMedia = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (constraints) => {
        for (const track of (await getUserMedia(constraints)).getTracks()) track.stop();
        const canvas = Object.assign(document.createElement("canvas"), {width: 480, height: 360});
        const context = canvas.getContext("2d");
        let number = 0;
        const draw = () => {
            const turn = 2 * Math.PI * number++ / 90;
            context.fillStyle = "rgb(72, 90, 117)";
            context.fillRect(0, 0, 480, 360);
            context.fillStyle = "rgb(255, 140, 0)";
            context.beginPath();
            context.arc(240 + 90 * Math.cos(turn), 180 + 60 * Math.sin(turn), 55, 0, 2 * Math.PI);
            context.fill();
        };
        draw();
        setInterval(draw, 1000 / 15);
        return canvas.captureStream();
    };
}"""

OpenPage = Callable[[str], FirefoxPage]


@pytest.fixture(scope="module")
def page_server(model: LoadedModel) -> Iterator[Server]:
    with Server(load_settings(None, {"port": 0, "webrtc": {"loopback": True}}), model) as server:
        yield server


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    if FIREFOX is None:
        pytest.skip("Firefox is not installed: run make firefox as root")
    with running_firefox(tmp_path_factory.mktemp("firefox")) as firefox:
        yield firefox


@pytest.fixture
def open_page(firefox: Firefox, page_server: Server) -> Iterator[OpenPage]:
    """Opens the page at a path; when the test ends, the page must not have reported an error."""
    pages: list[FirefoxPage] = []

    def open_page(path: str) -> FirefoxPage:
        pages.append(firefox.open(page_server.url + path, before=CAMERA))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
    assert [words for page in pages for words in page.complaints] == []


def wait_for_words(page: FirefoxPage, selector: str, pattern: str) -> None:
    page.wait_for_function(
        "([selector, pattern]) => new RegExp(pattern).test(document.querySelector(selector)?.textContent ?? '')",
        arg=[selector, pattern],
    )


def wait_for_stage(page: FirefoxPage, panel: str, name: str, value: str) -> None:
    page.wait_for_function(
        "([panel, name, value]) => document.querySelector(`${panel} .stage`).dataset[name] === value",
        arg=[panel, name, value],
    )


def click_disc(page: FirefoxPage, panel: str) -> None:
    disc = wait_for_disc(page, panel)
    click_stage(page, panel, disc["x"], disc["y"])


def test_a_clicked_object_of_a_picture_is_masked_and_can_be_corrected(open_page: OpenPage, tmp_path: Path) -> None:
    panel = "#panel-image"
    picture = tmp_path / "disc.jpg"
    picture.write_bytes(encoded(disc_picture(900, 600, 360, 280, 130), "JPEG"))
    page = open_page("/#tab=image")
    page.set_files(f"{panel} [data-part=file]", picture)
    # The server has read it: a click before that is refused.
    wait_for_stage(page, panel, "results", "1")
    click_disc(page, panel)
    seen = wait_for_mask_on_disc(page, panel)
    assert seen["inCorner"] == 0
    wait_for_stage(page, panel, "results", "2")
    click_stage(page, panel, 0.9, 0.9, shift=True)
    wait_for_stage(page, panel, "results", "3")
    for _ in range(2):
        page.locator(f"{panel} [data-part=undo]").click()
    page.wait_for_function("(panel) => !document.querySelector(`${panel} .object`)", arg=panel)
    after = see_disc(page, panel)
    assert after is not None
    assert after["onDisc"] == 0


@pytest.mark.parametrize(("transport", "name"), [("websocket", "websocket"), ("webrtc", "WebRTC")])
def test_a_mask_follows_its_object_and_is_drawn_over_its_own_frame(
    open_page: OpenPage, transport: str, name: str
) -> None:
    panel = "#panel-live"
    page = open_page("/")
    page.evaluate("(transport) => localStorage.setItem('streamseg.transport', transport)", transport)
    page.reload()
    page.locator(f"{panel} [data-part=camera]").click()
    click_disc(page, panel)
    wait_for_mask_on_disc(page, panel)
    wait_for_words(page, f"{panel} [data-part=way]", f"^{name}$")
    # The first results may still have come over the websocket.
    wait_for_frames(page, panel, 3)
    looks = []
    for _ in range(8):
        wait_for_frames(page, panel, 1)
        looks.append(see_offset(page, panel, CAMERA_WIDTH))
    xs = [look["x"] for look in looks]
    assert max(xs) - min(xs) > 2 * STEP_PX, "the disc moves while it is looked at"
    assert max(abs(look["offset"]) for look in looks) < STEP_PX, looks
    # The delay is known, not guessed: Firefox tells the timestamps of what it sends.
    wait_for_words(page, f"{panel} [data-part=delay]", r"^\d+ ms$")


def test_a_video_is_stepped_through_and_followed_from_the_frame_that_was_clicked(
    open_page: OpenPage, tmp_path: Path
) -> None:
    """Firefox does not tell when a frame begins that was sought."""
    panel = "#panel-video"
    page = open_page("/#tab=video")
    page.set_files(f"{panel} input[type=file]", write_clip(tmp_path / "disc.mp4", 9, 12))
    wait_for_disc(page, panel)
    for key, time_s in [(".", 1 / 12), (".", 2 / 12), (".", 3 / 12), (",", 2 / 12)]:
        page.keyboard.press(key)
        wait_for_stage(page, panel, "time", f"{time_s:.4f}")
    click_disc(page, panel)
    wait_for_words(page, f"{panel} .object-state", "%")
    page.keyboard.press(".")
    wait_for_words(page, f"{panel} .object-state", "from")
    page.keyboard.press(",")
    # The frame is known again, and with it its mask.
    wait_for_words(page, f"{panel} .object-state", "%")
    page.locator(f"{panel} [data-part=process]").click()
    masks = f"{panel} [data-part=files] a[download$='masks.jsonl']"
    page.wait_for_function("(link) => document.querySelector(link)?.checkVisibility() ?? false", arg=masks)
    with urllib.request.urlopen(page.evaluate("(link) => document.querySelector(link).href", masks)) as answer:
        lines = [json.loads(line) for line in answer.read().decode().splitlines()]
    assert [line["objects"][0]["state"] for line in lines] == ["lost"] * 2 + ["tracked"] * 7
    page.wait_for_function(
        "(panel) => [...document.querySelectorAll(`${panel} video`)].every((video) => video.readyState >= 2)", arg=panel
    )
    page.locator(f"{panel} [data-part=play]").click()
    page.wait_for_function(
        "(panel) => [...document.querySelectorAll(`${panel} video`)].every((video) => video.currentTime > 0.3)",
        arg=panel,
    )
