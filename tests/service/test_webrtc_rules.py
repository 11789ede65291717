"""Offers that are refused, answers for machines behind NAT, and results in parts: text and bytes, no sockets."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from peer_client import Camera, peer

from streamseg.errors import BadMessageError, TooLargeError
from streamseg.service.protocol.client_messages import Start
from streamseg.service.webrtc_rules import (
    MAX_CANDIDATES,
    MAX_PART_BYTES,
    MAX_PARTS,
    announced,
    check_offer,
    check_start,
    mask_form,
    split,
    without_hidden_candidates,
)


def start(**fields: Any) -> Start:
    return Start.model_validate({"type": "start", "version": 1, "source": "webrtc", **fields})


@pytest.fixture(scope="module")
def offer() -> str:
    async def make() -> str:
        pc = peer()
        pc.addTrack(Camera())
        pc.createDataChannel("any")
        await pc.setLocalDescription(await pc.createOffer())
        sdp = pc.localDescription.sdp
        await pc.close()
        return sdp

    return asyncio.run(make())


def section(offer: str, kind: str) -> str:
    """One section of an offer with its line ends."""
    begin = offer.index(f"m={kind}")
    end = offer.find("m=", begin + 2)
    return offer[begin:] if end < 0 else offer[begin:end]


def test_an_offer_of_a_camera_and_a_channel_is_taken(offer: str) -> None:
    name = next(line for line in offer.splitlines() if line.startswith("a=ice-ufrag:")).partition(":")[2]
    assert check_offer(offer) == name
    # A camera whose results come over the websocket, or a channel alone to begin with.
    for kind in ("video", "application"):
        head = offer[: offer.index("m=")]
        assert check_offer(head + section(offer, kind)) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda sdp: "", "one video"),
        (lambda sdp: "v=0\r\nm=\r\n", "cannot be read"),
        (lambda sdp: sdp.replace("m=video", "m=audio"), "anything else is refused"),
        (lambda sdp: sdp + section(sdp, "video").replace("a=mid:0", "a=mid:7"), "twice"),
        (lambda sdp: sdp + section(sdp, "application").replace("a=mid:1", "a=mid:7"), "twice"),
        (lambda sdp: sdp.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0"), "bundled"),
        (lambda sdp: sdp.replace("a=ice-pwd", "a=ice-nothing"), "password"),
        (lambda sdp: sdp.replace("a=fingerprint", "a=nothing"), "fingerprint"),
        (lambda sdp: sdp.replace("a=rtcp-mux\r\n", ""), "RTCP"),
        (lambda sdp: sdp.replace("a=sctp-port:5000\r\n", ""), "SCTP"),
        (
            lambda sdp: sdp.replace(
                "a=rtcp-mux", "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n" * (2 * MAX_CANDIDATES) + "a=rtcp-mux"
            ),
            "candidates",
        ),
    ],
)
def test_other_offers_are_refused(offer: str, change: Any, said: str) -> None:
    changed = change(offer)
    assert changed != offer
    with pytest.raises(BadMessageError, match=said):
        check_offer(changed)


def test_hidden_addresses_are_passed_over() -> None:
    sdp = (
        "m=video 9 x 97\r\n"
        "a=candidate:1 1 udp 1 0a1b.local 9 typ host\r\n"
        "a=candidate:2 1 udp 1 192.0.2.7 9 typ host\r\n"
        "a=end-of-candidates\r\n"
    )
    assert without_hidden_candidates(sdp) == "m=video 9 x 97\r\na=candidate:2 1 udp 1 192.0.2.7 9 typ host\r\n"


def test_announced_addresses_stand_beside_the_own_ones() -> None:
    sdp = (
        "m=video 9 x 97\r\n"
        "a=candidate:1 1 udp 5 10.0.0.2 4001 typ host\r\n"
        "a=candidate:2 1 udp 5 fd00::2 4002 typ host\r\n"
        "a=candidate:3 1 udp 3 198.51.100.9 4001 typ srflx raddr 10.0.0.2 rport 4001\r\n"
    )
    lines = announced(sdp, ["203.0.113.5", "2001:db8::5"]).splitlines()
    assert lines == [
        "m=video 9 x 97",
        "a=candidate:1a 1 udp 5 203.0.113.5 4001 typ host",
        "a=candidate:1 1 udp 5 10.0.0.2 4001 typ host",
        "a=candidate:2a 1 udp 5 2001:db8::5 4002 typ host",
        "a=candidate:2 1 udp 5 fd00::2 4002 typ host",
        "a=candidate:3 1 udp 3 198.51.100.9 4001 typ srflx raddr 10.0.0.2 rport 4001",
    ]
    assert announced(sdp, []) == sdp


@pytest.mark.parametrize("size", [0, 1, MAX_PART_BYTES - 8, MAX_PART_BYTES - 7, 100_000])
def test_a_result_is_its_parts_in_order(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    parts = split(2**32 + 7, data)
    assert parts is not None
    assert len(parts) == max(1, -(-size // (MAX_PART_BYTES - 8)))
    assert all(len(part) <= MAX_PART_BYTES for part in parts)
    assert [struct.unpack_from(">IHH", part) for part in parts] == [(7, at, len(parts)) for at in range(len(parts))]
    assert b"".join(part[8:] for part in parts) == data


def test_a_result_of_too_many_parts_goes_another_way() -> None:
    assert split(0, bytes(MAX_PARTS * (MAX_PART_BYTES - 8))) is not None
    assert split(0, bytes(MAX_PARTS * (MAX_PART_BYTES - 8) + 1)) is None


def test_masks_are_polygons_unless_said_otherwise() -> None:
    assert mask_form(start()) == "polygons"
    assert mask_form(start(masks="rle")) == "rle"
    assert json.loads(start().model_dump_json())["masks"] == "rle"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"masks": "png"}, BadMessageError),
        ({"window": [0.0, 1.0]}, BadMessageError),
        ({"size_px": [101, 100]}, TooLargeError),
        ({"source": "frames", "size_px": [10, 10]}, BadMessageError),
    ],
)
def test_fields_that_contradict_the_source_are_refused(fields: Any, error: type[Exception]) -> None:
    check_start(start(size_px=[100, 100]), 10_000)
    with pytest.raises(error):
        check_start(start(**fields), 10_000)
