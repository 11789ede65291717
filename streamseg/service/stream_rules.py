"""What a session may ask of a stream that it shares with others. No I/O."""

from __future__ import annotations

import re

from streamseg.errors import BadMessageError
from streamseg.service.protocol.client_messages import SHARED_SOURCES, Start
from streamseg.settings import STREAM_NAME

# What was decided by whoever opened the stream.
_FIXED = ("mode", "carry", "multimask", "score_threshold", "refine", "limits")


def check_name(name: str) -> str:
    """The name, if it is one; raises BadMessageError."""
    if not re.fullmatch(STREAM_NAME, name):
        raise BadMessageError("the name of a stream is 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', the first no sign")
    return name


def check_start(start: Start) -> None:
    """Raise what is wrong with the fields of ``start`` that say something about shared streams, or contradict one."""
    if start.source not in SHARED_SOURCES:
        for field in ("url", "picture"):
            if field in start.model_fields_set:
                raise BadMessageError(f'{field} is for the sources "stream" and "url"')
        return
    if start.window is not None:
        raise BadMessageError("window is for pictures of more than 8 bits, which no camera sends")
    if start.name is not None:
        check_name(start.name)
    if start.source == "url":
        if start.url is None:
            raise BadMessageError("url is missing: the address of the stream")
        return
    if start.url is not None:
        raise BadMessageError('url is for the source "url"; a stream has a name')
    if start.name is None:
        raise BadMessageError("name is missing: the stream to look at")
    given = [field for field in _FIXED if field in start.model_fields_set]
    if given:
        raise BadMessageError(f"{given[0]} was decided when the stream was opened")
