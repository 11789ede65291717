"""What a camera may say to FFmpeg: RTSP in one reading, and no way to another address."""

from __future__ import annotations

import pytest

from streamseg.errors import StreamUnavailableError
from streamseg.media.rtsp_relay import MAX_HEADER_BYTES, ReplyFilter

DATA = b"$\x00\x00\x0c" + bytes(range(12))
REPLY = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nv=0\n"


def test_replies_and_data_pass_whichever_way_they_are_cut() -> None:
    whole = REPLY + DATA + DATA + b"RTSP/1.0 404 Not Found\r\nCSeq: 2\r\n\r\n" + DATA
    for step in (1, 3, 7, len(whole)):
        replies = ReplyFilter()
        passed = b"".join(replies.feed(whole[at : at + step]) for at in range(0, len(whole), step))
        assert passed == whole
        assert replies.status == 404


def test_requests_of_the_server_pass() -> None:
    request = b"OPTIONS rtsp://camera/ RTSP/1.0\r\nCSeq: 7\r\n\r\n"
    assert ReplyFilter().feed(request) == request


def test_line_ends_become_those_of_the_standard() -> None:
    assert ReplyFilter().feed(b"\r\nRTSP/1.0 200 OK\nCSeq: 1\n\n") == b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303", b"399 X"])
def test_redirects_end_the_connection(status: bytes) -> None:
    with pytest.raises(StreamUnavailableError, match="redirects"):
        ReplyFilter().feed(b"RTSP/1.0 " + status + b"\r\nLocation: rtsp://169.254.169.254/\r\n\r\n")


@pytest.mark.parametrize("name", [b"Location", b"location", b" LOCATION", b"\tLocation"])
def test_no_other_address_passes(name: bytes) -> None:
    passed = ReplyFilter().feed(b"RTSP/1.0 200 OK\r\n" + name + b": rtsp://169.254.169.254/\r\nCSeq: 1\r\n\r\n")
    assert passed == b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"


def test_data_too_short_to_be_a_packet_is_left_out() -> None:
    assert ReplyFilter().feed(b"$\x00\x00\x07Locatio" + DATA) == DATA


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n$\x00\x00\x04abcd\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nA: b\0c\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nA: b\rc\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -4\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        b"x" * (MAX_HEADER_BYTES + 1),
    ],
)
def test_what_could_be_read_in_two_ways_ends_the_connection(bad: bytes) -> None:
    with pytest.raises(StreamUnavailableError):
        ReplyFilter().feed(bad)
