"""docs/streams.md says what the code does, where that can be compared."""

from __future__ import annotations

import json
from pathlib import Path

from streamseg.service.whip_http import MAX_BODY_BYTES
from streamseg.settings import StreamsSettings

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text("utf-8")


def test_the_table_lists_every_setting() -> None:
    defaults = json.loads(StreamsSettings().model_dump_json())
    for name, field in StreamsSettings.model_fields.items():
        assert f"| `{name}` | `{json.dumps(defaults[name])}` | {field.description} |" in PAGE


def test_the_length_of_an_offer_is_the_one_in_use() -> None:
    assert f"{MAX_BODY_BYTES // 1024} KiB at most" in PAGE
