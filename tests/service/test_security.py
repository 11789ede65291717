"""Who may use the service, and where it may listen."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from streamseg.errors import BadSettingError, ForbiddenOriginError, UnauthorizedError
from streamseg.service.security import Guard, check_bind, content_policy, is_loopback
from streamseg.settings import Settings


def guard(**fields: object) -> Guard:
    return Guard(Settings(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_knows_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_will_not_listen_to_strangers_without_a_token(host: str) -> None:
    with pytest.raises(BadSettingError, match="STREAMSEG_TOKEN") as caught:
        check_bind(Settings(host=host))
    assert "\n" not in caught.value.message
    check_bind(Settings(host=host, token=SecretStr("secret")))
    check_bind(Settings(host=host, insecure=True))


def test_an_empty_token_is_none() -> None:
    with pytest.raises(BadSettingError, match="empty"):
        check_bind(Settings(token=SecretStr("")))


@pytest.mark.parametrize("token", ["tök", " blank", "line\nbreak", "\N{PILE OF POO}"])
def test_a_token_that_a_browser_cannot_send_is_refused(token: str) -> None:
    with pytest.raises(BadSettingError, match="characters") as caught:
        check_bind(Settings(token=SecretStr(token)))
    assert token not in caught.value.message
    check_bind(Settings(token=SecretStr("aZ09-. _~+/=!")))


def test_listens_on_loopback_without_a_token() -> None:
    check_bind(Settings())


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "localhost:1", "[::1]:8000", "127.9.9.9"])
def test_takes_loopback_hosts(host: str) -> None:
    guard().check_host(Headers({"host": host}))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.0.7", "", "a b", "x:y", "[::1"]
)
def test_refuses_other_hosts(host: str) -> None:
    with pytest.raises(ForbiddenOriginError):
        guard().check_host(Headers({"host": host}))


def test_refuses_a_request_without_a_host_or_with_two() -> None:
    with pytest.raises(ForbiddenOriginError):
        guard().check_host(Headers({}))
    with pytest.raises(ForbiddenOriginError):
        guard().check_host(Headers(raw=[(b"host", b"localhost"), (b"host", b"localhost")]))


def test_takes_the_host_that_it_was_bound_to_and_listed_ones() -> None:
    own = guard(host="seg.example", allowed_hosts=["Other.example", "third.example:8000"], insecure=True)
    for host in ("seg.example:8000", "SEG.example", "other.example", "third.example"):
        own.check_host(Headers({"host": host}))


def test_everywhere_means_every_address_but_no_unknown_name() -> None:
    own = guard(host="0.0.0.0", insecure=True)
    own.check_host(Headers({"host": "192.168.0.7:8000"}))
    with pytest.raises(ForbiddenOriginError):
        own.check_host(Headers({"host": "rebound.example"}))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://seg.example", "seg.example"),
        ("http://seg.example", "seg.example:80"),
        ("https://page.example", "127.0.0.1:8000"),
        ("https://page.example:443", "127.0.0.1:8000"),
    ],
)
def test_takes_its_own_pages_and_listed_ones(origin: str, host: str) -> None:
    guard(allowed_origins=["https://page.example"]).check_origin(Headers({"host": host, "origin": origin}))


def test_a_program_sends_no_origin() -> None:
    guard().check_origin(Headers({"host": "127.0.0.1:8000"}))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
        "https://127.0.0.1",
        "file://",
        "chrome-extension://abc",
        "http://127.0.0.1:8000/path",
        "http://127.0.0.1:99999",
        "http://page.example",
        "https://page.example.evil.example",
    ],
)
def test_refuses_other_pages(origin: str) -> None:
    with pytest.raises(ForbiddenOriginError):
        guard(allowed_origins=["https://page.example"]).check_origin(
            Headers({"host": "127.0.0.1:8000", "origin": origin})
        )


SECRET = "s3cret ✓"


def offer(token: str | bytes) -> list[str]:
    data = token.encode() if isinstance(token, str) else token
    return ["streamseg.v1", "streamseg.token." + base64.urlsafe_b64encode(data).decode().rstrip("=")]


def bearer(token: str) -> Headers:
    return Headers(raw=[(b"authorization", b"Bearer " + token.encode())])


def test_takes_the_token_from_the_header_or_the_subprotocol() -> None:
    own = guard(token=SecretStr(SECRET))
    own.check_token(bearer(SECRET))
    own.check_token(Headers({}), offer(SECRET))


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        (Headers({}), []),
        (Headers({}), ["streamseg.v1"]),
        (bearer("s3cret"), []),
        (bearer(""), []),
        (Headers({"authorization": "Basic s3cret"}), []),
        (Headers({"authorization": SECRET.encode().decode("latin-1")}), []),
        (Headers({}), offer("wrong")),
        (Headers({}), offer("")),
        (Headers({}), ["streamseg.token.%%%"]),
        (Headers({}), ["streamseg.token.a"]),
        (bearer("wrong"), offer(SECRET)),
    ],
)
def test_refuses_a_missing_or_wrong_token(headers: Headers, subprotocols: list[str]) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        guard(token=SecretStr(SECRET)).check_token(headers, subprotocols)
    assert "s3cret" not in caught.value.message


def test_needs_no_token_where_none_is_set() -> None:
    guard().check_token(Headers({}))


def test_the_page_may_talk_to_its_own_server_only() -> None:
    policy = content_policy("127.0.0.1:8000")
    assert "connect-src 'self' ws://127.0.0.1:8000 wss://127.0.0.1:8000 blob: data:" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy
