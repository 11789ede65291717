"""The HTTP side of WHIP and WHEP: who may, what is refused and how, and what a browser is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
from whip_client import acall, call, offer_only, playing, publishing
from wire_client import eventually, metric, settings_for_tests

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.service.whip_http import MAX_BODY_BYTES
from streamseg.settings import IceServer, StreamsSettings, WebrtcSettings

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
TOKEN = {"authorization": "Bearer secret"}
PAGE = "https://page.example"


@pytest.fixture(scope="module")
def guarded(model: LoadedModel) -> Iterator[Server]:
    settings = settings_for_tests(
        token="secret",
        allowed_origins=[PAGE],
        webrtc=WebrtcSettings(loopback=True),
        streams=StreamsSettings(keep_s=0.5, cameras={"door": "rtsp://127.0.0.1:1/none"}),
    )
    with Server(settings, model) as running:
        yield running


@pytest.fixture(scope="module")
def offer() -> str:
    return asyncio.run(offer_only())


@pytest.fixture(scope="module")
def player_offer() -> str:
    return asyncio.run(offer_only("recvonly"))


def is_gone(server: Server) -> bool:
    return eventually(lambda: metric(server, "publications") == metric(server, "watchers") == 0, 60)


@pytest.mark.parametrize("role", ["whip", "whep"])
def test_a_token_is_needed_for_everything(guarded: Server, offer: str, role: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        for method, path, content_type in [
            ("POST", f"/v1/{role}/cam", SDP),
            ("PATCH", f"/v1/{role}/cam/0", FRAGMENT),
            ("DELETE", f"/v1/{role}/cam/0", SDP),
        ]:
            reply = call(guarded, method, path, offer, content_type=content_type, **headers)
            assert (reply.status, reply.error) == (401, "unauthorized")
            assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status", "code"),
    [
        ("POST", "/v1/whip/cam", "v=0", "text/plain", 415, "unsupported_media"),
        ("POST", "/v1/whip/cam", "v=0", "", 415, "unsupported_media"),
        ("POST", "/v1/whip/cam", "", SDP, 400, "bad_message"),
        ("POST", "/v1/whip/cam", "hello", SDP, 400, "bad_message"),
        ("POST", "/v1/whip/cam", "a" * (MAX_BODY_BYTES + 1), SDP, 413, "too_large"),
        ("POST", "/v1/whip/~cam", "v=0", SDP, 400, "bad_message"),
        ("POST", "/v1/whip/cam?mode=auto", "OFFER", SDP, 400, "bad_message"),
        ("POST", "/v1/whip/door", "OFFER", SDP, 409, "bad_state"),
        ("POST", "/v1/whep/cam", "OFFER", SDP, 406, "offer_refused"),
        ("POST", "/v1/whip/cam", "PLAYER", SDP, 406, "offer_refused"),
        ("POST", "/v1/whep/cam", "PLAYER", SDP, 404, "not_found"),
        ("POST", "/v1/whep/door", "PLAYER", SDP, 502, "stream_unavailable"),
        ("PATCH", "/v1/whip/cam/0", "", SDP, 415, "unsupported_media"),
        ("PATCH", "/v1/whip/cam/0", "", FRAGMENT, 404, "not_found"),
        ("DELETE", "/v1/whip/cam/0", "", "", 404, "not_found"),
    ],
)
def test_what_cannot_be_is_refused(
    guarded: Server,
    offer: str,
    player_offer: str,
    method: str,
    path: str,
    body: str,
    content_type: str,
    status: int,
    code: str,
) -> None:
    text = {"OFFER": offer, "PLAYER": player_offer}.get(body, body)
    reply = call(guarded, method, path, text, content_type=content_type, **TOKEN)
    assert (reply.status, reply.error) == (status, code), reply
    assert is_gone(guarded)


def test_a_player_that_comes_too_early_hears_when_to_try_again(guarded: Server, player_offer: str) -> None:
    reply = call(guarded, "POST", "/v1/whep/later", player_offer, content_type=SDP, **TOKEN)
    assert (reply.status, reply.headers["Retry-After"]) == (404, "5")


def test_other_methods_are_not_allowed(guarded: Server) -> None:
    assert call(guarded, "GET", "/v1/whip/cam", **TOKEN).status == 405
    assert call(guarded, "PUT", "/v1/whep/cam/0", **TOKEN).status == 405


def test_pages_of_other_origins_are_kept_out(guarded: Server, offer: str) -> None:
    for method in ("OPTIONS", "POST"):
        reply = call(guarded, method, "/v1/whip/cam", offer, content_type=SDP, origin="https://evil.example", **TOKEN)
        assert (reply.status, reply.error) == (403, "forbidden_origin")
        assert "Access-Control-Allow-Origin" not in reply.headers
    reply = call(guarded, "POST", "/v1/whip/cam", offer, content_type=SDP, host="evil.example", **TOKEN)
    assert reply.status == 403


def test_allowed_pages_may_ask_first(guarded: Server) -> None:
    asks = {"origin": PAGE, "access_control_request_method": "POST"}
    reply = call(guarded, "OPTIONS", "/v1/whip/cam", **asks)
    assert reply.status == 204
    assert reply.headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]
    assert reply.headers["Accept-Post"] == SDP
    assert reply.headers["Vary"] == "Origin"
    reply = call(guarded, "OPTIONS", "/v1/whep/cam/0", **asks)
    assert "DELETE" in reply.headers["Access-Control-Allow-Methods"]
    assert reply.headers["Accept-Patch"] == FRAGMENT
    # Without the token a page hears why.
    reply = call(guarded, "POST", "/v1/whip/cam", "", content_type=SDP, origin=PAGE)
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


def test_a_connection_is_answered_trickled_and_ended(guarded: Server, offer: str) -> None:
    name = next(line.partition(":")[2] for line in offer.splitlines() if line.startswith("a=ice-ufrag:"))
    reply = call(guarded, "POST", "/v1/whip/cam", offer, content_type=SDP, origin=PAGE, **TOKEN)
    assert (reply.status, reply.headers["Content-Type"]) == (201, SDP)
    assert "Location" in reply.headers["Access-Control-Expose-Headers"]
    assert "a=candidate:" in reply.body
    assert " 127.0.0.1 " in reply.body
    assert "a=recvonly" in reply.body
    location = reply.headers["Location"]
    assert location.startswith("/v1/whip/cam/")
    assert len(location.rpartition("/")[2]) == 32

    def patch(fragment: str, path: str = location) -> tuple[int, str]:
        reply = call(guarded, "PATCH", path, fragment, content_type=FRAGMENT, **TOKEN)
        return reply.status, reply.body and reply.error

    more = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:9 1 udp 1 127.0.0.1 9 typ host\r\n"
    assert patch(f"a=ice-ufrag:{name}\r\n{more}") == (204, "")
    assert patch(f"a=ice-ufrag:{name}\r\na=candidate:8 1 udp 1 hidden.local 9 typ host\r\n") == (204, "")
    assert patch(f"a=ice-ufrag:{name}\r\na=end-of-candidates\r\n") == (204, "")
    assert patch(f"a=ice-ufrag:other\r\na=ice-pwd:x\r\n{more}") == (422, "patch_refused")
    assert patch("a=candidate:nonsense\r\n") == (400, "bad_message")
    assert patch(more, location.replace("whip", "whep")) == (404, "not_found")
    assert patch(more, location.replace("cam", "other")) == (404, "not_found")
    assert call(guarded, "DELETE", location, **TOKEN).status == 200
    assert call(guarded, "DELETE", location, **TOKEN).status == 404
    assert is_gone(guarded)


def test_the_whole_way_with_a_token(guarded: Server) -> None:
    async def go() -> None:
        async with publishing(guarded, **TOKEN) as publisher, playing(guarded, **TOKEN) as player:
            await player.some(2)
            assert (await acall(guarded, "DELETE", player.location, **TOKEN)).status == 200
            assert (await acall(guarded, "DELETE", publisher, **TOKEN)).status == 200

    asyncio.run(go())
    assert is_gone(guarded)


def test_ice_servers_are_told_to_those_who_may(make_server, offer: str) -> None:
    turn = IceServer(urls=["turn:127.0.0.1:9"], username="u", credential="p")
    server = make_server(webrtc=WebrtcSettings(loopback=True, ice_servers=[turn]))
    assert call(server, "OPTIONS", "/v1/whip/cam").headers["Link"] is None
    reply = call(server, "POST", "/v1/whip/cam", offer, content_type=SDP)
    assert reply.headers["Link"] == (
        '<turn:127.0.0.1:9>; rel="ice-server"; username="u"; credential="p"; credential-type="password"'
    )


def test_a_body_that_does_not_come_is_not_waited_for(make_server: Callable[..., Server]) -> None:
    server = make_server({"handshake_timeout_s": 0.5})
    with socket.create_connection(("127.0.0.1", server.port), 30) as one:
        head = f"POST /v1/whip/cam HTTP/1.1\r\nHost: localhost\r\nContent-Type: {SDP}\r\nContent-Length: 900\r\n\r\nv=0"
        one.sendall(head.encode())
        answer = one.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ")
        # And the connection ends with it.
        while one.recv(65536):
            pass


def test_a_body_that_breaks_off_is_no_fault_of_the_server(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    with socket.create_connection(("127.0.0.1", server.port), 30) as one:
        head = f"POST /v1/whip/cam HTTP/1.1\r\nHost: localhost\r\nContent-Type: {SDP}\r\nContent-Length: 900\r\n\r\nv=0"
        one.sendall(head.encode())
    assert eventually(lambda: metric(server, "errors_total", code="bad_message") == 1, 60)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_without_webrtc_it_is_said(make_server, offer: str) -> None:
    server = make_server(webrtc=WebrtcSettings(enabled=False))
    reply = call(server, "POST", "/v1/whip/cam", offer, content_type=SDP)
    assert (reply.status, reply.error) == (503, "webrtc_failed")
    assert "webrtc.enabled" in reply.body
