"""The per-frame mode: each frame is segmented by itself, from prompts or from the object's previous mask."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from streamseg.errors import BadPromptError, NotFoundError
from streamseg.segmentation.decode import Answer, Ask, Logits, as_prior, decode, mask_as_prior
from streamseg.segmentation.embedding import ImageEmbedding, embed, to_model_input
from streamseg.segmentation.prompts import Prompt, PromptLimits

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel

Rejected: TypeAlias = tuple[Prompt, BadPromptError]


@dataclass(slots=True, eq=False)
class _Said:
    """A prompt, and the frame to which it was applied, once it was."""

    prompt: Prompt
    frame: Frame | None = None


@dataclass(slots=True, eq=False)
class _Object:
    """What is known of one object. ``prior``: the last coarse mask that was not empty."""

    object_id: int
    said: list[_Said] = field(default_factory=list)
    prior: Logits | None = None
    prior_frame: Frame | None = None
    answer: Answer | None = None
    answer_frame: Frame | None = None

    def has_news(self) -> bool:
        return any(one.frame is None for one in self.said)


class ImageSegmenter:
    """The objects of one stream, segmented frame by frame.

    ``carry``: on the frames after its prompt an object goes on from its previous mask; otherwise its prompts are
    applied again to every frame. Further prompts on the same frame correct the mask that it has there.

    Prompts may come from another thread than frames.
    """

    def __init__(self, *, carry: bool = True, multimask: bool = False, limits: PromptLimits | None = None) -> None:
        self._carry = carry
        self._multimask = multimask
        self._limits = limits or PromptLimits()
        self._lock = threading.Lock()
        self._objects: dict[int, _Object] = {}
        self._rejected: list[Rejected] = []
        self._last: tuple[Frame, ImageEmbedding] | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(self._objects)

    @property
    def last_frame(self) -> Frame | None:
        last = self._last
        return None if last is None else last[0]

    def add_prompt(self, prompt: Prompt, replace: bool = False) -> None:
        """Add to what is known of the prompt's object; ``replace`` forgets its former prompts and mask first.

        Raises BadPromptError, without any change, if the prompt cannot fit. Before the first frame its size is not
        known; a prompt that turns out not to fit then is in ``take_rejected``.
        """
        with self._lock:
            known = None if replace else self._objects.get(prompt.object_id)
            if prompt.object_id not in self._objects and len(self._objects) >= self._limits.max_objects:
                raise BadPromptError(f"{self._limits.max_objects} objects are the limit; remove one first")
            former = [] if known is None else [one.prompt for one in known.said]
            count = sum(len(one.points) for one in former) + len(prompt.points)
            if count > self._limits.max_points:
                raise BadPromptError(
                    f"{count} points for object {prompt.object_id}; at most {self._limits.max_points} are allowed"
                )
            if self._last is not None:
                prompt.check(self._last[0].width, self._last[0].height, self._limits)
            if known is None:
                known = _Object(prompt.object_id)
                self._objects[prompt.object_id] = known
            known.said.append(_Said(prompt))

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        with self._lock:
            if self._objects.pop(object_id, None) is None:
                raise NotFoundError(f"there is no object {object_id}; the objects are {list(self._objects)}")

    def reset(self) -> None:
        """Forget all objects."""
        with self._lock:
            self._objects.clear()

    def clear(self) -> None:
        """Forget everything, frames included."""
        with self._lock:
            self._objects.clear()
            self._rejected.clear()
            self._last = None

    def take_rejected(self) -> list[Rejected]:
        """Prompts that turned out not to fit since the last call, each with what is wrong with it."""
        with self._lock:
            rejected, self._rejected = self._rejected, []
        return rejected

    def step(self, model: LoadedModel, frame: Frame) -> list[Answer]:
        """Segment ``frame``: one answer for each object, in the order of their first prompts.

        The very same frame again reuses its embedding, and the answers of objects about which nothing new was said.
        Runs on the model's thread.
        """
        with self._lock:
            embedding = self._last[1] if self._last is not None and self._last[0] is frame else None
            self._reject_misfits(frame)
            objects = list(self._objects.values())
            open_objects = [one for one in objects if one.answer_frame is not frame or one.has_news()]
            applied = [self._apply(one, frame) for one in open_objects]
        if embedding is None:
            embedding = embed(model.predictor, to_model_input(frame.rgb, model.image_size, model.device))
        asks = tuple(
            _ask(one, said, model, with_prior=self._carry or one.prior_frame is frame)
            for one, said in zip(open_objects, applied, strict=True)
        )
        size = (frame.width, frame.height)
        answers = decode(model.predictor, embedding, asks, size, multimask=self._multimask)
        with self._lock:
            self._last = (frame, embedding)
            for one, said, answer in zip(open_objects, applied, answers, strict=True):
                _remember(one, said, answer, frame)
        return [one.answer for one in objects if one.answer is not None]

    def _reject_misfits(self, frame: Frame) -> None:
        for one in list(self._objects.values()):
            for said in list(one.said):
                try:
                    said.prompt.check(frame.width, frame.height, self._limits)
                except BadPromptError as error:
                    one.said.remove(said)
                    self._rejected.append((said.prompt, error))
            if not one.said and one.prior is None:
                del self._objects[one.object_id]

    def _apply(self, one: _Object, frame: Frame) -> list[_Said]:
        """The prompts that count on ``frame``; a carried object leaves behind those of former frames."""
        if self._carry and one.prior is not None:
            one.said = [said for said in one.said if said.frame is None or said.frame is frame]
        return list(one.said)


def _ask(one: _Object, applied: list[_Said], model: LoadedModel, *, with_prior: bool) -> Ask:
    prior = one.prior if with_prior else None
    box, mask = None, None
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    for said in applied:
        points += said.prompt.points
        labels += said.prompt.point_labels
        box = said.prompt.box or box
        mask = said.prompt.mask if said.prompt.mask is not None else mask
    # A mask is where the object starts; what was segmented since then knows more.
    if mask is not None and prior is None:
        prior = mask_as_prior(mask, model.predictor)
    return Ask(one.object_id, tuple(points), tuple(labels), box, prior)


def _remember(one: _Object, applied: list[_Said], answer: Answer, frame: Frame) -> None:
    one.answer, one.answer_frame = answer, frame
    for said in applied:
        said.frame = frame
    best = answer.logits[answer.best]
    # A lost object keeps the mask that it last had, so that it can be picked up when it returns.
    if (best > 0).any():
        one.prior, one.prior_frame = as_prior(best), frame
