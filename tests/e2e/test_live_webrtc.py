"""The tab Live over WebRTC, in a real browser, on the machine's own address."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import pytest
from looking import (
    OpenPage,
    break_websockets,
    click_stage,
    listen,
    see_offset,
    wait_for_disc,
    wait_for_frames,
    wait_for_mask_on_disc,
)
from playwright.sync_api import Page, expect

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

# Chromium takes no 127.0.0.1 for WebRTC by itself.
BROWSER_ARGUMENTS = ["--allow-loopback-in-peer-connection"]
PANEL = "#panel-live"
# The channel that results come over, and what came over it.
_WATCH_CHANNEL = """() => {
    window.heard = {results: 0, echoes: 0};
    const make = RTCPeerConnection.prototype.createDataChannel;
    RTCPeerConnection.prototype.createDataChannel = function (...how) {
        const channel = make.apply(this, how);
        channel.addEventListener("message", ({data}) => {
            window.heard[typeof data === "string" ? "echoes" : "results"]++;
        });
        window.connection = this;
        return channel;
    };
}"""

CAMERA_WIDTH = 480
# The disc goes round within 90 pictures, 90 pixels to either side.
STEP_PX = 2 * math.pi * 90 / 90
_VIDEO_PACKETS = """async () => {
    const reports = [...(await window.connection.getStats()).values()];
    return reports.filter(({type}) => type === "outbound-rtp").reduce((sum, one) => sum + one.packetsSent, 0);
}"""


@pytest.fixture(scope="module")
def page_server(model: LoadedModel) -> Iterator[Server]:
    with Server(load_settings(None, {"port": 0, "webrtc": {"loopback": True}}), model) as server:
        yield server


@pytest.fixture(scope="module")
def server_without_webrtc(model: LoadedModel) -> Iterator[Server]:
    with Server(load_settings(None, {"port": 0, "webrtc": {"enabled": False}}), model) as server:
        yield server


def choose_webrtc(page: Page) -> None:
    page.evaluate("localStorage.setItem('streamseg.transport', 'webrtc')")
    page.reload()


def start_camera(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("Where the time goes").click()


def click_disc(page: Page) -> None:
    disc = wait_for_disc(page, PANEL)
    click_stage(page, PANEL, disc["x"], disc["y"])


def test_masks_come_over_the_data_channel_and_fit_the_picture(open_page: OpenPage) -> None:
    page = open_page()
    choose_webrtc(page)
    page.evaluate(_WATCH_CHANNEL)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    click_disc(page)
    wait_for_mask_on_disc(page, PANEL)
    before = page.evaluate("window.heard.results")
    wait_for_frames(page, PANEL, 25)
    page.wait_for_function("(before) => window.heard.results >= before + 10", arg=before)
    seen = wait_for_mask_on_disc(page, PANEL)
    assert seen["inCorner"] == 0
    # The delay is known, not guessed: Chromium tells the timestamps of what it sends.
    expect(page.locator(f"{PANEL} [data-part=delay]")).to_have_text(re.compile(r"^\d+ ms$"))


def test_a_mask_is_drawn_over_its_own_frame(open_page: OpenPage) -> None:
    page = open_page()
    choose_webrtc(page)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    click_disc(page)
    wait_for_mask_on_disc(page, PANEL)
    looks = []
    for _ in range(12):
        wait_for_frames(page, PANEL, 1)
        looks.append(see_offset(page, PANEL, CAMERA_WIDTH))
    xs = [look["x"] for look in looks]
    assert max(xs) - min(xs) > 4 * STEP_PX, "the disc moves while it is looked at"
    assert max(abs(look["offset"]) for look in looks) < STEP_PX, looks


def test_nothing_is_sent_before_there_is_an_object(open_page: OpenPage) -> None:
    page = open_page()
    choose_webrtc(page)
    page.evaluate(_WATCH_CHANNEL)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    page.wait_for_function("() => window.heard.echoes >= 2")
    assert page.evaluate(_VIDEO_PACKETS) == 0
    click_disc(page)
    page.wait_for_function("() => window.heard.results > 0")
    assert page.evaluate(_VIDEO_PACKETS) > 0


def test_a_lost_connection_leaves_the_session_to_the_websocket(open_page: OpenPage) -> None:
    page = open_page()
    choose_webrtc(page)
    page.evaluate(_WATCH_CHANNEL)
    said = listen(page)
    start_camera(page)
    click_disc(page)
    page.wait_for_function("() => window.heard.results > 0")
    # What the browser tells the page when its network is gone.
    page.evaluate(
        """() => {
            Object.defineProperty(window.connection, "connectionState", {value: "failed"});
            window.connection.dispatchEvent(new Event("connectionstatechange"));
        }"""
    )
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("websocket")
    expect(page.locator(f"{PANEL} [data-part=way-words]")).to_contain_text("was lost")
    wait_for_frames(page, PANEL, 10)
    wait_for_mask_on_disc(page, PANEL)
    assert [message["type"] for message in said].count("start") == 1
    assert page.locator("#notices").inner_text() == ""


def test_masks_keep_coming_while_the_websocket_is_away(open_page: OpenPage, page_server: Server) -> None:
    page = open_page()
    choose_webrtc(page)
    page.evaluate(_WATCH_CHANNEL)
    said = listen(page)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    click_disc(page)
    page.wait_for_function("() => window.heard.results > 0")
    with page.expect_websocket():
        break_websockets(page_server)
    expect(page.locator("#connection")).to_have_text("Connected")
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    before = page.evaluate("window.heard.results")
    page.wait_for_function("(before) => window.heard.results >= before + 10", arg=before)
    wait_for_mask_on_disc(page, PANEL)
    assert [message["type"] for message in said] == ["start", "offer", "prompt", "resume"]


def test_a_server_without_webrtc_is_spoken_to_over_the_websocket(
    open_page: OpenPage, server_without_webrtc: Server
) -> None:
    page = open_page(url=server_without_webrtc.url)
    choose_webrtc(page)
    said = listen(page)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("websocket")
    expect(page.locator(f"{PANEL} [data-part=way-words]")).to_contain_text("did not get through")
    click_disc(page)
    wait_for_mask_on_disc(page, PANEL)
    wait_for_frames(page, PANEL, 3)
    assert [message["source"] for message in said if message["type"] == "start"] == ["webrtc", "frames"]
    assert page.locator("#notices").inner_text() == ""


def test_on_one_machine_the_page_takes_the_websocket_unless_it_is_told_otherwise(open_page: OpenPage) -> None:
    page = open_page()
    said = listen(page)
    start_camera(page)
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("websocket")
    expect(page.locator(f"{PANEL} [data-part=way-words]")).to_be_hidden()
    page.get_by_label("Transport").select_option("WebRTC")
    expect(page.locator(f"{PANEL} [data-part=way]")).to_have_text("WebRTC")
    assert [message["source"] for message in said if message["type"] == "start"] == ["frames", "webrtc"]
    page.reload()
    start_camera(page)
    expect(page.get_by_label("Transport")).to_have_value("webrtc")
