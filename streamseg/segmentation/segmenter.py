"""What every mode has in common: how a stream's objects are prompted, and how frames become answers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from streamseg.errors import BadPromptError, NotFoundError, ObjectTakenError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.decode import Answer
    from streamseg.segmentation.prompts import Prompt, PromptLimits

Mode: TypeAlias = Literal["image", "track"]
MODES: tuple[Mode, ...] = get_args(Mode)

MAX_REJECTED = 100


@dataclass(frozen=True, slots=True)
class Rejected:
    """A prompt that turned out not to fit when its frame came; ``tag`` is what it was given with."""

    object_id: int
    error: BadPromptError
    tag: str | None


class Segmenter(Protocol):
    """The objects of one stream. Prompts may come from another thread than frames."""

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def last_frame(self) -> Frame | None: ...

    def add_prompt(
        self,
        prompt: Prompt,
        replace: bool = False,
        tag: str | None = None,
        on_next: bool = False,
        author: Hashable = None,
        own: bool = False,
    ) -> None:
        """Add to what is known of the prompt's object; ``replace`` forgets its former prompts and mask first.

        ``on_next``: the prompt is meant for the next frame that is segmented, whichever it names. ``author``: who says
        it, where several do; with ``own`` the object must be new, or have been so with a prompt of this author.

        Raises ObjectTakenError if it was not, and BadPromptError, without any change, if the prompt cannot fit. Before
        the first frame its size is not known; a prompt that turns out not to fit then is in ``take_rejected``.
        """

    def undo(self, author: Hashable = None) -> int:
        """Take back the last prompt of ``author`` that was not taken back yet; returns the id of its object.

        Raises BadStateError if there is none.
        """

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""

    def reset(self) -> None:
        """Forget all objects."""

    def clear(self) -> None:
        """Forget everything, frames included."""

    def take_rejected(self) -> list[Rejected]:
        """Prompts that turned out not to fit since the last call (at most 100)."""

    def step(self, model: LoadedModel, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[Answer]:
        """Segment ``frame``: one answer for each object, in the order of their first prompts.

        ``prompts`` are added first; what does not fit is in ``take_rejected``. The very same frame again does only
        what is new. Runs on the model's thread.
        """


def check_room(prompt: Prompt, known: Iterable[int], points: int, limits: PromptLimits) -> None:
    """Raise BadPromptError if the prompt is one object or point too many; ``points``: what its object has already."""
    known = set(known)
    if prompt.object_id not in known and len(known) >= limits.max_objects:
        raise BadPromptError(f"{limits.max_objects} objects are the limit; remove one first")
    count = points + len(prompt.points)
    if count > limits.max_points:
        raise BadPromptError(f"{count} points for object {prompt.object_id}; at most {limits.max_points} are allowed")


def check_own(object_id: int, maker: Hashable, author: Hashable) -> None:
    """Raise ObjectTakenError if a known object was made by another one."""
    if maker != author:
        raise ObjectTakenError(f"object {object_id} was made by somebody else; give the new one another id")


def check_mask_memory(frame: Frame, objects: int, readings: int, limits: PromptLimits) -> None:
    """Raise TooLargeError if the masks of one frame would take more memory than the limits allow."""
    if objects * readings * frame.width * frame.height > limits.max_mask_pixels:
        raise TooLargeError(
            f"{objects} objects on a {frame.width} x {frame.height} frame are "
            f"{objects * readings * frame.width * frame.height:,} mask pixels; "
            f"at most {limits.max_mask_pixels:,} are made: fewer objects, or a smaller picture"
        )


def unknown_object(object_id: int, known: Iterable[int]) -> NotFoundError:
    return NotFoundError(f"there is no object {object_id}; the objects are {list(known)}")
