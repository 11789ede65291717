from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamseg.errors import BadPromptError, BadStateError, NotFoundError
from streamseg.service.file_prompts import FilePrompts, first_difference
from streamseg.service.protocol.client_messages import PromptRequest, Remove, Reset, Undo
from streamseg.settings import Limits

UNDO = Undo(type="undo")


def prompt(object_id: int, x: float = 5.0, **fields: Any) -> PromptRequest:
    return PromptRequest(type="prompt", object_id=object_id, points_xy_px=[[x, 5.0]], labels=[1], **fields)


def after(*edits: PromptRequest | Remove | Reset | Undo, **limits: int) -> FilePrompts:
    prompts = FilePrompts(Limits(**limits))

    async def carry_out() -> None:
        for edit in edits:
            await prompts.change(edit)

    asyncio.run(carry_out())
    return prompts


def test_prompts_are_kept_in_their_order_until_they_are_taken_back() -> None:
    first, second, third = prompt(1), prompt(2), prompt(1, 7.0)
    assert after(first, second, third).said == (first, second, third)
    assert after(first, second, third, UNDO).said == (first, second)
    assert after(first, second, third, Remove(type="remove", object_id=1)).said == (second,)
    assert after(first, second, Reset(type="reset")).said == ()


def test_replace_takes_the_place_of_all_that_was_said_of_the_object() -> None:
    first, other, again = prompt(1), prompt(2), prompt(1, 9.0, replace=True)
    assert after(first, other, prompt(1, 7.0), again).said == (other, again)


def test_where_nothing_is_left_there_is_an_error() -> None:
    with pytest.raises(BadStateError, match="no prompt left"):
        after(prompt(1), UNDO, UNDO)
    with pytest.raises(NotFoundError, match=r"no object 3; the objects are \[1, 2\]"):
        after(prompt(1), prompt(2), Remove(type="remove", object_id=3))


def test_what_is_refused_changes_nothing() -> None:
    prompts = after(*[prompt(1, float(x)) for x in range(4)], max_objects=1)
    said = prompts.said
    for refused, reason in ((prompt(2), "1 objects already"), (prompt(1), "4 prompts already")):
        with pytest.raises(BadPromptError, match=reason):
            asyncio.run(prompts.add(refused))
        assert prompts.said == said
    asyncio.run(prompts.add(prompt(1, replace=True)))
    assert len(prompts.said) == 1


def test_prompts_are_placed_by_frame_or_time() -> None:
    placed = after(prompt(1, frame=4), prompt(2, time_s=1.5), prompt(3)).placed(lambda times: dict.fromkeys(times, 45))
    assert [(one.object_id, one.frame) for one in placed] == [(1, 4), (2, 45), (3, 0)]


def test_masks_change_from_the_frame_on_of_which_something_is_said() -> None:
    assert first_difference(prompt(1, frame=7), ()) == 7
    assert first_difference(UNDO, (prompt(1), prompt(1, frame=9))) == 9
    assert first_difference(prompt(1, frame=7, replace=True), ()) == 0
    assert first_difference(Remove(type="remove", object_id=1), (prompt(1, frame=9),)) == 0
