"""What is said about the objects of a file, before and while it is processed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from streamseg.errors import BadPromptError, BadStateError, NotFoundError
from streamseg.segmentation.prompts import check_mask_shape
from streamseg.service.edits import check_mask_pixels
from streamseg.service.protocol.client_messages import PromptFields, PromptRequest, Remove, Undo

if TYPE_CHECKING:
    from streamseg.segmentation.prompts import Prompt
    from streamseg.service.effects import Edit
    from streamseg.settings import Limits


class FilePrompts:
    """``said``: in its order; replaced as a whole, so that another thread may read it."""

    def __init__(self, limits: Limits) -> None:
        self.said: tuple[PromptFields, ...] = ()
        self._limits = limits

    async def change(self, request: Edit) -> None:
        """Carry out a prompt, an undo, a removal or a reset; raises StreamsegError."""
        match request:
            case PromptRequest():
                await self.add(request)
            case Remove(object_id=object_id):
                known = sorted({one.object_id for one in self.said})
                if object_id not in known:
                    raise NotFoundError(f"there is no object {object_id}; the objects are {known}")
                self.said = self._without(object_id)
            case Undo():
                if not self.said:
                    raise BadStateError("there is no prompt left to take back")
                self.said = self.said[:-1]
            case _:
                self.said = ()

    async def add(self, fields: PromptFields) -> None:
        """Say something about an object; raises BadPromptError or TooLargeError."""
        check_mask_pixels([*self._beside(fields), fields], self._limits.max_mask_pixels)
        # Made once to hear what is wrong with it; its frame may not be known yet.
        await asyncio.to_thread(self._prompt, fields, 0)
        kept = self._beside(fields)
        most = self._limits.max_objects
        known = {one.object_id for one in self.said}
        if fields.object_id not in known and len(known) >= most:
            raise BadPromptError(f"{len(known)} objects already, which is the limit; remove one first")
        if len(kept) >= 4 * most:
            raise BadPromptError(f"{len(kept)} prompts already; at most {4 * most} are taken")
        self.said = (*kept, fields)

    async def check_fits(self, fields: PromptFields, width: int, height: int) -> None:
        """Raise BadPromptError for a prompt outside a picture of that size."""
        if fields.mask is not None:
            check_mask_shape((fields.mask.size[0], fields.mask.size[1]), width, height)
        prompt = await asyncio.to_thread(self._prompt, fields, 0)
        prompt.check(width, height)

    def placed(self, frames_at: Callable[[list[float]], dict[float, int]]) -> list[Prompt]:
        """The prompts, each on its frame. ``frames_at``: the frames for times in order; see ``moments``."""
        said = self.said
        times_s = sorted({one.time_s for one in said if one.time_s is not None})
        frames = frames_at(times_s) if times_s else {}
        return [self._prompt(one, (one.frame or 0) if one.time_s is None else frames[one.time_s]) for one in said]

    def _beside(self, fields: PromptFields) -> tuple[PromptFields, ...]:
        return self._without(fields.object_id) if fields.replace else self.said

    def _without(self, object_id: int) -> tuple[PromptFields, ...]:
        return tuple(one for one in self.said if one.object_id != object_id)

    def _prompt(self, fields: PromptFields, frame: int) -> Prompt:
        prompt = fields.to_prompt(frame, self._limits.max_image_pixels)
        most = self._limits.max_points
        if len(prompt.points) > most:
            raise BadPromptError(
                f"{len(prompt.points)} points for object {prompt.object_id}; at most {most} are allowed"
            )
        return prompt


def first_difference(request: Edit, before: Sequence[PromptFields]) -> int:
    """The first frame whose masks may be others than with the prompts ``before`` it, as far as is known."""
    spoken = request if isinstance(request, PromptRequest) else before[-1] if isinstance(request, Undo) else None
    if spoken is None or spoken.replace or spoken.time_s is not None:
        return 0
    return spoken.frame or 0
