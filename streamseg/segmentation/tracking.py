"""The tracking mode: SAM 2's video model on frames that come one by one, in constant memory.

Gives the masks of ``SAM2VideoPredictor`` driven causally (propagate to frame k-1, add the prompts of frame k, go on),
with these differences: objects come and go at any time; a corrected frame becomes a conditioning frame, where the
reference by default forgets the correction after six frames; later prompts on the frame on which an object begins
refine it as on a picture, where the reference, once that frame was tracked, also attends to what it remembers of it;
pointers of fifteen frames are used from the start, where the reference uses fewer on clips of under sixteen frames.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Container, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from streamseg.errors import BadPromptError, BadStateError, FrameSizeError
from streamseg.segmentation.decode import BOX_LABELS, Answer
from streamseg.segmentation.embedding import FrameFeatures, encode, to_model_input
from streamseg.segmentation.memory import MemoryBank, MemoryRule
from streamseg.segmentation.motion import located
from streamseg.segmentation.prompts import PromptLimits, check_mask_shape
from streamseg.segmentation.segmenter import (
    MAX_REJECTED,
    MAX_UNDO,
    Rejected,
    check_mask_memory,
    check_room,
    unknown_object,
)
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.track_state import SavedObject, SavedTracker, from_bytes, to_bytes
from streamseg.segmentation.track_step import Said, begin, correct, restored, track

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.memory import Memory
    from streamseg.segmentation.prompts import Prompt

# A frame counts as of another shape from this relative change of its aspect ratio on; encoders round to even sides.
SHAPE_TOLERANCE = 0.02
# Prompts of one object on one frame, and of those that wait: masks must not pile up.
MAX_SAID = 64
Start: TypeAlias = Literal["begin", "correct"]


@dataclass(slots=True, eq=False)
class _Seen:
    """A frame that can still be corrected; encoded when something is asked of it, so that no object costs no time."""

    index: int
    width: int
    height: int
    _frame: Frame | None
    _features: FrameFeatures | None = None

    @classmethod
    def of(cls, frame: Frame) -> _Seen:
        return cls(frame.index, frame.width, frame.height, frame)

    def features(self, model: LoadedModel) -> FrameFeatures:
        if self._features is None:
            assert self._frame is not None
            picture = to_model_input(self._frame.rgb, model.image_size, model.device)
            self._features, self._frame = encode(model.predictor, picture), None
        return self._features


@dataclass(slots=True, eq=False)
class _Told:
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
class _Spoken:
    """The prompts of one object on one frame; ``start``: whether they stand for themselves or correct what is there."""

    start: Start
    told: tuple[_Told, ...]


@dataclass(slots=True, eq=False)
class _Object:
    """One object: what it remembers, and what was said about it. ``points``: how many, in all."""

    object_id: int
    bank: MemoryBank = field(default_factory=MemoryBank)
    spoken: dict[int, _Spoken] = field(default_factory=dict)
    points: int = 0

    def said(self, number: int | None) -> tuple[_Told, ...]:
        """What was said about it on that frame."""
        spoken = None if number is None else self.spoken.get(number)
        return () if spoken is None else spoken.told

    def copy(self) -> _Object:
        return _Object(self.object_id, self.bank.copy(), dict(self.spoken), self.points)

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
class _TakenBack:
    told: _Told


class Tracker:
    """The objects of one stream, followed from frame to frame. A ``Segmenter``.

    ``image_size``: side of the model's square input in pixels.

    Besides what ``Segmenter`` says: a prompt belongs to the frame whose index it names, which may be one of the last
    ones (``correction_window_frames``): the object is then tracked anew from there. On a frame that was tracked, or
    where the object is known already and the prompt comes on its own (``add_prompt``), it corrects what is tracked
    there. Prompts that are given together with their frame (``step``) stand for themselves, as in the reference, but
    for those that only say what does not belong. A prompt under which the model sees no object is rejected.
    """

    def __init__(
        self, image_size: int, options: TrackOptions | None = None, limits: PromptLimits | None = None
    ) -> None:
        self._image_size = image_size
        self._options = options or TrackOptions()
        self._limits = limits or PromptLimits()
        self._lock = threading.Lock()
        self._objects: dict[int, _Object] = {}
        self._waiting: list[_Told | _TakenBack] = []
        self._history: list[_Told] = []
        self._rejected: list[Rejected] = []
        self._window: OrderedDict[int, _Seen] = OrderedDict()
        self._frames = 0
        self._last: Frame | None = None
        self._shape_wh: tuple[int, int] | None = None
        # The newest index that can no longer be corrected.
        self._passed = -1

    @property
    def object_ids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(self._objects)

    @property
    def last_frame(self) -> Frame | None:
        return self._last

    def add_prompt(self, prompt: Prompt, replace: bool = False, tag: str | None = None, on_next: bool = False) -> None:
        """See ``Segmenter``; BadPromptError too for a frame that has passed too long ago to be corrected."""
        told = _Told(prompt, self._coarse(prompt), replace, tag, on_next)
        with self._lock:
            known = self._objects.get(prompt.object_id)
            waiting = [one.prompt for one in self._waiting if isinstance(one, _Told)]
            said = [] if known is None or replace else [one.prompt for one in known.said(self._meant(told))]
            said += [one for one in waiting if one.object_id == prompt.object_id]
            check_room(prompt, self._objects, sum(len(one.points) for one in said), self._limits)
            if len(said) >= MAX_SAID:
                raise BadPromptError(f"{MAX_SAID} prompts for object {prompt.object_id} on one frame are the limit")
            size_wh = self._size_of(told)
            if size_wh is not None:
                told.check(*size_wh, self._limits)
            self._check_moment(told)
            if known is None:
                self._objects[prompt.object_id] = _Object(prompt.object_id)
            self._waiting.append(told)
            self._history = [*self._history[-MAX_UNDO + 1 :], told]

    def undo(self) -> int:
        """See ``Segmenter``. On a frame that has passed too long ago for a correction the object goes on without what
        the prompt said, from where it is."""
        with self._lock:
            while self._history:
                told = self._history.pop()
                object_id = told.prompt.object_id
                if object_id not in self._objects:
                    continue
                if told in self._waiting:
                    self._waiting.remove(told)
                    self._drop_if_nothing(object_id)
                else:
                    self._waiting.append(_TakenBack(told))
                return object_id
        raise BadStateError("there is no prompt left to take back")

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        with self._lock:
            if self._objects.pop(object_id, None) is None:
                raise unknown_object(object_id, self._objects)
            self._waiting = [one for one in self._waiting if _told(one).prompt.object_id != object_id]

    def reset(self) -> None:
        """Forget all objects."""
        with self._lock:
            self._objects.clear()
            self._waiting.clear()
            self._history.clear()

    def clear(self) -> None:
        """Forget everything, frames included."""
        self.reset()
        with self._lock:
            self._rejected.clear()
            self._window.clear()
            self._last = None
            self._shape_wh = None
            self._passed = -1

    def take_rejected(self) -> list[Rejected]:
        """Prompts that turned out not to fit since the last call (at most 100)."""
        with self._lock:
            rejected, self._rejected = self._rejected, []
        return rejected

    def step(self, model: LoadedModel, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[Answer]:
        """See ``Segmenter``. Raises FrameSizeError for a frame of another shape while there are objects; they wait for
        frames of their own."""
        together = [_Told(prompt, self._coarse(prompt), False, None) for prompt in prompts]
        with self._lock:
            self._check_shape(frame)
            again = self._last is frame
            number = self._frames - 1 if again else self._frames
            due, self._waiting = self._due(frame.index)
            self._enter(together, frame, number)
            originals = dict(self._objects)
        try:
            check_mask_memory(frame, len(originals), 1, self._limits)
            window = OrderedDict(self._window)
            if not again:
                window[number] = _Seen.of(frame)
            objects = {name: one.copy() for name, one in originals.items()}
            run = _Run(model, self._options, window, objects, number if again else number - 1)
            run.apply([one for one in due if not self._is_for(one, number)])
            run.advance(number, together)
            run.apply([one for one in due if self._is_for(one, number)], on=number)
        except BaseException:
            # The frame is lost with the prompts that came with it; everything else is as it was.
            with self._lock:
                self._put_back(due, originals)
                self._history = [one for one in self._history if one not in together]
                self._forget_the_unborn()
            raise
        with self._lock:
            self._commit(run, originals, number, frame)
            memories = [
                (name, one.bank.get(number)) for name, one in run.objects.items() if self._objects.get(name) is one
            ]
        return _answers(memories)

    def save(self, model: LoadedModel) -> bytes:
        """What is remembered, for ``restore``; prompts that still wait for their frame are not in it.

        Runs on the model's thread.
        """
        with self._lock:
            width, height = self._shape_wh or (0, 0)
            objects = tuple(
                SavedObject(name, one.points, one.bank.copy())
                for name, one in self._objects.items()
                if one.bank.conditioning
            )
            index = self._passed if not self._window else next(reversed(self._window.values())).index
            return to_bytes(SavedTracker(model.name, model.image_size, self._frames, index, width, height, objects))

    def restore(self, model: LoadedModel, data: bytes) -> None:
        """Go on from a saved state in place of what is known here; the frames before it can no longer be corrected.

        Raises BadStateError, without any change, for what is no state of this model. Runs on the model's thread.
        """
        saved = from_bytes(data)
        if (saved.model, saved.image_size) != (model.name, model.image_size):
            raise BadStateError(
                f"the state was saved with {saved.model} at {saved.image_size} px; this is {model.name} at "
                f"{model.image_size} px"
            )
        objects = {}
        for one in saved.objects:
            bank = MemoryBank(
                *(
                    {
                        number: restored(model.predictor, memory, model.device, self._options.bit_exact)
                        for number, memory in kind.items()
                    }
                    for kind in (one.bank.conditioning, one.bank.recent)
                )
            )
            objects[one.object_id] = _Object(one.object_id, bank, points=one.points)
        self.clear()
        with self._lock:
            self._objects = objects
            self._frames = saved.frames
            self._passed = saved.index
            self._shape_wh = (saved.width, saved.height) if saved.width else None

    def _coarse(self, prompt: Prompt) -> torch.Tensor | None:
        """A mask at the model's input size, as ``SAM2VideoPredictor.add_new_mask`` makes it."""
        if prompt.mask is None:
            return None
        mask = torch.from_numpy(prompt.mask)[None, None].float()
        size = (self._image_size, self._image_size)
        share = F.interpolate(mask, size=size, mode="bilinear", align_corners=False, antialias=True)[0, 0]
        # A part thinner than a pixel of the model must not vanish.
        return share >= min(0.5, float(share.max()))

    def _meant(self, told: _Told) -> int | None:
        """The frame that is meant, if it was seen already."""
        if told.on_next:
            return None
        return next((number for number, seen in self._window.items() if seen.index >= told.prompt.frame), None)

    def _size_of(self, told: _Told) -> tuple[int, int] | None:
        """Of the frame that is meant, (width, height), as far as it is known."""
        number = self._meant(told)
        return self._shape_wh if number is None else (self._window[number].width, self._window[number].height)

    def _check_moment(self, told: _Told) -> None:
        if told.on_next or told.prompt.frame > self._passed:
            return
        raise BadPromptError(
            f"frame {told.prompt.frame} has passed: the last {self._options.correction_window_frames} frames, after "
            f"{self._passed}, can still be corrected"
        )

    def _check_shape(self, frame: Frame) -> None:
        if self._shape_wh is None or not self._objects:
            return
        width, height = self._shape_wh
        change = (frame.width * height) / (frame.height * width)
        if abs(change - 1.0) > SHAPE_TOLERANCE:
            raise FrameSizeError(
                f"the frame has {frame.width} x {frame.height} pixels, the ones before had {width} x {height}: objects "
                "are followed on frames of one shape; reset, then point at them again"
            )

    def _put_back(self, due: list[_Told | _TakenBack], originals: dict[int, _Object]) -> None:
        """Let what was due wait on, but for what was forgotten or taken back in the meantime.

        A prompt that is there when a frame fails again is given up: it must not hold up the stream for ever.
        """
        since = [one.told for one in self._waiting if isinstance(one, _TakenBack)]
        undone = [one for one in due if isinstance(one, _Told) and one in since]
        names = {name for name, one in originals.items() if self._objects.get(name) is one}
        due = [one for one in due if one not in undone and _told(one).prompt.object_id in names]
        for one in list(due):
            if not isinstance(one, _Told):
                continue
            if one.failed:
                due.remove(one)
                self._history = [other for other in self._history if other is not one]
                self._reject(one, BadPromptError("the frame failed with this prompt; use fewer objects"))
            one.number, one.failed = None, True
        waiting = [one for one in self._waiting if not (isinstance(one, _TakenBack) and one.told in undone)]
        self._waiting = [*due, *waiting]

    def _due(self, index: int) -> tuple[list[_Told | _TakenBack], list[_Told | _TakenBack]]:
        """What is to be done with the frame of this index, and what goes on waiting."""
        due = [one for one in self._waiting if self._has_come(one, index)]
        return due, [one for one in self._waiting if one not in due]

    @staticmethod
    def _has_come(one: _Told | _TakenBack, index: int) -> bool:
        return isinstance(one, _TakenBack) or one.on_next or one.prompt.frame <= index

    def _is_for(self, one: _Told | _TakenBack, number: int) -> bool:
        """Whether it is about the newest frame, and so is done once that was tracked."""
        if isinstance(one, _TakenBack):
            return one.told.number == number
        before = [seen.index for known, seen in self._window.items() if known < number]
        return one.on_next or not before or one.prompt.frame > before[-1]

    def _enter(self, together: list[_Told], frame: Frame, number: int) -> None:
        """Make room for the objects of prompts that came with the frame; those that do not fit are left out."""
        points: Counter[int] = Counter()
        for told in list(together):
            name = told.prompt.object_id
            known = self._objects.get(name)
            said = () if known is None else known.said(number)
            points[name] += sum(len(one.prompt.points) for one in said) if name not in points else 0
            try:
                check_room(told.prompt, self._objects, points[name], self._limits)
                told.check(frame.width, frame.height, self._limits)
            except BadPromptError as error:
                together.remove(told)
                self._reject(told, error)
                continue
            points[name] += len(told.prompt.points)
            if known is None:
                self._objects[name] = _Object(name)
            self._history = [*self._history[-MAX_UNDO + 1 :], told]

    def _commit(self, run: _Run, originals: dict[int, _Object], number: int, frame: Frame) -> None:
        rule = run.rule
        for name, original in originals.items():
            one = run.objects.get(name)
            # Removed or reset in the meantime: what was found out is of no use.
            if self._objects.get(name) is not original:
                continue
            if one is None:
                del self._objects[name]
                continue
            one.bank.trim(number, rule, self._options.correction_window_frames)
            self._objects[name] = one
        for told, error in run.rejected:
            self._reject(told, error)
            self._history = [one for one in self._history if one is not told]
        self._forget_the_unborn()
        self._window = run.window
        while len(self._window) > self._options.correction_window_frames:
            _, passed = self._window.popitem(last=False)
            self._passed = max(self._passed, passed.index)
        for one in self._objects.values():
            one.fold(self._window)
        self._frames = number + 1
        self._last = frame
        self._shape_wh = frame.width, frame.height

    def _forget_the_unborn(self) -> None:
        for name in list(self._objects):
            self._drop_if_nothing(name)

    def _drop_if_nothing(self, object_id: int) -> None:
        one = self._objects.get(object_id)
        waits = any(_told(told).prompt.object_id == object_id for told in self._waiting)
        if one is not None and not one.bank.conditioning and not waits:
            del self._objects[object_id]

    def _reject(self, told: _Told, error: BadPromptError) -> None:
        if len(self._rejected) < MAX_REJECTED:
            self._rejected.append(Rejected(told.prompt.object_id, error, told.tag))


