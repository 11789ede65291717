"""docs/streams.md says what the code does, where that can be compared."""

from __future__ import annotations

from pathlib import Path

from streamseg.service.whip_http import MAX_BODY_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text("utf-8")


def test_the_length_of_an_offer_is_the_one_in_use() -> None:
    assert f"{MAX_BODY_BYTES // 1024} KiB at most" in PAGE
