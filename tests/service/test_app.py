"""The HTTP side: the page and its files, health, metrics, information; and who gets in at the handshake."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus
from wire_client import open_wire

import streamseg.service.app as app_module
from streamseg.service.server import Server

TOKEN = "a-long-secret"


def get(
    server: Server, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small web root in place of the real one."""
    root = tmp_path / "web"
    (root / "samples").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html><title>page</title>")
    (root / "main.js").write_text("export {};")
    (root / "module.mjs").write_text("export {};")
    (root / "samples" / "clip.mp4").write_bytes(bytes(range(256)) * 8)
    listed = {
        "images": [{"file": "a cup.jpg", "title": "Cup", "credit": "ours"}],
        "clip": {"file": "clip.mp4", "title": "Clip", "credit": "ours"},
    }
    (root / "samples" / "index.json").write_text(json.dumps(listed))
    (root / ".hidden").write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    monkeypatch.setattr(app_module, "web_root", lambda: root)
    return root


def test_the_page_is_served_with_its_protections(server: Server) -> None:
    status, headers, body = get(server, "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"<!doctype html>" in body.lower()
    assert headers["cache-control"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert f"ws://127.0.0.1:{server.port}" in headers["content-security-policy"]
    assert headers["permissions-policy"].startswith("camera=(self)")
    assert "server" not in headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/main.js", "text/javascript"), ("/module.mjs", "text/javascript"), ("/samples/clip.mp4", "video/mp4")],
)
def test_files_have_their_types(page: Path, make_server: Callable[..., Server], path: str, kind: str) -> None:
    status, headers, _ = get(make_server(), path)
    assert status == 200
    assert headers["content-type"].partition(";")[0] == kind
    assert headers["cache-control"] == "no-cache"


def test_a_part_of_a_clip_can_be_asked_for(page: Path, make_server: Callable[..., Server]) -> None:
    status, headers, body = get(make_server(), "/samples/clip.mp4", {"Range": "bytes=16-31"})
    assert (status, body) == (206, bytes(range(16, 32)))
    assert headers["content-range"] == "bytes 16-31/2048"


def test_an_unchanged_file_is_not_sent_again(page: Path, make_server: Callable[..., Server]) -> None:
    server = make_server()
    etag = get(server, "/main.js")[1]["etag"]
    status, headers, body = get(server, "/main.js", {"If-None-Match": etag})
    assert (status, body, headers["cache-control"]) == (304, b"", "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/samples",
        "/samples/",
        "/nothing.js",
        "/.hidden",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/samples/..%2f..%2foutside.txt",
        "//etc/passwd",
        "/%00",
        "/" + "x" * 5000,
    ],
)
def test_nothing_but_the_files_of_the_page(page: Path, make_server: Callable[..., Server], path: str) -> None:
    status, _, body = get(make_server(), path)
    assert status == 404
    assert str(page).encode() not in body


def test_files_cannot_be_written(server: Server) -> None:
    assert get(server, "/index.html", method="PUT")[0] == 405
    assert get(server, "/v1/info", method="POST")[0] == 405


