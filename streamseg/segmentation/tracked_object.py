"""What the tracker knows of frames and objects: who was pointed at where, in what order, and what came of it."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from streamseg.media.frame import Frame
from streamseg.segmentation.decode import BOX_LABELS
from streamseg.segmentation.embedding import FrameFeatures, encode, shrink, to_model_input
from streamseg.segmentation.memory import MemoryBank
from streamseg.segmentation.prompts import PromptLimits, check_mask_shape
from streamseg.segmentation.track_step import Said

if TYPE_CHECKING:
    import torch

    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.prompts import Prompt

# A picture that waits to be looked at has at most so many times the pixels of the model's input.
MOST_PICTURE = 4
Start: TypeAlias = Literal["begin", "correct"]


@dataclass(slots=True, eq=False)
class Seen:
    """A frame that can still be corrected; encoded when something is asked of it, so that no object costs no time."""

    index: int
    width: int
    height: int
    _frame: Frame | None
    _features: FrameFeatures | None = None

    @classmethod
    def of(cls, frame: Frame, side: int) -> Seen:
        """``side``: of the model's input; much larger pictures are kept as small as the model sees them."""
        kept = frame
        if frame.width * frame.height > MOST_PICTURE * side * side:
            kept = Frame(shrink(frame.rgb, side), frame.index, frame.time_s)
        return cls(frame.index, frame.width, frame.height, kept)

    def features(self, model: LoadedModel) -> FrameFeatures:
        if self._features is None:
            assert self._frame is not None
            picture = to_model_input(self._frame.rgb, model.image_size, model.device)
            self._features, self._frame = encode(model.predictor, picture), None
        return self._features


@dataclass(slots=True, eq=False)
class Told:
    """A prompt on its way to its frame; ``number``: the frame to which it was applied, once it was; ``failed``: it was
    there when a frame failed.

    ``mask``: bool (S, S) of the model's input size, so that large masks do not pile up while they wait.
    """

    prompt: Prompt
    mask: torch.Tensor | None
    restart: bool
    tag: str | None
    on_next: bool = False
    number: int | None = None
    failed: bool = False
    mask_shape_hw: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Keep the coarse mask only."""
        if self.prompt.mask is not None:
            self.mask_shape_hw = self.prompt.mask.shape
            self.prompt = copy(self.prompt)
            object.__setattr__(self.prompt, "mask", None)

    def check(self, width: int, height: int, limits: PromptLimits | None = None) -> None:
        self.prompt.check(width, height, limits)
        if self.mask_shape_hw is not None:
            check_mask_shape(self.mask_shape_hw, width, height)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The prompts of one object on one frame; ``start``: whether they stand for themselves or correct what is there."""

    start: Start
    told: tuple[Told, ...]


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One object: what it remembers, and what was said about it.

    ``points``: how many, in all; ``author``: who made it.
    """

    object_id: int
    bank: MemoryBank = field(default_factory=MemoryBank)
    spoken: dict[int, Spoken] = field(default_factory=dict)
    points: int = 0
    author: Hashable = None

    def said(self, number: int | None) -> tuple[Told, ...]:
        """What was said about it on that frame."""
        spoken = None if number is None else self.spoken.get(number)
        return () if spoken is None else spoken.told

    def copy(self) -> TrackedObject:
        return TrackedObject(self.object_id, self.bank.copy(), dict(self.spoken), self.points, self.author)

    def fold(self, window: Container[int]) -> None:
        """Let go of what was said on frames that can no longer be corrected; it lives on in their memories."""
        for number, spoken in list(self.spoken.items()):
            if number in window:
                continue
            for told in spoken.told:
                told.mask = None
            if number not in self.bank.conditioning:
                del self.spoken[number]


@dataclass(frozen=True, slots=True)
class TakenBack:
    told: Told


def told_of(one: Told | TakenBack) -> Told:
    return one.told if isinstance(one, TakenBack) else one


def says_what(told: Told) -> bool:
    """Whether a prompt can stand for itself: it says what belongs to the object."""
    return told.mask is not None or told.prompt.box is not None or 1 in told.prompt.point_labels


def steps_of(before: Sequence[Told], told: Told, seen: Seen, image_size: int) -> list[Said]:
    """A prompt as calls of the model, in the reference's order: a mask first, then the frame's points and its box.

    Points add to those said on the frame before, a box takes the former one's place, a mask makes all of them void.
    """
    since = list(before)
    for place, one in enumerate(before):
        if one.mask is not None:
            since = list(before[place:])
    steps = []
    if told.mask is not None:
        steps.append(Said(mask=told.mask))
        since = []
    prompts = [one.prompt for one in since] + [told.prompt]
    box = next((one.box for one in reversed(prompts) if one.box is not None), None)
    points = [point for one in prompts for point in one.points]
    labels = [label for one in prompts for label in one.point_labels]
    if not told.prompt.points and told.prompt.box is None:
        return steps
    if box is not None:
        points = [(box[0], box[1]), (box[2], box[3]), *points]
        labels = [*BOX_LABELS, *labels]
    # In the reference's own precision and order: a last bit here is a thousandth of a logit some frames later.
    size_wh = np.array([seen.width, seen.height], np.float32)
    scaled = np.array(points, np.float32) / size_wh * np.float32(image_size)
    return [*steps, Said(tuple((float(x), float(y)) for x, y in scaled), tuple(labels))]
