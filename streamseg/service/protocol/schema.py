"""The JSON Schema of all messages, as it stands in ``docs/protocol.schema.json``."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from streamseg.service.protocol.client_messages import CLIENT_TEXT, ChunkHeader, FrameHeader
from streamseg.service.protocol.fields import Message
from streamseg.service.protocol.server_messages import (
    Answer,
    Done,
    Failure,
    MaskHeader,
    Ok,
    OverlayHeader,
    PictureHeader,
    Progress,
    Ready,
    Received,
    Result,
    Resumed,
    SourceChanged,
)


def schema() -> dict[str, Any]:
    """The JSON Schema of all messages, grouped by direction and kind."""
    groups: dict[str, tuple[type[Message], ...]] = {
        "ClientText": tuple(CLIENT_TEXT.values()),
        "ClientBinaryHeader": (FrameHeader, ChunkHeader),
        "ServerText": (Ready, Resumed, Answer, Ok, SourceChanged, Received, Progress, Result, Done, Failure),
        "ServerBinaryHeader": (MaskHeader, PictureHeader, OverlayHeader),
    }
    models = [(model, "validation") for group in groups.values() for model in group]
    _, definitions = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    defs = definitions["$defs"]
    for name, group in groups.items():
        defs[name] = {"oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in group]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamseg wire protocol, version 1",
        "description": "Text messages and the JSON headers of binary messages; see protocol.md.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in groups],
        "$defs": dict(sorted(defs.items())),
    }


def schema_text() -> str:
    """The contents of ``docs/protocol.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
