"""What a person sees on the stage, read from its canvases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from playwright.sync_api import Page, WebSocket

from streamseg.service.server import Server

OpenPage = Callable[..., Page]
"""The fixture ``open_page``: (path, url=, expected=, width=, height=) -> the page."""

StartServer = Callable[..., Server]
"""The fixture ``start_server``: settings by their names -> the server."""

# The orange disc's centre in the picture, in shares of its size, and the overlay's opacity there. Picture and overlay
# are drawn together, so both are of the same frame.
_LOOK = """(panel) => {
    const picture = document.querySelector(`${panel} .picture`);
    const overlay = document.querySelector(`${panel} .overlay`);
    const {width, height} = picture;
    const {data} = picture.getContext("2d").getImageData(0, 0, width, height);
    let count = 0, sumX = 0, sumY = 0;
    for (let y = 0; y < height; y += 2) for (let x = 0; x < width; x += 2) {
        const at = 4 * (y * width + x);
        if (data[at] > 170 && data[at + 2] < 90) { count++; sumX += x; sumY += y; }
    }
    if (!count) return null;
    const [x, y] = [sumX / count / width, sumY / count / height];
    const alpha = (shareX, shareY) => overlay.getContext("2d").getImageData(
        Math.floor(shareX * overlay.width), Math.floor(shareY * overlay.height), 1, 1).data[3];
    return {x, y, onDisc: alpha(x, y), inCorner: alpha(0.02, 0.98)};
}"""

_OFFSET = """([panel, width]) => {
    const picture = document.querySelector(`${panel} .picture`);
    const overlay = document.querySelector(`${panel} .overlay`);
    const middle = (canvas, y, isIn) => {
        const {data} = canvas.getContext("2d").getImageData(0, y, canvas.width, 1);
        let sum = 0, count = 0;
        for (let x = 0; x < canvas.width; x++) if (isIn(data, 4 * x)) { sum += x + 0.5; count++; }
        return count ? sum / count / canvas.width : NaN;
    };
    const isOrange = (data, at) => data[at] > 170 && data[at + 2] < 90;
    const all = picture.getContext("2d").getImageData(0, 0, picture.width, picture.height);
    let sum = 0, count = 0;
    for (let at = 0; at < all.data.length; at += 4) {
        if (isOrange(all.data, at)) { sum += Math.floor(at / 4 / picture.width); count++; }
    }
    const share = sum / count / picture.height;
    const disc = middle(picture, Math.floor(share * picture.height), isOrange);
    const mask = middle(overlay, Math.floor(share * overlay.height), (data, at) => data[at + 3] > 40);
    return {x: disc * width, offset: (mask - disc) * width};
}"""


class AnyPage(Protocol):
    """What is needed of a page to look at its stage: Playwright's and Firefox's have it."""

    @property
    def mouse(self) -> Any: ...

    @property
    def keyboard(self) -> Any: ...

    def evaluate(self, expression: str, arg: Any = None) -> Any: ...

    def wait_for_function(self, expression: str, *, arg: Any = None) -> Any: ...

    def locator(self, selector: str) -> Any: ...


def see_disc(page: AnyPage, panel: str) -> dict[str, float] | None:
    """x, y of the disc (shares of the picture), opacity of the overlay on it and in the lower left corner."""
    seen: dict[str, float] | None = page.evaluate(_LOOK, panel)
    return seen


def see_offset(page: AnyPage, panel: str, width_px: int) -> dict[str, float]:
    """``offset`` of the mask's middle from the disc's, along the line through the disc's centre, which is at ``x``.

    In pixels of the camera's picture, which is ``width_px`` wide.
    """
    seen: dict[str, float] = page.evaluate(_OFFSET, [panel, width_px])
    return seen


def wait_for_disc(page: AnyPage, panel: str) -> dict[str, float]:
    """The same, once the stage shows the disc."""
    page.wait_for_function(f"(panel) => ({_LOOK})(panel) !== null", arg=panel)
    seen = see_disc(page, panel)
    assert seen is not None
    return seen


def wait_for_mask_on_disc(page: AnyPage, panel: str) -> dict[str, float]:
    """The same, once the disc is tinted."""
    page.wait_for_function(f"(panel) => (({_LOOK})(panel)?.onDisc ?? 0) > 40", arg=panel)
    seen = see_disc(page, panel)
    assert seen is not None
    return seen


def _stage_box(page: AnyPage, panel: str) -> dict[str, float]:
    """Where the picture is, once all of it can be clicked: the mouse does not scroll by itself."""
    stage = page.locator(f"{panel} .stage")
    stage.evaluate("(stage) => stage.scrollIntoView({block: 'center'})")
    box: dict[str, float] | None = stage.bounding_box()
    assert box is not None
    return box


def click_stage(page: AnyPage, panel: str, x: float, y: float, button: str = "left", shift: bool = False) -> None:
    """Click the picture at shares of its size."""
    box = _stage_box(page, panel)
    if shift:
        page.keyboard.down("Shift")
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"], button=button)
    if shift:
        page.keyboard.up("Shift")


def drag_stage(page: AnyPage, panel: str, x1: float, y1: float, x2: float, y2: float) -> None:
    """Drag a box over the picture, in shares of its size."""
    box = _stage_box(page, panel)
    page.mouse.move(box["x"] + x1 * box["width"], box["y"] + y1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + x2 * box["width"], box["y"] + y2 * box["height"], steps=4)
    page.mouse.up()


def wait_for_frames(page: AnyPage, panel: str, more: int) -> None:
    """Until the stage has shown results of frames at least ``more`` later than the present one."""
    now = int(page.locator(f"{panel} .stage").get_attribute("data-index") or 0)
    page.wait_for_function(
        "([panel, index]) => Number(document.querySelector(`${panel} .stage`).dataset.index ?? 0) >= index",
        arg=[panel, now + more],
    )


def listen(page: Page) -> list[dict[str, Any]]:
    """The texts that the page sends from now on, over every connection that it opens."""
    said: list[dict[str, Any]] = []

    def hear(data: str | bytes) -> None:
        if isinstance(data, str):
            said.append(json.loads(data))

    page.on("websocket", lambda socket: socket.on("framesent", hear))
    return said


def wait_for_result(socket: WebSocket, object_ids: list[int]) -> None:
    """Until a result names exactly these objects."""

    def names_them(data: str | bytes) -> bool:
        message = json.loads(data) if isinstance(data, str) else {}
        return message.get("type") == "result" and [one["object_id"] for one in message["objects"]] == object_ids

    socket.wait_for_event("framereceived", names_them)


def break_websockets(server: Server) -> None:
    """End every websocket as a failing network does: without a goodbye."""
    for protocol in list(server._uvicorn.server_state.connections):
        if hasattr(protocol, "conn"):
            protocol.loop.call_soon_threadsafe(protocol.transport.abort)
