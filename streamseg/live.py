"""Frames of a program's own, one after the other, with clicks in between: ``Model.session``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamseg.closable import Closable
from streamseg.errors import BadMessageError
from streamseg.media.frame import Frame
from streamseg.media.image import decode_image
from streamseg.segmentation.prompts import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamseg.pipeline import Pipeline
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.segmenter import Rejected


class Session(Closable):
    """The objects of one stream of frames; made by ``Model.session``. Also a context manager.

    Prompts may come at any time, from any thread; frames come one after the other.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._next_index = 0

    @property
    def object_ids(self) -> tuple[int, ...]:
        return self._pipeline.object_ids

    def process(self, frame: NDArray[Any] | Frame, *, time_s: float | None = None) -> FrameResult:
        """Masks of every object on the next frame: RGB uint8 (H, W, 3), or a Frame whose ``index`` must grow.

        ``time_s``: presentation time of an array; default: its index, as it has none. A prompt that does not fit its
        frame, or under which nothing was found, is in ``rejected`` of the result; where the frame has no object at all
        it is raised, as BadPromptError. Raises FrameSizeError in the mode ``track`` for a frame of another shape. The
        session goes on after each.
        """
        if isinstance(frame, Frame):
            if frame.index < self._next_index:
                raise BadMessageError(f"the index of a frame must grow: at least {self._next_index}, not {frame.index}")
            given = frame
        else:
            shown_s = float(self._next_index) if time_s is None else time_s
            given = decode_image(frame, index=self._next_index, time_s=shown_s)
        result = self._pipeline.process(given)
        self._next_index = given.index + 1
        return with_rejected(result, self._pipeline.take_rejected())

    def prompt(self, prompt: Prompt, *, frame: int | None = None, replace: bool = False) -> None:
        """Say something about an object; what ``prompt.frame`` says does not count here.

        ``frame``: index of the frame on which it was made; default: it is meant for the next one. In the mode ``track``
        one of the last frames is corrected and the object tracked anew from there, which shows on the next frame.
        ``replace``: forget what was said about the object first. Raises BadPromptError.
        """
        meant = Prompt(
            prompt.object_id,
            self._next_index if frame is None else frame,
            prompt.points_xy_px,
            prompt.labels,
            prompt.box_xyxy_px,
            prompt.mask,
        )
        self._pipeline.add_prompt(meant, replace, on_next=frame is None)

    def undo(self) -> int:
        """Take back the last prompt that was not taken back yet; returns the id of its object.

        Raises BadStateError if there is none.
        """
        return self._pipeline.undo()

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        self._pipeline.remove(object_id)

    def reset(self) -> None:
        """Forget all objects."""
        self._pipeline.reset()

    def save(self) -> bytes:
        """What the tracker remembers, for ``restore`` in another session, process or machine with the same model.

        Raises BadStateError in another mode than ``track``.
        """
        return self._pipeline.save_state()

    def restore(self, data: bytes) -> None:
        """Go on from what ``save`` gave: the same masks on the frames that come. BadStateError if it is none."""
        self._pipeline.restore_state(data)

    def close(self) -> None:
        """Free the memory of the stream."""
        self._pipeline.close()


def with_rejected(result: FrameResult, rejected: Sequence[Rejected]) -> FrameResult:
    """The result with what was rejected on the way to it; raised where nothing else would be lost with it."""
    if rejected and not any(one.state == "tracked" for one in result.objects):
        raise rejected[0].error
    return replace(result, rejected=tuple((one.object_id, one.error) for one in rejected))