def test_health_and_readiness(server: Server) -> None:
    assert (get(server, "/healthz")[0], json.loads(get(server, "/healthz")[2])) == (200, {"status": "ok"})
    status, _, body = get(server, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready", "model": "nano"})


def test_a_dead_inference_thread_is_not_ready(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.app.state.service.engine.close()
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/readyz")[0] == 503


def test_metrics_are_readable(server: Server) -> None:
    status, headers, body = get(server, "/metrics")
    names = {one.name for one in text_string_to_metric_families(body.decode())}
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert {
        "streamseg_sessions",
        "streamseg_frames",
        "streamseg_frames_dropped",
        "streamseg_queue_depth",
        "streamseg_errors",
        "streamseg_stage_seconds",
    } <= names


def test_information_for_clients(page: Path, make_server: Callable[..., Server]) -> None:
    info: dict[str, Any] = json.loads(get(make_server(), "/v1/info")[2])
    assert (info["protocol"], info["modes"]) == (1, ["image", "track"])
    assert info["model"]["name"] == "nano"
    assert info["model"]["image_size"] > 0
    assert info["limits"]["max_objects"] == 64
    assert info["samples"] == {
        "images": [{"name": "a cup.jpg", "url": "/samples/a%20cup.jpg", "title": "Cup", "credit": "ours"}],
        "clip": {"name": "clip.mp4", "url": "/samples/clip.mp4", "title": "Clip", "credit": "ours"},
    }


@pytest.mark.parametrize("listed", [None, "{", '{"images": [{}]}', "[]"])
def test_does_without_samples(page: Path, make_server: Callable[..., Server], listed: str | None) -> None:
    index = page / "samples" / "index.json"
    index.unlink()
    if listed is not None:
        index.write_text(listed)
    assert json.loads(get(make_server(), "/v1/info")[2])["samples"] == {"images": [], "clip": None}


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/info", "/metrics"])
def test_other_hosts_are_refused_everywhere(server: Server, path: str) -> None:
    status, _, body = get(server, path, {"Host": "rebound.example"})
    assert (status, json.loads(body)["code"]) == (403, "forbidden_origin")


def test_information_is_not_for_other_pages(server: Server) -> None:
    assert get(server, "/v1/info", {"Origin": "http://evil.example"})[0] == 403
    assert get(server, "/v1/info", {"Origin": server.url})[0] == 200


def test_a_token_guards_all_but_page_and_health(make_server: Callable[..., Server]) -> None:
    server = make_server(token=SecretStr(TOKEN))
    for path in ("/v1/info", "/metrics"):
        status, headers, body = get(server, path)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["code"] == "unauthorized"
        assert get(server, path, {"Authorization": "Bearer wrong"})[0] == 401
        assert get(server, path, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
    for path in ("/", "/healthz", "/readyz"):
        assert get(server, path)[0] == 200


def offered(token: str) -> list[str]:
    return ["streamseg.v1", "streamseg.token." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 401),
        ({"additional_headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"subprotocols": offered("wrong")}, 401),
        ({"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}, 101),
        ({"subprotocols": offered(TOKEN)}, 101),
        ({"subprotocols": list(reversed(offered(TOKEN)))}, 101),
        ({"subprotocols": offered(TOKEN)[1:]}, 400),
        ({"subprotocols": offered(TOKEN), "origin": "http://evil.example"}, 403),
        ({"subprotocols": offered(TOKEN), "origin": "null"}, 403),
        ({"subprotocols": offered(TOKEN), "origin": "https://page.example"}, 101),
    ],
)
def test_the_handshake_lets_in_who_may(
    make_server: Callable[..., Server], options: dict[str, Any], status: int
) -> None:
    server = make_server(token=SecretStr(TOKEN), allowed_origins=["https://page.example"])

    async def go() -> None:
        if status == 101:
            async with open_wire(server, **options) as wire:
                assert wire.socket.subprotocol == "streamseg.v1"
                await wire.segment()
            return
        with pytest.raises(InvalidStatus) as caught:
            async with open_wire(server, **options):
                pass
        assert caught.value.response.status_code == status
        assert TOKEN.encode() not in caught.value.response.body

    asyncio.run(go())


def test_a_refused_handshake_is_no_error_of_the_server(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Anyone may be refused as often as they like: the log must not fill with it."""

    async def go() -> None:
        with pytest.raises(InvalidStatus):
            async with open_wire(server, origin="http://evil.example"):
                pass
        async with open_wire(server) as wire:
            await wire.segment()

    asyncio.run(go())
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize(("host", "status"), [("rebound.example", 403), ("listed.example", 101), ("localhost", 101)])
def test_the_handshake_is_for_this_host(make_server: Callable[..., Server], host: str, status: int) -> None:
    server = make_server(allowed_hosts=["listed.example"])
    handshake = {
        "Host": f"{host}:{server.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert get(server, "/v1/stream", handshake)[0] == status


def test_a_page_of_its_own_is_let_in(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server, origin=server.url) as wire:
            await wire.segment()

    asyncio.run(go())


def test_there_is_one_websocket(server: Server) -> None:
    status, _, _ = get(
        server,
        "/v2/stream",
        {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    assert status in (403, 404)
