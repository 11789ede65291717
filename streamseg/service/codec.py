"""Texts and bytes of the websocket to messages and back; everything that a client sends passes through here.

What cannot be read raises an error whose one line says what was wrong, with the request id where it can be found.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from streamseg.errors import BadMessageError, TooLargeError, UnsupportedVersionError
from streamseg.service.protocol import VERSION
from streamseg.service.protocol.client_messages import (
    CLIENT_TEXT,
    MAX_REQUEST_ID_CHARS,
    ChunkHeader,
    ChunkMessage,
    ClientText,
    FrameHeader,
    FrameMessage,
)
from streamseg.service.protocol.fields import Message
from streamseg.service.protocol.server_messages import ServerHeader, ServerText

# A text message holds prompts; the longest that is meant is the RLE of a ragged mask of a large picture.
MAX_TEXT_CHARS = 2**20
MAX_HEADER_BYTES = 2**14
# Reading takes time by the values, which commas part, not by the characters: a mask of a megabyte is one value.
MAX_COMMAS = 2**16
COMMAS_OF_A_MESSAGE = 2**8

_HEADER_LENGTH = struct.Struct(">I")

M = TypeVar("M", bound=Message)


def cost_of(data: str | bytes) -> float:
    """How much work reading a message is, in those of usual length."""
    if isinstance(data, str):
        commas = data[:MAX_TEXT_CHARS].count(",")
    else:
        commas = data.count(b",", 0, _HEADER_LENGTH.size + MAX_HEADER_BYTES)
    return max(1.0, commas / COMMAS_OF_A_MESSAGE)


def parse_text(text: str) -> ClientText:
    """The message in ``text``; raises BadMessageError, UnsupportedVersionError or TooLargeError."""
    if len(text) > MAX_TEXT_CHARS:
        raise TooLargeError(f"a text message of {len(text)} characters; at most {MAX_TEXT_CHARS} are taken")
    if (commas := text.count(",")) > MAX_COMMAS:
        raise TooLargeError(f"a text message of {commas} values; at most {MAX_COMMAS} are taken")
    fields = _json_object(text)
    kind = _type_of(fields)
    if kind == "frame":
        raise _bad(fields, "a frame is a binary message: header length, header, image file")
    if kind == "chunk":
        raise _bad(fields, "a chunk is a binary message: header length, header, piece of the file")
    if kind not in CLIENT_TEXT:
        raise _bad(fields, f"unknown type {_short(kind)}; a text message is one of {', '.join(CLIENT_TEXT)}")
    version = fields.get("version")
    # Asked first: a later version may well have fields that this one does not know.
    speaks = isinstance(version, int) and not isinstance(version, bool)
    if kind in ("start", "resume") and speaks and version != VERSION:
        raise UnsupportedVersionError(
            f"protocol version {_short(version)} is not spoken here; this server speaks version {VERSION}",
            request_id=_request_id(fields),
        )
    return _validated(CLIENT_TEXT[kind], kind, fields)


def parse_binary(data: bytes) -> FrameMessage | ChunkMessage:
    """The picture or piece of a file in a binary message; raises BadMessageError."""
    form = "a binary message is a 4-byte big-endian header length, a JSON header and the payload"
    if len(data) < _HEADER_LENGTH.size:
        raise BadMessageError(f"{len(data)} bytes are too few: {form}")
    (length,) = _HEADER_LENGTH.unpack_from(data)
    start = _HEADER_LENGTH.size
    if length > MAX_HEADER_BYTES:
        raise BadMessageError(f"the header length {length} is over {MAX_HEADER_BYTES}: {form}")
    if start + length > len(data):
        raise BadMessageError(f"the header length {length} is more than the message holds: {form}")
    try:
        text = data[start : start + length].decode("utf-8")
    except UnicodeDecodeError:
        raise BadMessageError(f"the header is not UTF-8: {form}") from None
    fields = _json_object(text)
    kind = _type_of(fields)
    payload = data[start + length :]
    match kind:
        case "frame":
            return FrameMessage(_validated(FrameHeader, kind, fields), payload)
        case "chunk":
            return ChunkMessage(_validated(ChunkHeader, kind, fields), payload)
        case _:
            raise _bad(fields, f"unknown type {_short(kind)}; a binary message of a client is a frame or a chunk")


def encode_text(message: ServerText) -> str:
    """The JSON of a message."""
    return message.model_dump_json()


def encode_binary(header: ServerHeader | FrameHeader | ChunkHeader, payload: bytes) -> bytes:
    """A binary message."""
    text = header.model_dump_json(exclude_none=True).encode()
    return b"".join((_HEADER_LENGTH.pack(len(text)), text, payload))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is given twice")
    return fields


def _json_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise BadMessageError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadMessageError(f"this is no JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        # Among them numbers of thousands of digits, which Python refuses to convert.
        reason = str(error) if len(str(error)) <= 60 else "a number is too long"
        raise BadMessageError(f"this is no JSON: {reason}") from None
    if not isinstance(fields, dict):
        raise BadMessageError('a message is a JSON object with a "type"')
    return fields


def _type_of(fields: dict[str, Any]) -> str:
    kind = fields.get("type")
    if not isinstance(kind, str):
        raise _bad(fields, 'a message is a JSON object with a "type"')
    return kind


def _request_id(fields: dict[str, Any]) -> str | None:
    """The request id of a message that is not valid otherwise, if it can be quoted."""
    value = fields.get("request_id")
    if isinstance(value, str) and len(value) <= MAX_REQUEST_ID_CHARS and value.isprintable():
        return value
    return None


def _bad(fields: dict[str, Any], message: str) -> BadMessageError:
    return BadMessageError(message, request_id=_request_id(fields))


def _validated(model: type[M], kind: str, fields: dict[str, Any]) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _bad(fields, f"{kind}: {_in_words(first)}") from None


def _in_words(error: Any) -> str:
    """One line for one of pydantic's findings."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if not where.isprintable() or len(where) > 60:
        # The name of an unknown field is the client's own; it must not break the line.
        where = _short(where)
    if where.startswith("timestamp_ms"):
        return "timestamp_ms must be a number that a double can hold"
    context = error.get("ctx", {})
    got = f", not {_short(error['input'])}"
    match error["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where} is no field of this message"
        case "float_type":
            return f"{where} must be a number{got}"
        case "int_type":
            return (
                f"{where} must be a whole number{got}" if "timestamp_ms" not in where else f"{where} must be a number"
            )
        case "finite_number":
            return f"{where} must be a finite number"
        case "bool_type":
            return f"{where} must be true or false{got}"
        case "string_type" | "string_unicode":
            return f"{where} must be text{got}"
        case "list_type":
            return f"{where} must be a list{got}"
        case "model_type" | "model_attributes_type":
            return f"{where} must be an object{got}"
        case "literal_error":
            return f"{where} must be {context['expected']}{got}"
        case "greater_than_equal":
            return f"{where} must be at least {context['ge']}{got}"
        case "greater_than":
            return f"{where} must be more than {context['gt']}{got}"
        case "less_than_equal":
            return f"{where} must be at most {context['le']}{got}"
        case "too_long":
            return f"{where} must have at most {context['max_length']} entries"
        case "too_short":
            return f"{where} must have at least {context['min_length']} entries"
        case "string_too_long":
            return f"{where} must have at most {context['max_length']} characters"
        case _:
            return f"{where}: {error['msg']}"


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."
