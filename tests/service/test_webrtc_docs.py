"""docs/webrtc.md says what the code does, where that can be compared."""

from __future__ import annotations

from pathlib import Path

from streamseg.service.webrtc_peer import MAX_BUFFERED_BYTES, MAX_ECHO_CHARS
from streamseg.service.webrtc_rules import CHANNEL_LABEL, MAX_PART_BYTES, MAX_PARTS

PAGE = (Path(__file__).parents[2] / "docs" / "webrtc.md").read_text("utf-8")


def test_the_numbers_of_the_channel_are_the_ones_in_use() -> None:
    assert f"Label `{CHANNEL_LABEL}`" in PAGE
    assert f"at most {MAX_PART_BYTES:,} bytes" in PAGE
    assert f"`parts` is from 1 to {MAX_PARTS}" in PAGE
    assert f"more than {MAX_BUFFERED_BYTES // 1024} KiB wait" in PAGE
    assert f"at most {MAX_ECHO_CHARS} characters is sent back" in PAGE
