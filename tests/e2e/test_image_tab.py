"""The tab Image in a real browser, against a real server, with the embedded model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from looking import OpenPage, click_stage, drag_stage, see_disc, wait_for_disc, wait_for_mask_on_disc
from media_made import disc_picture, encoded
from PIL import Image
from playwright.sync_api import Page, expect

PANEL = "#panel-image"
DISC = disc_picture(900, 600, 360, 280, 130)


def choose(page: Page, name: str, content: bytes) -> None:
    page.locator(f"{PANEL} [data-part=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def click_disc(page: Page) -> None:
    expect(page.get_by_text("Click the object you want")).to_be_visible()
    disc = wait_for_disc(page, PANEL)
    click_stage(page, PANEL, disc["x"], disc["y"])
    wait_for_mask_on_disc(page, PANEL)


def download(page: Page, name: str) -> bytes:
    with page.expect_download() as started:
        page.get_by_role("button", name=name).click()
    return Path(started.value.path()).read_bytes()


def test_a_clicked_object_is_masked_and_every_download_has_the_pictures_size(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    choose(page, "disc.jpg", encoded(DISC, "JPEG"))
    click_disc(page)
    mask = Image.open(io.BytesIO(download(page, "Save the mask of Object 1")))
    assert mask.mode == "L"
    assert mask.size == (900, 600)
    pixels = np.asarray(mask)
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels[280, 360] == 255
    assert pixels[20, 20] == 0
    cut_out = np.asarray(Image.open(io.BytesIO(download(page, "Cut-out"))))
    assert cut_out.shape == (600, 900, 4)
    assert np.array_equal(cut_out[..., 3], pixels)
    overlay = np.asarray(Image.open(io.BytesIO(download(page, "With masks"))).convert("RGB"))
    assert overlay.shape == (600, 900, 3)
    line = json.loads(download(page, "All masks"))
    assert (line["width"], line["height"]) == (900, 600)
    assert line["objects"][0]["rle"]["size"] == [600, 900]
    assert line["objects"][0]["area_px"] == int((pixels == 255).sum())


def test_a_photo_stored_sideways_is_shown_and_masked_upright(open_page: OpenPage) -> None:
    """EXIF orientation 6: the stored pixels are turned by a quarter before anyone sees them."""
    page = open_page("/#tab=image")
    choose(page, "phone.jpg", encoded(np.rot90(DISC, 1).copy(), "JPEG", exif_orientation=6))
    click_disc(page)
    pixels = np.asarray(Image.open(io.BytesIO(download(page, "Save the mask of Object 1"))))
    assert pixels.shape == (600, 900)
    assert pixels[280, 360] == 255


def test_a_picture_that_the_browser_cannot_show_is_shown_by_the_server(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    choose(page, "scan.tif", encoded(DISC, "TIFF"))
    click_disc(page)
    assert Image.open(io.BytesIO(download(page, "Save the mask of Object 1"))).size == (900, 600)


def test_excluding_and_undoing_change_the_same_object(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    choose(page, "disc.png", encoded(DISC, "PNG"))
    click_disc(page)
    results = page.locator(f"{PANEL} .stage")
    expect(results).to_have_attribute("data-results", "2")
    click_stage(page, PANEL, 0.9, 0.9, button="right")
    expect(results).to_have_attribute("data-results", "3")
    click_stage(page, PANEL, 0.9, 0.1, shift=True)
    expect(results).to_have_attribute("data-results", "4")
    expect(page.locator(f"{PANEL} .object")).to_have_count(1)
    for number in ("5", "6"):
        page.get_by_role("button", name="Undo").click()
        expect(results).to_have_attribute("data-results", number)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)
    seen = see_disc(page, PANEL)
    assert seen is not None
    assert seen["onDisc"] == 0


def test_a_box_and_a_click_make_two_objects_and_clear_removes_both(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    choose(page, "disc.jpg", encoded(DISC, "JPEG"))
    disc = wait_for_disc(page, PANEL)
    expect(page.get_by_text("Click the object you want")).to_be_visible()
    drag_stage(page, PANEL, disc["x"] - 0.17, disc["y"] - 0.24, disc["x"] + 0.17, disc["y"] + 0.24)
    wait_for_mask_on_disc(page, PANEL)
    click_stage(page, PANEL, 0.95, 0.05)
    expect(page.locator(f"{PANEL} .object")).to_have_count(2)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(f"{PANEL} .object")).to_have_count(0)


def test_the_keyboard_alone_is_enough(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    choose(page, "disc.jpg", encoded(disc_picture(900, 600, 450, 300, 130), "JPEG"))
    expect(page.get_by_text("Click the object you want")).to_be_visible()
    page.locator(f"{PANEL} .stage").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    wait_for_mask_on_disc(page, PANEL)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"Dear diary, this is no picture.\n", "This file cannot be used"), (b"", "This file is empty")],
    ids=["text", "empty"],
)
def test_a_file_that_is_no_picture_is_refused_in_words_and_the_next_one_works(
    open_page: OpenPage, content: bytes, words: str
) -> None:
    page = open_page("/#tab=image")
    choose(page, "notes.txt", content)
    expect(page.locator("#notices")).to_contain_text(words)
    expect(page.get_by_role("heading", name="Cut an object out of a picture")).to_be_visible()
    choose(page, "disc.jpg", encoded(DISC, "JPEG"))
    click_disc(page)
    expect(page.locator("#notices")).not_to_contain_text(words)


def test_a_sample_is_one_click_away(open_page: OpenPage) -> None:
    page = open_page("/#tab=image")
    page.locator(f"{PANEL} .samples button").first.click()
    expect(page.get_by_text("Click the object you want")).to_be_visible()
    click_stage(page, PANEL, 0.5, 0.5)
    expect(page.locator(f"{PANEL} .object")).to_have_attribute("data-state", "tracked")


def test_a_picture_is_still_there_after_a_visit_to_the_other_tab(open_page: OpenPage) -> None:
    """Its session was given back meanwhile; the next click opens a new one with the same objects."""
    page = open_page("/#tab=image")
    choose(page, "disc.jpg", encoded(DISC, "JPEG"))
    click_disc(page)
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("tab", name="Image").click()
    wait_for_mask_on_disc(page, PANEL)
    click_stage(page, PANEL, 0.9, 0.9)
    expect(page.locator(f"{PANEL} .object[data-state=waiting]")).to_have_count(0)
    expect(page.locator(f"{PANEL} .object")).to_have_count(2)
    wait_for_mask_on_disc(page, PANEL)
