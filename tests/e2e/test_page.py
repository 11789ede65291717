"""The page as a whole: it loads clean, fits a phone, works by keyboard, and asks for a token."""

from __future__ import annotations

import re

import pytest
from looking import OpenPage, StartServer
from playwright.sync_api import expect

TOKEN = "correct horse"


def test_the_page_names_model_and_reason_and_complains_about_nothing(open_page: OpenPage) -> None:
    """Console errors and policy violations fail every test of this folder; here nothing else happens."""
    page = open_page()
    footer = page.locator("#model")
    expect(footer).to_contain_text("nano")
    expect(footer).to_contain_text("research use only")
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()
    expect(page.get_by_role("button", name="Use the sample clip")).to_be_visible()


def test_everything_comes_from_the_server_itself(open_page: OpenPage) -> None:
    """No font, script or picture is taken from elsewhere."""
    page = open_page()
    expect(page.locator("#model")).to_contain_text("nano")
    addresses = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
    assert set(addresses) == {page.evaluate("location.origin")}


@pytest.mark.parametrize("tab", ["live", "image", "video"])
def test_a_narrow_phone_needs_no_scrolling_to_the_side(open_page: OpenPage, tab: str) -> None:
    page = open_page(f"/#tab={tab}", width=360, height=640)
    expect(page.locator("#model")).to_contain_text("nano")
    if tab in ("live", "video"):
        page.locator(f"#panel-{tab}").get_by_role("button", name="Use the sample clip").click()
    else:
        page.locator("#panel-image .samples button").first.click()
    expect(page.locator(f"#panel-{tab} .stage")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_tabs_are_walked_with_arrow_keys(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Live").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Image")).to_be_focused()
    expect(page.get_by_role("heading", name="Cut an object out of a picture")).to_be_visible()


def test_a_wrong_token_is_said_and_the_right_one_is_remembered(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server(token=TOKEN)
    page = open_page(url=server.url, expected="401")
    form = page.locator("#token")
    expect(form).to_contain_text("asks for a token")
    form.get_by_label("Token").fill("wrong")
    form.get_by_role("button").click()
    expect(form).to_contain_text("not accepted")
    form.get_by_label("Token").fill(TOKEN)
    form.get_by_role("button").click()
    expect(form).to_be_hidden()
    page.get_by_role("button", name="Use the sample clip").click()
    expect(page.locator("#connection")).to_have_text("Connected")
    page.reload()
    expect(page.locator("#model")).to_contain_text("nano")
    expect(form).to_be_hidden()


def test_a_link_may_carry_the_token_and_does_not_keep_it(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server(token=TOKEN)
    page = open_page(f"/#token={TOKEN.replace(' ', '%20')}", url=server.url)
    expect(page.locator("#model")).to_contain_text("nano")
    expect(page).to_have_url(re.compile(r"^[^#]*$"))
