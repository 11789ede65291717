"""A real server, a real Chromium whose camera plays a recording, and pages that must not complain."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import OpenPage, StartServer
from media_made import write_camera_recording
from playwright.sync_api import Browser, Page, expect, sync_playwright

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
# Generous: the machine may be busy. A test that passes waits for what it looks at, and no longer.
PATIENCE_MS = 40_000

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def camera_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camera_recording(tmp_path_factory.mktemp("camera") / "disc.y4m")


@pytest.fixture(scope="session")
def page_server(model: LoadedModel) -> Iterator[Server]:
    """A server that needs no token."""
    with Server(load_settings(None, {"port": 0}), model) as server:
        yield server


# One browser for each module: Playwright's event loop must not be there for tests that run one of their own. A module
# may list BROWSER_ARGUMENTS of its own.
@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest, camera_recording: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: run tests/e2e/install_browser.sh chromium as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=[
                *ARGUMENTS,
                *getattr(request.module, "BROWSER_ARGUMENTS", []),
                f"--use-file-for-fake-video-capture={camera_recording}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def start_server(model: LoadedModel) -> Iterator[StartServer]:
    """Starts a server with settings of its own, which runs until the pages of the test are closed."""
    with contextlib.ExitStack() as servers:
        yield lambda **settings: servers.enter_context(Server(load_settings(None, {"port": 0, **settings}), model))


# The servers are asked for here so that they end after the pages, which may be asking them for something.
@pytest.fixture
def open_page(browser: Browser, page_server: Server, start_server: StartServer) -> Iterator[OpenPage]:
    """Opens the page at ``path``; when the test ends, the page must not have reported an error.

    ``expected``: part of a console error that the test provokes. ``touch``: on a device without mouse and keyboard.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(
        path: str = "/",
        *,
        url: str | None = None,
        expected: str | None = None,
        width: int = 1280,
        height: int = 800,
        touch: bool = False,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, has_touch=touch, is_mobile=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)

        def complain(words: str) -> None:
            if expected is None or expected not in words:
                complaints.append(words)

        page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.goto((url or page_server.url) + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
