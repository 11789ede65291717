"""What is said about the objects of a stream of frames, carried out on its pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from streamseg.errors import TooLargeError
from streamseg.service.protocol.client_messages import PromptFields, PromptRequest, Remove, Undo

if TYPE_CHECKING:
    from streamseg.pipeline import Pipeline
    from streamseg.service.effects import Edit


async def carry_out(
    pipeline: Pipeline,
    edit: Edit,
    newest_frame: int,
    max_pixels: int,
    *,
    live: bool,
    tag: str | None,
    author: Hashable = None,
) -> None:
    """Carry out a prompt, an undo, a removal or a reset; see ``say`` for its arguments."""
    match edit:
        case PromptRequest():
            await say(pipeline, edit, newest_frame, max_pixels, live=live, tag=tag, author=author)
        case Remove(object_id=object_id):
            pipeline.remove(object_id)
        case Undo():
            pipeline.undo(author)
        case _:
            pipeline.reset()


async def say(
    pipeline: Pipeline,
    fields: PromptFields,
    newest_frame: int,
    max_pixels: int,
    *,
    live: bool,
    tag: str | None,
    author: Hashable = None,
) -> None:
    """Say something about an object; raises BadPromptError and ObjectTakenError.

    ``newest_frame``: index that a prompt without one is made on; with ``live`` it is meant for the next frame instead.
    ``max_pixels``: most that a mask may unpack to. ``tag``: names the prompt should it be rejected later.
    ``author``: who says it, where several share the objects.
    """

    def add() -> None:
        prompt = fields.to_prompt(newest_frame, max_pixels)
        pipeline.add_prompt(prompt, fields.replace, tag, live and fields.frame is None, author, fields.own)

    # A mask is unpacked and scaled down, which takes a second for a large one: other sessions must not wait for it.
    if fields.mask is None:
        add()
    else:
        await asyncio.to_thread(add)


def check_mask_pixels(prompts: Iterable[PromptFields], most: int) -> None:
    """Raise TooLargeError for prompts whose masks unpack to more than ``most`` pixels: few characters may say many."""
    pixels = sum(one.mask_pixels for one in prompts)
    if pixels > most:
        raise TooLargeError(f"masks of {pixels:,} pixels in prompts; at most {most:,} are taken together")
