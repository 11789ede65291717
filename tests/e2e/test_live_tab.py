"""The tab Live in a real browser, against a real server, with the embedded model."""

from __future__ import annotations

import re
import time

from looking import (
    OpenPage,
    break_websockets,
    click_stage,
    drag_stage,
    listen,
    see_disc,
    wait_for_disc,
    wait_for_frames,
    wait_for_mask_on_disc,
    wait_for_result,
)
from playwright.sync_api import Page, expect

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

PANEL = "#panel-live"


def start_camera(page: Page) -> dict[str, float]:
    page.get_by_role("button", name="Use the camera").click()
    return wait_for_disc(page, PANEL)


def follow_disc(page: Page) -> None:
    disc = start_camera(page)
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)


def test_a_clicked_object_is_tinted_and_stays_tinted_while_frames_keep_coming(open_page: OpenPage) -> None:
    page = open_page()
    disc = start_camera(page)
    expect(page.get_by_text("Click an object to follow it")).to_be_visible()
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)
    expect(page.get_by_text("Click an object to follow it")).to_be_hidden()
    expect(page.locator(f"{PANEL} .object")).to_have_attribute("data-state", "tracked")
    wait_for_frames(page, PANEL, 25)
    seen = wait_for_mask_on_disc(page, PANEL)
    assert seen["inCorner"] == 0
    expect(page.locator(f"{PANEL} [data-part=fps]")).not_to_have_text("–")
    expect(page.locator(f"{PANEL} [data-part=delay]")).to_contain_text("ms")


def test_a_deleted_object_is_gone_and_the_picture_moves_on(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    page.get_by_role("button", name="Delete Object 1").click()
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    before = wait_for_disc(page, PANEL)
    assert before["onDisc"] == 0
    moved = before
    deadline = time.monotonic() + 10
    while abs(moved["x"] - before["x"]) < 0.01 and time.monotonic() < deadline:
        moved = wait_for_disc(page, PANEL)
    assert abs(moved["x"] - before["x"]) >= 0.01


def test_a_dragged_box_makes_an_object(open_page: OpenPage) -> None:
    page = open_page()
    disc = start_camera(page)
    drag_stage(page, PANEL, disc["x"] - 0.16, disc["y"] - 0.2, disc["x"] + 0.16, disc["y"] + 0.2)
    wait_for_mask_on_disc(page, PANEL)
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)


def test_a_box_is_seen_while_it_is_dragged(open_page: OpenPage) -> None:
    page = open_page()
    start_camera(page)
    box = page.locator(f"{PANEL} .stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] - 2, steps=3)
    expect(page.locator(f"{PANEL} .overlay")).to_be_visible()
    seen = see_disc(page, PANEL)
    assert seen is not None
    assert seen["inCorner"] > 0
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)


def test_objects_are_followed_and_go_on_when_that_is_switched_off_and_on(open_page: OpenPage) -> None:
    page = open_page()
    said = listen(page)
    follow_disc(page)
    switch = page.get_by_role("switch", name="Follow")
    expect(switch).to_be_checked()
    for _ in range(2):
        with page.expect_websocket() as opened:
            switch.press("Space")
        wait_for_result(opened.value, [1])
        wait_for_mask_on_disc(page, PANEL)
    starts = [message for message in said if message["type"] == "start"]
    assert [start["mode"] for start in starts] == ["track", "image", "track"]
    # The object goes on by its mask, without another click.
    prompts = [message for message in said if message["type"] == "prompt"]
    assert ["mask" in prompt for prompt in prompts] == [False, True, True]
    assert not any("replace" in prompt for prompt in prompts)


def test_the_switch_is_remembered(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Use the sample clip").click()
    page.locator(PANEL).get_by_text("Follow", exact=True).click()
    page.reload()
    said = listen(page)
    page.get_by_role("button", name="Use the sample clip").click()
    expect(page.get_by_role("switch", name="Follow")).not_to_be_checked()
    expect(page.locator("#connection")).to_have_text("Connected")
    assert said[0]["mode"] == "image"


def test_the_last_click_is_taken_back_here_and_on_the_server(open_page: OpenPage) -> None:
    page = open_page()
    said = listen(page)
    undo = page.locator(PANEL).get_by_role("button", name="Undo")
    with page.expect_websocket() as opened:
        disc = start_camera(page)
    expect(undo).to_be_disabled()
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)
    drag_stage(page, PANEL, 0.02, 0.55, 0.4, 0.98)
    wait_for_result(opened.value, [1, 2])
    expect(page.locator(f"{PANEL} .object").last).not_to_have_attribute("data-state", "waiting")
    page.keyboard.press("Control+z")
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)
    wait_for_result(opened.value, [1])
    undo.click()
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    expect(undo).to_be_disabled()
    after = wait_for_disc(page, PANEL)
    assert after["onDisc"] == 0
    assert [message["type"] for message in said].count("undo") == 2
    page.keyboard.press("Control+z")
    expect(page.get_by_text("There is nothing to undo.")).to_be_visible()


