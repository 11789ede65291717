"""Which addresses may be opened, judged by what a host turns out to be; and that no address shows its secrets."""

from __future__ import annotations

import ipaddress

import pytest

from streamseg.errors import AddressRefusedError, BadSettingError, StreamUnavailableError
from streamseg.media.addresses import AddressRule, StreamUrl, is_stream_url, redacted, resolve

PUBLIC = "93.184.216.34"


def may(allow: list[str], host: str, address: str, port: int = 554) -> bool:
    try:
        AddressRule(allow).permitted(host, port, [ipaddress.ip_address(address)])
    except AddressRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("allow", "host", "address", "allowed"),
    [
        ([], "camera.example.org", PUBLIC, False),
        (["camera.example.org"], "camera.example.org", PUBLIC, True),
        (["camera.example.org"], "x.camera.example.org", PUBLIC, False),
        (["camera.example.org"], "example.org", PUBLIC, False),
        # A listed name stands for public addresses only, unless the address is listed as well.
        (["camera.lan"], "camera.lan", "192.168.1.7", False),
        (["camera.lan", "192.168.1.0/24"], "camera.lan", "192.168.1.7", True),
        (["192.168.1.0/24"], "any.name", "192.168.1.7", True),
        (["192.168.1.0/24"], "any.name", "192.168.2.7", False),
        (["192.168.1.7"], "192.168.1.7", "192.168.1.7", True),
        (["192.168.1.7"], "192.168.1.8", "192.168.1.8", False),
        (["camera.example.org"], "camera.example.org", "127.0.0.1", False),
        (["camera.example.org"], "camera.example.org", "169.254.169.254", False),
        (["camera.example.org"], "camera.example.org", "0.0.0.0", False),
        (["camera.example.org"], "camera.example.org", "10.1.2.3", False),
        (["camera.example.org"], "camera.example.org", "100.64.0.1", False),
        (["camera.example.org"], "camera.example.org", "224.0.0.1", False),
        (["camera.example.org"], "camera.example.org", "::1", False),
        (["camera.example.org"], "camera.example.org", "fe80::1", False),
        (["camera.example.org"], "camera.example.org", "fd00::1", False),
        (["camera.example.org"], "camera.example.org", "fec0::1", False),
        (["camera.example.org"], "camera.example.org", "2606:2800:220:1::1", True),
        # IPv4 dressed as IPv6, and IPv6 that leads to IPv4.
        (["camera.example.org"], "camera.example.org", "::ffff:127.0.0.1", False),
        (["camera.example.org"], "camera.example.org", f"::ffff:{PUBLIC}", True),
        (["127.0.0.0/8"], "localhost", "::ffff:127.0.0.1", True),
        (["camera.example.org"], "camera.example.org", "64:ff9b::7f00:1", False),
        (["camera.example.org"], "camera.example.org", "2002:7f00:1::1", False),
        # Not even where everything is listed.
        (["0.0.0.0/0"], "any", "224.0.0.1", False),
        (["0.0.0.0/0"], "any", "0.0.0.0", False),
        (["0.0.0.0/0"], "any", "10.0.0.1", True),
    ],
)
def test_the_address_that_a_host_has_decides(allow: list[str], host: str, address: str, allowed: bool) -> None:
    assert may(allow, host, address) is allowed


@pytest.mark.parametrize(
    ("entry", "port", "allowed"),
    [
        ("camera.example.org:554", 554, True),
        ("camera.example.org:554", 22, False),
        ("camera.example.org", 22, True),
        ("Camera.Example.Org", 554, True),
    ],
)
def test_an_entry_with_a_port_is_for_that_port(entry: str, port: int, allowed: bool) -> None:
    assert may([entry], "camera.example.org", PUBLIC, port) is allowed


def test_addresses_have_ports_too() -> None:
    assert may(["192.168.1.7:554"], "x", "192.168.1.7", 554)
    assert not may(["192.168.1.7:554"], "x", "192.168.1.7", 80)
    assert may(["[2001:db8::7]:554"], "x", "2001:db8::7", 554)
    assert not may(["[2001:db8::7]:554"], "x", "2001:db8::7", 80)


def test_of_several_addresses_only_those_that_may_are_left() -> None:
    given = [ipaddress.ip_address(one) for one in ("127.0.0.1", PUBLIC)]
    assert AddressRule(["a.example"]).permitted("a.example", 80, given) == [ipaddress.ip_address(PUBLIC)]


@pytest.mark.parametrize(
    "entry",
    ["", "*.example.org", "rtsp://camera", "camera/path", "user@camera", "192.168.1.7/24", "camera:99999", "camera:x"],
)
def test_an_entry_that_is_none_is_named(entry: str) -> None:
    with pytest.raises(BadSettingError, match="no host name, IP address or network"):
        AddressRule([entry])