def _told(one: _Told | _TakenBack) -> _Told:
    return one.told if isinstance(one, _TakenBack) else one


def _answers(memories: list[tuple[int, Memory | None]]) -> list[Answer]:
    known = [(name, memory) for name, memory in memories if memory is not None and memory.logits is not None]
    if not known:
        return []
    stacked = torch.cat([memory.logits for _, memory in known if memory.logits is not None]).float().cpu().numpy()
    return [
        Answer(name, logits, np.array([memory.score], np.float32), 0, lost=memory.object_score <= 0)
        for (name, memory), logits in zip(known, stacked, strict=True)
    ]


class _Run:
    """One step on copies of the objects, so that a failure leaves everything as it was."""

    def __init__(
        self,
        model: LoadedModel,
        options: TrackOptions,
        window: OrderedDict[int, _Seen],
        objects: dict[int, _Object],
        tracked: int,
    ) -> None:
        """``tracked``: the newest frame that was tracked."""
        self._loaded = model
        self._model: SAM2Base = model.predictor
        self._options = options
        self._tracked = tracked
        self.window = window
        self.objects = objects
        self.rule = MemoryRule.of(model.predictor, options.select_memories)
        self.rejected: list[tuple[_Told, BadPromptError]] = []

    def advance(self, number: int, together: Sequence[_Told]) -> None:
        """Track frame ``number``, if that was not done, with the prompts that came with it."""
        after = []
        for told in together:
            one = self.objects.get(told.prompt.object_id)
            if one is None:
                continue
            if one.bank.started(number) and not _says_what(told):
                after.append(told)
            else:
                self._say(one, number, told)
        self._track(number, [one for one in self.objects.values() if one.bank.get(number) is None])
        self._tracked = number
        self.apply(after, on=number)

    def apply(self, due: Sequence[_Told | _TakenBack], on: int | None = None) -> None:
        """Say or take back what came on its own, and track anew from there on; ``on``: the frame of all of it."""
        for one in due:
            known = self.objects.get(_told(one).prompt.object_id)
            if known is None:
                continue
            if isinstance(one, _TakenBack):
                self._take_back(known, one.told)
            else:
                self._tell(known, one, self._number(one) if on is None else on)

    def _number(self, told: _Told) -> int:
        """The frame that is meant: the one of that index, or the next one if that one was left out."""
        return next(number for number, seen in self.window.items() if seen.index >= told.prompt.frame)

    def _tell(self, one: _Object, told: _Told, number: int) -> None:
        before = one.copy()
        if told.restart:
            one.bank, one.spoken, one.points = MemoryBank(), {}, 0
        if self._say(one, number, told):
            self._replay(one, number + 1)
        else:
            self.objects[one.object_id] = before

    def _say(self, one: _Object, number: int, told: _Told) -> bool:
        """Apply a prompt on top of what is there on the frame; False, and nothing changed, if it does not fit."""
        seen = self.window[number]
        former = one.bank.get(number)
        spoken = one.spoken.get(number, _Spoken("begin" if former is None else "correct", ()))
        try:
            told.check(seen.width, seen.height)
            memory = self._spoken_on(one, number, spoken, told, former)
        except BadPromptError as error:
            self.rejected.append((told, error))
            return False
        self._keep(one, number, memory, spoken.start)
        one.spoken[number] = _Spoken(spoken.start, (*spoken.told, told))
        one.points += len(told.prompt.points)
        told.number = number
        return True

    def _spoken_on(self, one: _Object, number: int, spoken: _Spoken, told: _Told, former: Memory | None) -> Memory:
        seen = self.window[number]
        features, exact = seen.features(self._loaded), self._options.bit_exact
        for said in _steps(spoken.told, told, seen, self._model.image_size):
            if spoken.start == "begin":
                former = begin(self._model, features, said, former, exact)
            else:
                assert former is not None
                attended = one.bank.attended(number, self.rule)
                former = correct(self._model, features, said, former, attended, exact)
        assert former is not None
        assert former.logits is not None
        if spoken.start == "begin" and (former.object_score <= 0 or not bool((former.logits > 0).any())):
            raise BadPromptError(
                f"nothing was found where object {one.object_id} was pointed at; click well inside it, or draw a box"
            )
        return former

    def _keep(self, one: _Object, number: int, memory: Memory, start: Start | None) -> None:
        memory = located(memory, one.bank.get(number - 1), one.bank.get(number - 2)) if self.rule.selective else memory
        stays = number in one.bank.conditioning or start == "begin"
        if stays or (start == "correct" and self._options.keep_corrections):
            one.bank.condition(number, memory, self._options.max_conditioning_frames)
        else:
            one.bank.forget(number)
            one.bank.recent[number] = memory

    def _track(self, number: int, objects: list[_Object]) -> None:
        tracked = [one for one in objects if one.bank.started(number)]
        if not tracked:
            return
        attended = [one.bank.attended(number, self.rule) for one in tracked]
        features = self.window[number].features(self._loaded)
        outcomes = track(self._model, features, attended, self._options.bit_exact)
        for one, memory in zip(tracked, outcomes, strict=True):
            self._keep(one, number, memory, None)

    def _replay(self, one: _Object, first: int) -> None:
        """Track anew from frame ``first`` to the newest one that was tracked, with what was said on the way."""
        for number in self.window:
            if first <= number <= self._tracked:
                self._again(one, number)

    def _again(self, one: _Object, number: int) -> None:
        spoken = one.spoken.pop(number, None)
        if spoken is None and number in one.bank.conditioning:
            return
        one.bank.forget(number)
        if spoken is None or spoken.start == "correct":
            self._track(number, [one])
        for told in () if spoken is None else spoken.told:
            one.points -= len(told.prompt.points)
            self._say(one, number, told)
        if one.bank.get(number) is None:
            self._track(number, [one])

    def _take_back(self, one: _Object, told: _Told) -> None:
        number = told.number
        spoken = None if number is None else one.spoken.get(number)
        if number is None or spoken is None or told not in spoken.told:
            return
        left = tuple(other for other in spoken.told if other is not told)
        one.points -= len(told.prompt.points)
        if left:
            one.spoken[number] = _Spoken(spoken.start, left)
        else:
            del one.spoken[number]
        if number not in self.window:
            if not left and len(one.bank.conditioning) > 1:
                one.bank.forget(number)
            elif not left:
                del self.objects[one.object_id]
            return
        if not left:
            one.bank.forget(number)
            self._bring_back(one)
            if not one.bank.conditioning:
                del self.objects[one.object_id]
                return
        self._again(one, number)
        self._replay(one, number + 1)

    def _bring_back(self, one: _Object) -> None:
        """Make conditioning frames again of those that had to leave for one that was taken back."""
        for number, spoken in sorted(one.spoken.items()):
            memory = one.bank.recent.get(number)
            if memory is not None and (spoken.start == "begin" or self._options.keep_corrections):
                one.bank.condition(number, memory, self._options.max_conditioning_frames)


def _says_what(told: _Told) -> bool:
    """Whether a prompt can stand for itself: it says what belongs to the object."""
    return told.mask is not None or told.prompt.box is not None or 1 in told.prompt.point_labels


def _steps(before: Sequence[_Told], told: _Told, seen: _Seen, image_size: int) -> list[Said]:
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
