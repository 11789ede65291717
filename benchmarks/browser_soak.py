"""Follows an object in a real Chromium whose camera plays a clip, and tells how it went.

    python benchmarks/browser_soak.py --seconds 20 --clip clip.mp4 --click 0.14,0.52 --screenshot soak.png

Results, rate, delay, and the longest pause between two results, as the page itself saw them. Exit status 1 if the
stream stood still for longer than ``--patience`` or the page complained.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from playwright.sync_api import Page, sync_playwright

from streamseg.models.build import load_model
from streamseg.service.server import Server
from streamseg.settings import load_settings

SAMPLE = Path(__file__).parent.parent / "clients" / "web" / "samples" / "clip.mp4"
PANEL = "#panel-live"
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

# Notes the time of every result that is drawn.
WATCH = """() => {
    const stage = document.querySelector("#panel-live .stage");
    window.drawn = [];
    new MutationObserver(() => window.drawn.push(performance.now()))
        .observe(stage, {attributes: true, attributeFilter: ["data-index"]});
}"""


def camera_file(clip: Path, folder: Path) -> Path:
    """The clip as Motion JPEG, which Chromium plays as its camera in a loop."""
    path = folder / "camera.mjpeg"
    with av.open(clip) as source, av.open(path, "w", format="mjpeg") as target:
        video = source.streams.video[0]
        stream: Any = target.add_stream("mjpeg", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuvj420p"
        stream.options = {"qscale": "3", "color_range": "pc"}
        stream.codec_context.color_range = av.video.reformatter.ColorRange.JPEG
        for frame in source.decode(video):
            target.mux(stream.encode(frame.reformat(format="yuvj420p", dst_color_range="JPEG")))
        target.mux(stream.encode())
    return path


def soak(page: Page, seconds: float, click: tuple[float, float]) -> list[float]:
    """Start the camera, click, wait; the times (ms) at which results were drawn."""
    page.get_by_role("button", name="Use the camera").click()
    stage = page.locator(f"{PANEL} .stage")
    stage.wait_for()
    page.wait_for_function("() => document.querySelector('#connection').dataset.state === 'ready'")
    page.evaluate(WATCH)
    box = stage.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + click[0] * box["width"], box["y"] + click[1] * box["height"])
    page.wait_for_function("() => drawn.length > 0")
    page.wait_for_function("(seconds) => performance.now() - drawn[0] > 1000 * seconds", arg=seconds, timeout=0)
    drawn: list[float] = page.evaluate("drawn")
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--click", default="0.5,0.5", help="x,y in shares of the picture")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--patience", type=float, default=5.0, help="longest pause between two results, in seconds")
    parser.add_argument("--screenshot", type=Path)
    options = parser.parse_args()
    x, y = (float(part) for part in options.click.split(","))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("Chromium is not installed: run tests/e2e/install_chromium.sh as root")
        return 1
    complaints: list[str] = []
    model = load_model(options.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(load_settings(None, {"port": 0}), model) as server,
        sync_playwright() as playwright,
    ):
        camera = camera_file(options.clip, Path(folder))
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*ARGUMENTS, f"--use-file-for-fake-video-capture={camera}"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(server.url)
        drawn = soak(page, options.seconds, (x, y))
        if options.screenshot:
            page.screenshot(path=options.screenshot)
        seen = " ".join(page.locator(f"{PANEL} .side").inner_text().split())
        browser.close()
    pauses_ms = [later - earlier for earlier, later in itertools.pairwise(drawn)]
    longest_s = max(pauses_ms, default=1e3 * options.seconds) / 1e3
    print(f"{len(drawn)} results in {options.seconds:g} s, longest pause {longest_s:.2f} s; the page says: {seen}")
    for complaint in complaints:
        print(f"the page complained: {complaint}")
    return 1 if complaints or longest_s > options.patience else 0


if __name__ == "__main__":
    sys.exit(main())
