"""The per-frame mode: each frame is segmented by itself, from prompts or from the object's previous mask."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from streamseg.errors import BadPromptError, BadStateError
from streamseg.segmentation.decode import Answer, Ask, Logits, as_prior, box_of, decode, mask_as_prior
from streamseg.segmentation.embedding import ImageEmbedding, embed, to_model_input
from streamseg.segmentation.history import History
from streamseg.segmentation.prompts import (
    Box,
    Point,
    Prompt,
    PromptLimits,
    check_box,
    check_mask_shape,
    check_points,
)
from streamseg.segmentation.second_look import look_again
from streamseg.segmentation.segmenter import (
    MAX_REJECTED,
    Rejected,
    check_mask_memory,
    check_own,
    check_room,
    unknown_object,
)

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel

# A carried mask that changes more than this from one frame to the next, in area, has left its object: it was covered,
# and the mask now shrinks into a rest of it or spreads over what covers it.
MAX_GROWTH = 3.0
MAX_SHRINKAGE = 0.25
# ... and so has one whose predicted IoU falls below this part of what it was when the object was prompted.
MIN_SCORE_RATIO = 0.75


@dataclass(slots=True, eq=False)
class _Said:
    """One prompt, and the frame to which it was applied, once it was.

    Of a mask only the coarse logits are kept, and its shape until it met a frame: a client may give many masks.
    ``before``: what the object went on from when it was applied, and goes on from again when it is taken back.
    """

    points: tuple[Point, ...]
    labels: tuple[int, ...]
    box: Box | None
    mask: Logits | None
    mask_shape_hw: tuple[int, ...] | None
    tag: str | None
    frame: Frame | None = None
    before: tuple[Logits, Frame] | None = None
    took: list[tuple[_Said, Box]] = field(default_factory=list)

    def check(self, width: int, height: int) -> None:
        check_points(self.points, width, height)
        if self.box is not None:
            check_box(self.box, width, height)
        if self.mask_shape_hw is not None:
            check_mask_shape(self.mask_shape_hw, width, height)

    def is_empty(self) -> bool:
        return not self.points and self.box is None and self.mask is None


@dataclass(slots=True, eq=False)
class _Object:
    """What is known of one object.

    ``prior``: the last coarse mask on which it was not lost; ``prompted_score``: predicted IoU when last prompted.
    ``author``: who made it.
    """

    object_id: int
    author: Hashable = None
    said: list[_Said] = field(default_factory=list)
    prior: Logits | None = None
    prior_frame: Frame | None = None
    prompted_score: float = 0.0
    answer: Answer | None = None
    answer_frame: Frame | None = None

    def has_news(self) -> bool:
        return any(one.frame is None for one in self.said)


class ImageSegmenter:
    """The objects of one stream, segmented frame by frame. A ``Segmenter``.

    ``carry``: on the frames after its prompt an object goes on from its previous mask; otherwise its prompts are
    applied again to every frame. Further prompts on the same frame correct the mask that it has there.

    ``second_look``: look at prompted objects a second time, if the model gains from it; see ``second_look.py``.
    ``mask_input_size``: (rows, columns) of the model's mask prompts. Prompts may come from another thread than frames.
    """

    def __init__(
        self,
        mask_input_size: tuple[int, int],
        *,
        carry: bool = True,
        multimask: bool = False,
        second_look: bool = False,
        limits: PromptLimits | None = None,
    ) -> None:
        self._mask_input_size = mask_input_size
        self._carry = carry
        self._multimask = multimask
        self._second_look = second_look and not multimask
        self._limits = limits or PromptLimits()
        self._lock = threading.Lock()
        self._objects: dict[int, _Object] = {}
        self._rejected: list[Rejected] = []
        self._history: History[tuple[_Object, _Said]] = History()
        self._last: tuple[Frame, ImageEmbedding] | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(self._objects)

    @property
    def last_frame(self) -> Frame | None:
        last = self._last
        return None if last is None else last[0]

    def add_prompt(
        self,
        prompt: Prompt,
        replace: bool = False,
        tag: str | None = None,
        on_next: bool = False,  # noqa: ARG002
        author: Hashable = None,
        own: bool = False,
    ) -> None:
        """See ``Segmenter``. Every prompt counts from the next frame on, whichever it names.

        Points add to the former ones of the object, a box or a mask takes the former one's place.
        """
        said = self._said(prompt, tag)
        with self._lock:
            there = self._objects.get(prompt.object_id)
            if own and there is not None:
                check_own(prompt.object_id, there.author, author)
            known = None if replace else there
            former = [] if known is None else known.said
            check_room(prompt, self._objects, sum(len(one.points) for one in former), self._limits)
            if self._last is not None:
                said.check(self._last[0].width, self._last[0].height)
            if known is None:
                known = _Object(prompt.object_id, author if there is None else there.author)
                self._objects[prompt.object_id] = known
            known.said = _without_replaced(known.said, said)
            self._history.add(author, (known, said))

    def undo(self, author: Hashable = None) -> int:
        """See ``Segmenter``: the object goes on from the mask that it had before that prompt, or from where it is if
        others have said something about it on a later frame."""
        with self._lock:
            while (taken := self._history.take(author)) is not None:
                (one, said), since = taken
                if self._objects.get(one.object_id) is not one:
                    continue
                _take_back(one, said, [other for whose, other in since if whose is one])
                if not one.said and (one.prior is None or not self._carry):
                    del self._objects[one.object_id]
                return one.object_id
        raise BadStateError("there is no prompt left to take back")

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        with self._lock:
            if self._objects.pop(object_id, None) is None:
                raise unknown_object(object_id, self._objects)

    def reset(self) -> None:
        """Forget all objects."""
        with self._lock:
            self._objects.clear()
            self._history.clear()

    def clear(self) -> None:
        """Forget everything, frames included."""
        with self._lock:
            self._objects.clear()
            self._history.clear()
            self._rejected.clear()
            self._last = None

    def take_rejected(self) -> list[Rejected]:
        """Prompts that turned out not to fit since the last call (at most 100)."""
        with self._lock:
            rejected, self._rejected = self._rejected, []
        return rejected

    def step(self, model: LoadedModel, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[Answer]:
        """Segment ``frame``: one answer for each object, in the order of their first prompts.

        ``prompts`` are added first; what does not fit is in ``take_rejected``. The very same frame again reuses its
        embedding, and the answers of objects about which nothing new was said. Runs on the model's thread.
        """
        for prompt in prompts:
            try:
                self.add_prompt(prompt)
            except BadPromptError as error:
                with self._lock:
                    self._reject(Rejected(prompt.object_id, error, None))
        with self._lock:
            embedding = self._last[1] if self._last is not None and self._last[0] is frame else None
            self._reject_misfits(frame)
            check_mask_memory(frame, len(self._objects), 3 if self._multimask else 1, self._limits)
            objects = list(self._objects.values())
            open_objects = [one for one in objects if one.answer_frame is not frame or one.has_news()]
            applied = [self._apply(one, frame) for one in open_objects]
            # Read at once: a box or a mask that comes during the work takes the former one out of what was said.
            asks = tuple(
                _ask(one, said, frame, carry=self._carry) for one, said in zip(open_objects, applied, strict=True)
            )
        if embedding is None:
            embedding = embed(model.predictor, to_model_input(frame.rgb, model.image_size, model.device))
        size = (frame.width, frame.height)
        answers = decode(
            model.predictor, embedding, asks, size, multimask=self._multimask, clicks_in_turn=model.clicks_in_turn
        )
        if self._second_look and model.second_look:
            answers = look_again(model, frame, asks, answers)
        with self._lock:
            self._last = (frame, embedding)
            for one, said, answer in zip(open_objects, applied, answers, strict=True):
                _remember(one, said, answer, frame)
        return [one.answer for one in objects if one.answer is not None]

    def _said(self, prompt: Prompt, tag: str | None) -> _Said:
        coarse, shape_hw = None, None
        if prompt.mask is not None:
            coarse, shape_hw = mask_as_prior(prompt.mask, self._mask_input_size), prompt.mask.shape
        return _Said(prompt.points, prompt.point_labels, prompt.box, coarse, shape_hw, tag)

    def _reject_misfits(self, frame: Frame) -> None:
        misfits: list[_Said] = []
        for one in list(self._objects.values()):
            for said in list(one.said):
                try:
                    said.check(frame.width, frame.height)
                except BadPromptError as error:
                    one.said.remove(said)
                    misfits.append(said)
                    self._reject(Rejected(one.object_id, error, said.tag))
            if not one.said and one.prior is None:
                del self._objects[one.object_id]
        self._history.drop(lambda entry: entry[1] in misfits)

    def _reject(self, rejected: Rejected) -> None:
        # Whoever never asks for them must not pile them up.
        if len(self._rejected) < MAX_REJECTED:
            self._rejected.append(rejected)

    def _apply(self, one: _Object, frame: Frame) -> list[_Said]:
        """The prompts that count on ``frame``; a carried object leaves behind those of former frames."""
        if self._carry and one.prior is not None:
            one.said = [said for said in one.said if said.frame is None or said.frame is frame]
        return list(one.said)


def _ask(one: _Object, applied: list[_Said], frame: Frame, *, carry: bool) -> Ask:
    if not applied and carry and one.prior is not None and one.prior_frame is not frame:
        # The box alone: feeding the former mask back, or a click inside it, made objects stick to where they were.
        return Ask(one.object_id, box=box_of(one.prior, (frame.width, frame.height)))
    points = tuple(point for said in applied for point in said.points)
    labels = tuple(label for said in applied for label in said.labels)
    box = next((said.box for said in applied if said.box is not None), None)
    # A mask is where the object starts; what was segmented since then knows more.
    prior = one.prior if carry or one.prior_frame is frame else None
    if prior is None:
        prior = next((said.mask for said in applied if said.mask is not None), None)
    return Ask(one.object_id, points, labels, box, prior)


def _without_replaced(former: list[_Said], said: _Said) -> list[_Said]:
    """The former prompts without the box and the mask that ``said`` replaces, and then ``said``."""
    for one in former:
        if said.box is not None and one.box is not None:
            said.took.append((one, one.box))
            one.box = None
        if said.mask is not None:
            one.mask = one.mask_shape_hw = None
    return [one for one in former if not one.is_empty()] + [said]


def _take_back(one: _Object, said: _Said, since: list[_Said]) -> None:
    """Let the object be without ``said``; ``since``: what others said about it after that."""
    one.said = [other for other in one.said if other is not said]
    later = [other for other in since if other.frame is not None and other.frame is not said.frame]
    if said.frame is not None and later:
        # What was made of the two since then cannot be told apart.
        for other in later:
            if other.frame is later[0].frame:
                other.before = said.before
    elif said.frame is not None:
        one.prior, one.prior_frame = said.before or (None, None)
        one.answer = one.answer_frame = None
        for other in one.said:
            other.frame = None
    heir = next((other for other in since if any(former is said for former, _ in other.took)), None)
    if heir is not None:
        heir.took = [*said.took, *(pair for pair in heir.took if pair[0] is not said)]
        return
    for former, box in said.took:
        former.box = box
        if former not in one.said:
            former.frame = None
            one.said.append(former)


def _remember(one: _Object, applied: list[_Said], answer: Answer, frame: Frame) -> None:
    best = answer.logits[answer.best]
    if applied:
        one.prompted_score = float(answer.scores[answer.best])
    elif one.prior is not None and _has_left(one, answer):
        answer = replace(answer, lost=True)
    one.answer, one.answer_frame = answer, frame
    for said in applied:
        if said.frame is None and one.prior is not None and one.prior_frame is not None:
            said.before = one.prior, one.prior_frame
        said.frame = frame
    # A lost object keeps the mask that it last had, so that it can be picked up when it returns.
    if not answer.lost and (best > 0).any():
        one.prior, one.prior_frame = as_prior(best), frame


def _has_left(one: _Object, answer: Answer) -> bool:
    before = np.count_nonzero(one.prior > 0) if one.prior is not None else 0
    now = np.count_nonzero(answer.logits[answer.best] > 0)
    return bool(
        now > MAX_GROWTH * before
        or now < MAX_SHRINKAGE * before
        or answer.scores[answer.best] < MIN_SCORE_RATIO * one.prompted_score
    )
