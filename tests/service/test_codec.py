"""What a client sends is read strictly; what is wrong with it is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from wire_client import pack

from streamseg.errors import BadMessageError, StreamsegError, TooLargeError, UnsupportedVersionError
from streamseg.service.codec import (
    COMMAS_OF_A_MESSAGE,
    MAX_COMMAS,
    MAX_HEADER_BYTES,
    MAX_TEXT_CHARS,
    cost_of,
    encode_binary,
    parse_binary,
    parse_text,
)
from streamseg.service.protocol.client_messages import FrameHeader, PromptRequest, Start

START = {"type": "start", "version": 1, "source": "image"}
PROMPT = {"type": "prompt", "object_id": 1}


def test_reads_a_start_and_fills_in_the_defaults() -> None:
    start = parse_text(json.dumps(START))
    assert isinstance(start, Start)
    assert (start.mode, start.masks, start.overlay_quality, start.carry, start.keep) == (
        "image",
        "rle",
        85,
        True,
        False,
    )


def test_takes_whole_numbers_as_coordinates() -> None:
    prompt = parse_text(json.dumps(PROMPT | {"points_xy_px": [[1, 2.5]], "labels": [1]}))
    assert isinstance(prompt, PromptRequest)
    assert prompt.points_xy_px == [[1.0, 2.5]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no JSON"),
        ("hello", "no JSON"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ("{}", '"type"'),
        ('{"type": 7}', '"type"'),
        ('{"type": "dance"}', 'unknown type "dance"'),
        ('{"type": "frame"}', "binary message"),
        ('{"type": "stop", "type": "reset"}', "given twice"),
        ('{"type": "stop", "request_id": NaN}', "NaN is no JSON number"),
        ('{"type": "stop", "request_id": Infinity}', "Infinity"),
        ("[" * 100_000, "nested too deeply"),
        ('{"type": "remove", "object_id": ' + "9" * 5000 + "}", "too long"),
        ('{"type": "remove", "object_id": ' + "9" * 400 + "}", "object_id must be"),
    ],
)
def test_refuses_what_is_no_message(text: str, part: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_text(text)
    assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"type": "remove"}, "remove: object_id is missing"),
        ({"type": "remove", "object_id": True}, "object_id must be a whole number, not true"),
        ({"type": "remove", "object_id": 1.0}, "object_id must be a whole number"),
        ({"type": "remove", "object_id": "1"}, 'object_id must be a whole number, not "1"'),
        ({"type": "remove", "object_id": -1}, "at least 0"),
        ({"type": "remove", "object_id": 2**31}, "at most 2147483647"),
        ({"type": "reset", "x": 1}, "x is no field of this message"),
        ({"type": "reset", "a\nb": 1}, '"a\\nb" is no field'),
        ({"type": "reset", "x" * 500: 1}, "is no field"),
        ({"type": "reset", "request_id": "r" * 65}, "at most 64 characters"),
        ({"type": "reset", "request_id": "\ud800"}, "request_id must be text"),
        (PROMPT | {"points_xy_px": [[1, True]]}, "points_xy_px[0][1] must be a number, not true"),
        (PROMPT | {"points_xy_px": [[1, "2"]]}, "points_xy_px[0][1] must be a number"),
        (PROMPT | {"points_xy_px": [[1, 2, 3]]}, "at most 2 entries"),
        (PROMPT | {"points_xy_px": [[1]]}, "at least 2 entries"),
        (PROMPT | {"points_xy_px": "12"}, "must be a list"),
        (PROMPT | {"points_xy_px": [[0, 0]] * 5000}, "at most 4096 entries"),
        (PROMPT | {"labels": [1.5]}, "labels[0] must be a whole number"),
        (PROMPT | {"box_xyxy_px": [1, 2, 3]}, "at least 4 entries"),
        (PROMPT | {"mask": {"size": [2, 2]}}, "mask.counts is missing"),
        (PROMPT | {"mask": "x"}, "mask must be an object"),
        (PROMPT | {"replace": 1}, "replace must be true or false"),
        ({"type": "start", "source": "image"}, "version is missing"),
        (START | {"version": True}, "version must be a whole number"),
        (
            START | {"source": "tape"},
            "source must be 'image', 'frames', 'file', 'webrtc', 'stream' or 'url', not \"tape\"",
        ),
        (START | {"mode": "auto"}, "mode must be 'image' or 'track'"),
        (START | {"masks": "gif"}, "masks must be"),
        (START | {"overlay_quality": 0}, "at least 1"),
        (START | {"score_threshold": 1.5}, "at most 1"),
        (START | {"refine": {"close_px": 1000}}, "refine.close_px must be at most 64"),
        (START | {"limits": {"max_sessions": 1}}, "limits.max_sessions is no field"),
        (START | {"limits": {"max_objects": 0}}, "at least 1"),
        (START | {"window": [1]}, "at least 2 entries"),
        (START | {"prompts": [{"object_id": 1}] * 1025}, "at most 1024 entries"),
        (START | {"prompts": [{"object_id": 1, "type": "prompt"}]}, "prompts[0].type is no field"),
    ],
)
def test_refuses_fields_that_do_not_fit(fields: dict[str, object], part: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_text(json.dumps(fields))
    assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_refuses_numbers_beyond_all_bounds(number: str) -> None:
    with pytest.raises(BadMessageError, match="finite"):
        parse_text('{"type": "prompt", "object_id": 1, "points_xy_px": [[' + number + ", 1]]}")


def test_quotes_the_request_id_of_a_message_that_is_wrong_otherwise() -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_text('{"type": "remove", "request_id": "r7"}')
    assert caught.value.request_id == "r7"


def test_names_another_version_even_if_it_has_unknown_fields() -> None:
    with pytest.raises(UnsupportedVersionError, match="version 1") as caught:
        parse_text(json.dumps({"type": "start", "version": 2, "source": "hologram", "depth": 3, "request_id": "r"}))
    assert caught.value.request_id == "r"


def test_refuses_texts_without_end() -> None:
    with pytest.raises(TooLargeError):
        parse_text(" " * (MAX_TEXT_CHARS + 1))


def test_reads_a_frame() -> None:
    frame = parse_binary(pack({"type": "frame", "index": 3, "time_s": 1, "timestamp_ms": 12}, b"payload"))
    assert frame.payload == b"payload"
    assert (frame.header.index, frame.header.time_s, frame.header.timestamp_ms) == (3, 1.0, 12)


@pytest.mark.parametrize("timestamp_ms", [12, 12.5, -1, 1_700_000_000_000])
def test_keeps_a_timestamp_as_it_is(timestamp_ms: float) -> None:
    frame = parse_binary(pack({"type": "frame", "timestamp_ms": timestamp_ms}, b""))
    assert json.dumps(frame.header.timestamp_ms) == json.dumps(timestamp_ms)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "0 bytes are too few"),
        (b"\x00\x00\x00", "3 bytes are too few"),
        (b"\x00\x00\x00\x05{}", "more than the message holds"),
        ((MAX_HEADER_BYTES + 1).to_bytes(4, "big") + b"{}", "is over"),
        (b"\xff\xff\xff\xff", "is over"),
        (b"\x00\x00\x00\x02\xff\xfe", "not UTF-8"),
        (b"\x00\x00\x00\x00", "no JSON"),
        (b"\x00\x00\x00\x02[]", "JSON object"),
        (pack({"type": "mask"}, b""), "a binary message of a client is a frame"),
        (pack({"type": "frame", "index": -1}, b""), "at least 0"),
        (pack({"type": "frame", "timestamp_ms": "now"}, b""), "timestamp_ms must be a number"),
        (pack({"type": "frame", "size": 1}, b""), "size is no field"),
        (b"\xff\xd8\xff\xe0 a bare JPEG", "is over"),
    ],
)
def test_refuses_binary_messages_that_are_no_frames(data: bytes, part: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_binary(data)
    assert part in caught.value.message
    assert len(caught.value.message) < 250


def test_reads_what_it_wrote() -> None:
    header = FrameHeader(type="frame", index=4, request_id="é")
    frame = parse_binary(encode_binary(header, b"\x00\x01"))
    assert (frame.header, frame.payload) == (header, b"\x00\x01")


def test_survives_any_damage_to_a_message() -> None:
    """Every byte of a good message changed in several ways: read, or refused by name, never anything else."""
    good = json.dumps(START | {"prompts": [{"object_id": 1, "points_xy_px": [[1, 2]], "labels": [1]}]})
    binary = pack({"type": "frame", "index": 3}, b"xy")
    for at in range(len(good)):
        for other in ("", '"', "{", "]", "9", "\\", "\x00", "e"):
            assert "\n" not in _complaint(parse_text, good[:at] + other + good[at + 1 :])
    for at in range(len(binary)):
        for byte in (0, 34, 127, 255):
            assert "\n" not in _complaint(parse_binary, binary[:at] + bytes([byte]) + binary[at + 1 :])


def _complaint(parse: Callable[[Any], object], data: str | bytes) -> str:
    try:
        parse(data)
    except StreamsegError as error:
        return error.message
    return ""


def test_a_text_of_too_many_values_is_not_read() -> None:
    text = json.dumps(START | {"x": [1] * (MAX_COMMAS + 1)})
    assert len(text) < MAX_TEXT_CHARS
    with pytest.raises(TooLargeError, match="values"):
        parse_text(text)


def test_messages_cost_by_their_values_and_not_by_their_length() -> None:
    mask = {"size": [4000, 4000], "counts": "a" * 900_000}
    assert cost_of(json.dumps(PROMPT | {"mask": mask})) == 1
    points = {"points_xy_px": [[1, 2]] * 64, "labels": [1] * 64}
    assert cost_of(json.dumps(PROMPT | points)) == 1
    assert cost_of(json.dumps({"x": [1] * 10 * COMMAS_OF_A_MESSAGE})) == pytest.approx(10, abs=0.1)
    # Bytes of a picture are no values.
    assert cost_of(pack({"type": "frame"}, b"," * 10**6)) < 65
    assert cost_of(pack({"type": "frame"}, bytes(range(256)) * 4000)) == 1