@pytest.mark.parametrize("spelling", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"])
def test_however_loopback_is_spelled_it_is_loopback(spelling: str) -> None:
    host = StreamUrl.parse(f"http://{spelling}/").host
    found = resolve(host, 80, 10.0)
    assert all(one.is_loopback for one in found)
    # A name that is listed does not make its address a public one.
    rule = AddressRule(["10.0.0.0/8", *([] if spelling[0].isdigit() else [spelling])])
    with pytest.raises(AddressRefusedError, match="may not be opened"):
        rule.permitted(host, 80, found)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://169.254.169.254/latest",
        "rtsp://camera.example.com/",
        "rtsp://camera.example.org@169.254.169.254/",
        "rtsp://[::1]/",
        "rtsp://camera.example.org:81/",
    ],
)
def test_what_needs_no_look_up_is_refused_at_once(url: str) -> None:
    with pytest.raises(AddressRefusedError, match="may not be opened"):
        AddressRule(["camera.example.org:554"]).check(url)


def test_a_listed_name_passes_the_first_look() -> None:
    AddressRule(["camera.example.org"]).check("rtsp://user:secret@CAMERA.example.org./live")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:a|b",
        "data:video/mp4;base64,AAAA",
        "srt://camera:9000",
        "rtmp://camera/live",
        "ftp://camera/a.mp4",
        "rtsp:camera",
        "rtsp://",
        "rtsp:///path",
        "rtsp://camera:port/",
        "rtsp://camera:70000/",
        "rtsp://[::1/",
        "rtsp://cam era/",
        "rtsp://camera\\@evil/",
        "rtsp://camera/\r\nX: y",
        "rtsp://" + "a" * 3000,
    ],
)
def test_what_is_no_address_of_ours_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        StreamUrl.parse(url)


@pytest.mark.parametrize("url", ["foo", "", "admin:secret@camera/live", "rtsp://[secret", "rtsp://", "secret:554/x"])
def test_what_is_no_address_is_told_what_one_looks_like_and_not_quoted(url: str) -> None:
    with pytest.raises(AddressRefusedError, match=r"^this is no address; .* like rtsp://192\.168\.1\.20/") as caught:
        StreamUrl.parse(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(AddressRefusedError, match=r"^this is no address: it is too long, or has spaces"):
        StreamUrl.parse("foo secret")


def test_srt_gets_a_hint() -> None:
    with pytest.raises(AddressRefusedError, match="MediaMTX"):
        StreamUrl.parse("srt://camera:9000")


def test_the_parts_of_an_address() -> None:
    url = StreamUrl.parse("rtsp://us%40er:p%3Aw@Camera.example.org/live/1?profile=2")
    assert (url.host, url.port, url.credentials) == ("camera.example.org", 554, ("us@er", "p:w"))
    assert (url.target, url.userinfo, url.origin) == (
        "/live/1?profile=2",
        "us%40er:p%3Aw",
        "rtsp://camera.example.org:554",
    )
    assert StreamUrl.parse("http://[2001:DB8::7]:8080/x").origin == "http://[2001:db8::7]:8080"
    assert StreamUrl.parse("http://bücher.example/").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("rtsp://a/b", True), ("HTTP://a", True), ("srt://a", True), ("clip.mp4", False), ("C:/x", False), ("a:b", False)],
)
def test_addresses_are_told_from_paths(text: str, is_one: bool) -> None:
    assert is_stream_url(text) is is_one


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:secret@camera:8554/live", "rtsp://camera:8554/live"),
        ("http://camera/video?token=secret&x=1", "http://camera/video"),
        ("http://camera/video#secret", "http://camera/video"),
        ("rtsp://user:sec/ret@camera/live", "rtsp://..."),
        ("rtsp://user:sec?secret@camera/live", "rtsp://..."),
        ("rtsp://user:sec#secret@camera/live", "rtsp://..."),
        ("rtsp://camera/user=admin&password=secret&channel=1", "rtsp://camera/..."),
        ("rtsp://secret@[::1]:554/a", "rtsp://[::1]:554/a"),
        ("rtsp://[secret", "an unreadable address"),
        ("secret", "an unreadable address"),
        ("rtsp://camera/\x1b[31m", "rtsp://camera/?[31m"),
    ],
)
def test_what_is_shown_of_an_address(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_an_address_shows_itself_without_its_secrets() -> None:
    url = StreamUrl.parse("rtsp://user:secret@camera/live?token=secret")
    assert "secret" not in f"{url!r} {url} {url.shown}"


def test_whether_a_host_exists_that_is_not_listed_is_not_told() -> None:
    with pytest.raises(AddressRefusedError, match="may not be opened"):
        AddressRule(["10.0.0.0/8"]).resolve("nobody.invalid", 554, 30.0)
    with pytest.raises(StreamUnavailableError, match="no such host"):
        AddressRule(["nobody.invalid"]).resolve("nobody.invalid", 554, 30.0)


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(StreamUnavailableError, match=r"nobody\.invalid: there is no such host"):
        resolve("nobody.invalid", 554, 30.0)
