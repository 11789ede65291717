"""A page of another origin publishes its camera and watches the stream, with the code that docs/streams.md shows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.settings import load_settings

# Chromium takes no 127.0.0.1 for WebRTC by itself.
BROWSER_ARGUMENTS = ["--allow-loopback-in-peer-connection"]
DOCS = Path(__file__).parents[2] / "docs" / "streams.md"
TOKEN = "secret"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        blocks = re.findall(r"```js\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
        code = re.sub(r"^const stop = .*$", "", "".join(blocks), flags=re.MULTILINE)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<video muted autoplay playsinline></video><script>{code}</script>".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def serve(model: LoadedModel, *origins: str) -> Server:
    flags = {"port": 0, "token": TOKEN, "webrtc": {"loopback": True}, "allowed_origins": list(origins)}
    return Server(load_settings(None, flags), model)


def test_a_page_publishes_and_watches(model: LoadedModel, browser: Browser, page_url: str) -> None:
    with serve(model, page_url) as server:
        page = browser.new_page()
        page.goto(page_url)
        shown = page.evaluate(
            """async ([server, token]) => {
                const video = document.querySelector("video");
                // With sound, as a page would that asks for a microphone too.
                const media = await navigator.mediaDevices.getUserMedia({video: true, audio: true});
                window.endPublishing = await publish(`${server}/v1/whip/page`, token, media);
                for (let tries = 0; ; tries++) {
                    try {
                        window.endWatching = await watch(`${server}/v1/whep/page`, token, video);
                        break;
                    } catch (error) {
                        if (tries === 20) throw error;
                        await new Promise((go) => setTimeout(go, 500));
                    }
                }
                while (!(video.currentTime > 0.2)) await new Promise((go) => setTimeout(go, 50));
                return [video.videoWidth > 0, media.getTracks().length];
            }""",
            [server.url, TOKEN],
        )
        assert shown == [True, 2]
        page.evaluate("async () => { await endWatching(); await endPublishing(); }")
        page.close()


def test_a_page_hears_why_it_is_refused(model: LoadedModel, browser: Browser, page_url: str) -> None:
    watching = """async ([server, token]) =>
        watch(`${server}/v1/whep/none`, token, document.querySelector("video")).then(() => "", String)"""
    with serve(model, page_url) as server, serve(model) as strict:
        page = browser.new_page()
        page.goto(page_url)
        assert "there is no stream of the name none" in page.evaluate(watching, [server.url, TOKEN])
        assert "the token is wrong" in page.evaluate(watching, [server.url, "other"])
        # A server that does not know this page tells it nothing.
        assert "Failed to fetch" in page.evaluate(watching, [strict.url, TOKEN])
        page.close()