def test_a_deletion_is_said_to_be_for_good(open_page: OpenPage) -> None:
    page = open_page()
    disc = start_camera(page)
    click_stage(page, PANEL, disc["x"], disc["y"])
    drag_stage(page, PANEL, 0.02, 0.55, 0.4, 0.98)
    panel, undo = page.locator(PANEL), page.locator(PANEL).get_by_role("button", name="Undo")
    expect(panel.locator(".object")).to_have_count(2)
    panel.get_by_role("button", name="Delete Object 2").click()
    undo.click()
    expect(page.get_by_text("The last click on Object 1 was taken back instead.")).to_be_visible()
    click_stage(page, PANEL, disc["x"], disc["y"])
    panel.get_by_role("button", name="Delete Object 3").click()
    expect(undo).to_be_disabled()
    expect(undo).to_have_attribute("title", "A deletion cannot be undone. Click the object again.")
    page.keyboard.press("Control+z")
    expect(page.get_by_text("A deletion cannot be undone. Click the object again.")).to_be_visible()


def test_the_sample_clip_serves_as_camera(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Use the sample clip").click()
    expect(page.locator(f"{PANEL} .stage")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("Connected")
    click_stage(page, PANEL, 0.5, 0.5)
    wait_for_frames(page, PANEL, 3)
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)


def test_escape_and_delete_work_on_the_selected_object(open_page: OpenPage) -> None:
    page = open_page()
    follow_disc(page)
    row = page.get_by_role("button", name="Object 1", exact=False).first
    row.click()
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(page.locator(f"{PANEL} .next")).to_have_text("Next click: part of Object 1")
    page.keyboard.press("Escape")
    expect(row).to_have_attribute("aria-pressed", "false")
    row.click()
    page.keyboard.press("Delete")
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)


def test_objects_go_on_after_the_connection_broke(open_page: OpenPage, model: LoadedModel) -> None:
    """The server is stopped and another one takes its port; the page comes back without a click."""
    first = Server(load_settings(None, {"port": 0}), model)
    first.start()
    page = open_page(url=first.url, expected="")
    follow_disc(page)
    first.stop()
    # The second is said once a new connection was tried in vain.
    expect(page.locator("#notices")).to_contain_text(re.compile("Connection lost|server does not answer"))
    seen = see_disc(page, PANEL)
    click_stage(page, PANEL, 0.05, 0.05)
    expect(page.locator("#notices")).to_contain_text("Not connected to the server yet")
    assert seen is not None
    with Server(load_settings(None, {"port": first.port}), model):
        expect(page.locator("#connection")).to_have_text("Connected")
        wait_for_frames(page, PANEL, 0)
        expect(page.locator(f"{PANEL} .object")).to_have_count(1)
        expect(page.locator("#notices")).not_to_contain_text("Connection lost")


def test_a_session_goes_on_after_its_websocket_broke(open_page: OpenPage, page_server: Server) -> None:
    """Nothing is told again: the server knows it all, and the last click can still be taken back."""
    page = open_page()
    said = listen(page)
    follow_disc(page)
    with page.expect_websocket():
        break_websockets(page_server)
    expect(page.locator("#connection")).to_have_text("Connected")
    wait_for_frames(page, PANEL, 10)
    wait_for_mask_on_disc(page, PANEL)
    assert page.locator("#notices").inner_text() == ""
    assert [message["type"] for message in said] == ["start", "prompt", "resume"]
    assert "mask" not in said[1]
    with page.expect_websocket() as opened:
        break_websockets(page_server)
    expect(page.locator("#connection")).to_have_text("Connected")
    drag_stage(page, PANEL, 0.02, 0.55, 0.4, 0.98)
    wait_for_result(opened.value, [1, 2])
    page.keyboard.press("Control+z")
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)
    wait_for_result(opened.value, [1])
    page.keyboard.press("Control+z")
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    assert [message["type"] for message in said][3:] == ["resume", "prompt", "undo", "undo"]


def test_a_refused_camera_is_said_in_words(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#notices")).to_contain_text("The camera is blocked")
    expect(page.get_by_role("button", name="Use the sample clip")).to_be_visible()
