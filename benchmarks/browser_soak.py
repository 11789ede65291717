"""Follows an object in a real Chromium whose camera plays a clip, and tells how it went.

    python benchmarks/browser_soak.py --seconds 20 --clip clip.mp4 --click 0.14,0.52 --screenshot soak.png
    python benchmarks/browser_soak.py --seconds 600 --transport webrtc --min-work-ms 500

For each minute: masks a second, the delay from the camera's picture to its mask on the screen as the page knows it,
the longest pause, and the memory of the server (a process of its own) and of the browser (all of its processes, and
the page's JavaScript heap after a collection). Exit status 1 if the stream stood still for longer than ``--patience``
or the page complained.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from footprint import rss_mib
from playwright.sync_api import CDPSession, Page, sync_playwright

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
    # WebRTC takes no 127.0.0.1 by itself.
    "--allow-loopback-in-peer-connection",
]

# Notes when every result is drawn, and how long after its picture was taken (ms).
WATCH = """() => {
    const stage = document.querySelector("#panel-live .stage");
    window.drawn = [];
    new MutationObserver(() => window.drawn.push([performance.now(), Number(stage.dataset.delayMs)]))
        .observe(stage, {attributes: true, attributeFilter: ["data-index"]});
}"""
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute: when results were drawn, and their delays (ms); memory at its end."""

    drawn_ms: list[float]
    delays_ms: list[float]
    server_mib: float
    browser_mib: float
    heap_mib: float

    def row(self, number: int, seconds: float) -> str:
        p50, p95 = np.quantile(self.delays_ms, (0.5, 0.95)) if self.delays_ms else (np.nan, np.nan)
        pauses_ms = [later - earlier for earlier, later in itertools.pairwise(self.drawn_ms)]
        return (
            f"{number:6d} {len(self.drawn_ms) / seconds:8.1f} {p50:8.0f} {p95:8.0f} {max(pauses_ms, default=0):9.0f}"
            f" {self.server_mib:11.1f} {self.browser_mib:12.1f} {self.heap_mib:9.1f}"
        )


HEADINGS = "minute  masks/s   p50 ms   p95 ms  pause ms  server MiB  browser MiB  heap MiB"


@contextlib.contextmanager
def serving(model: str, min_work_ms: float) -> Iterator[tuple[str, int]]:
    """``streamseg serve`` in a process of its own; its address and process id."""
    environment = os.environ | {
        "STREAMSEG_WEBRTC__LOOPBACK": "true",
        "STREAMSEG_MODEL__MIN_WORK_MS": str(min_work_ms),
    }
    command = [sys.executable, "-m", "streamseg", "serve", "--port", "0", "--model", model]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = next(line for line in server.stdout if "http" in line)
            yield re.findall(r"http://[0-9.:]+", said)[0], server.pid
        finally:
            server.send_signal(signal.SIGINT)


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


def browser_mib(profile: Path) -> float:
    """Memory of all processes of the browser, which name its profile."""
    pids = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    total = 0.0
    for pid in pids:
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            if str(profile).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                total += rss_mib(pid)
    return total


def heap_mib(page: Page, devtools: CDPSession) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    return float(page.evaluate("performance.memory.usedJSHeapSize")) / 2**20


def begin(page: Page, click: tuple[float, float], transport: str) -> None:
    """Start the camera over ``transport`` and click an object."""
    page.evaluate("(transport) => localStorage.setItem('streamseg.transport', transport)", transport)
    page.reload()
    page.get_by_role("button", name="Use the camera").click()
    stage = page.locator(f"{PANEL} .stage")
    stage.wait_for()
    page.wait_for_function("() => document.querySelector('#connection').dataset.state === 'ready'")
    if transport == "webrtc":
        way = "() => document.querySelector('#panel-live [data-part=way]').textContent === 'WebRTC'"
        page.wait_for_function(way)
    page.evaluate(WATCH)
    box = stage.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + click[0] * box["width"], box["y"] + click[1] * box["height"])
    page.wait_for_function("() => drawn.length > 0")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--click", default="0.5,0.5", help="x,y in shares of the picture")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--transport", choices=["websocket", "webrtc"], default="websocket")
    parser.add_argument("--min-work-ms", type=float, default=0.0, help="as if the model took so long for a frame")
    parser.add_argument("--patience", type=float, default=5.0, help="longest pause between two results, in seconds")
    parser.add_argument("--screenshot", type=Path)
    options = parser.parse_args()
    x, y = (float(part) for part in options.click.split(","))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("Chromium is not installed: run tests/e2e/install_browser.sh chromium as root")
        return 1
    complaints: list[str] = []
    drawn_ms: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        serving(options.model, options.min_work_ms) as (url, server_pid),
        sync_playwright() as playwright,
    ):
        camera = camera_file(options.clip, Path(folder))
        profile = Path(folder) / "profile"
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium,
            args=[*ARGUMENTS, f"--use-file-for-fake-video-capture={camera}"],
            viewport={"width": 1280, "height": 800},
        )
        page = context.pages[0]
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(url)
        begin(page, (x, y), options.transport)
        devtools = context.new_cdp_session(page)
        print(HEADINGS)
        left_s, number = options.seconds, 0
        while left_s > 0:
            seconds, number = min(MINUTE_S, left_s), number + 1
            page.wait_for_timeout(1e3 * seconds)
            taken = page.evaluate("window.drawn.splice(0)")
            minute = Minute(
                [at for at, _ in taken],
                [delay for _, delay in taken if delay is not None],
                rss_mib(server_pid),
                browser_mib(profile),
                heap_mib(page, devtools),
            )
            print(minute.row(number, seconds), flush=True)
            drawn_ms += minute.drawn_ms
            left_s -= seconds
        if options.screenshot:
            page.screenshot(path=options.screenshot)
        seen = " ".join(page.locator(f"{PANEL} .side").inner_text().split())
        context.close()
    longest_s = max((b - a for a, b in itertools.pairwise(drawn_ms)), default=1e3 * options.seconds) / 1e3
    print(f"{len(drawn_ms)} results in {options.seconds:g} s, longest pause {longest_s:.2f} s; the page says: {seen}")
    for complaint in complaints:
        print(f"the page complained: {complaint}")
    return 1 if complaints or longest_s > options.patience else 0


if __name__ == "__main__":
    sys.exit(main())
