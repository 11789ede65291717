"""The messages and their published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from streamseg.errors import BadPromptError, OverloadedError
from streamseg.segmentation.masks import MaskRegion
from streamseg.service.codec import encode_text
from streamseg.service.protocol.client_messages import PromptFields
from streamseg.service.protocol.fields import Rle
from streamseg.service.protocol.schema import schema, schema_text
from streamseg.service.protocol.server_messages import Done, Failure, ObjectFields

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "protocol.schema.json"


def validator(group: str) -> jsonschema.Draft202012Validator:
    whole = schema()
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{group}", "$defs": whole["$defs"]})


def test_the_published_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), "run: make schema"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"type": "start", "version": 1, "source": "image"}, True),
        ({"type": "prompt", "object_id": 1, "box_xyxy_px": [1, 2, 3, 4]}, True),
        ({"type": "stop", "request_id": "a"}, True),
        ({"type": "start", "source": "image"}, False),
        ({"type": "prompt", "object_id": 1, "box_xyxy_px": [1, 2, 3]}, False),
        ({"type": "stop", "x": 1}, False),
        ({"version": 1, "source": "image"}, False),
    ],
)
def test_the_schema_tells_good_messages_from_bad_ones(fields: dict[str, Any], good: bool) -> None:
    assert validator("ClientText").is_valid(fields) is good


def test_leaves_out_what_there_is_nothing_to_say_about() -> None:
    assert json.loads(encode_text(Done(type="done", frames=1, dropped=0))) == {
        "type": "done",
        "frames": 1,
        "dropped": 0,
    }


def test_says_that_a_lost_object_has_no_box() -> None:
    lost = ObjectFields(object_id=1, state="lost", score=0.1, area_px=0, box_xyxy_px=None)
    assert json.loads(lost.model_dump_json()) == {
        "object_id": 1,
        "state": "lost",
        "score": 0.1,
        "area_px": 0,
        "box_xyxy_px": None,
    }


def test_an_error_carries_its_code_and_when_to_come_back() -> None:
    failure = Failure.of(OverloadedError("full"), request_id="r", index=3)
    fields = json.loads(encode_text(failure))
    assert fields == {
        "type": "error",
        "code": "overloaded",
        "message": "full",
        "request_id": "r",
        "index": 3,
        "retry_after_s": 1.0,
    }
    validator("ServerText").validate(fields)


def test_a_prompt_is_made_on_the_newest_frame_unless_it_names_another() -> None:
    point = {"object_id": 1, "points_xy_px": [[1, 2]], "labels": [1]}
    assert PromptFields(**point).to_prompt(7, 100).frame == 7
    assert PromptFields(**point, frame=5).to_prompt(7, 100).frame == 5


def test_a_mask_prompt_is_unpacked() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    rle = Rle(**MaskRegion.from_mask(mask).to_rle())
    prompt = PromptFields(object_id=1, mask=rle).to_prompt(0, 24)
    assert prompt.mask is not None
    assert (prompt.mask == mask).all()


def test_a_mask_larger_than_any_frame_is_refused_before_it_is_unpacked() -> None:
    bomb = Rle(size=[60_000, 60_000], counts="0")
    with pytest.raises(BadPromptError, match="larger than any frame"):
        PromptFields(object_id=1, mask=bomb).to_prompt(0, 50_000_000)


@pytest.mark.parametrize("counts", ["", "x", "\x00", "é", "PPPP", "0" * 100])
def test_a_damaged_mask_is_refused(counts: str) -> None:
    with pytest.raises(BadPromptError):
        PromptFields(object_id=1, mask=Rle(size=[4, 4], counts=counts)).to_prompt(0, 24)
