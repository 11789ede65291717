"""One step of the tracker: a new frame, and what was said since the last one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamseg.errors import BadPromptError
from streamseg.segmentation.memory import MemoryBank, MemoryRule
from streamseg.segmentation.motion import located
from streamseg.segmentation.track_step import begin, correct, track
from streamseg.segmentation.tracked_object import (
    Seen,
    Spoken,
    Start,
    TakenBack,
    Told,
    TrackedObject,
    says_what,
    steps_of,
    told_of,
)

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.memory import Memory
    from streamseg.segmentation.track_options import TrackOptions


class TrackRun:
    """One step on copies of the objects, so that a failure leaves everything as it was."""

    def __init__(
        self,
        model: LoadedModel,
        options: TrackOptions,
        window: OrderedDict[int, Seen],
        objects: dict[int, TrackedObject],
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
        self.rejected: list[tuple[Told, BadPromptError]] = []

    def advance(self, number: int, together: Sequence[Told]) -> None:
        """Track frame ``number``, if that was not done, with the prompts that came with it."""
        after = []
        for told in together:
            one = self.objects.get(told.prompt.object_id)
            if one is None:
                continue
            if one.bank.started(number) and not says_what(told):
                after.append(told)
            else:
                self._say(one, number, told)
        self._track(number, [one for one in self.objects.values() if one.bank.get(number) is None])
        self._tracked = number
        self.apply(after, on=number)

    def apply(self, due: Sequence[Told | TakenBack], on: int | None = None) -> None:
        """Say or take back what came on its own, and track anew from there on; ``on``: the frame of all of it."""
        for one in due:
            known = self.objects.get(told_of(one).prompt.object_id)
            if known is None:
                continue
            if isinstance(one, TakenBack):
                self._take_back(known, one.told)
            else:
                self._tell(known, one, self._number(one) if on is None else on)

    def _number(self, told: Told) -> int:
        """The frame that is meant: the one of that index, or the next one if that one was left out."""
        return next(number for number, seen in self.window.items() if seen.index >= told.prompt.frame)

    def _tell(self, one: TrackedObject, told: Told, number: int) -> None:
        before = one.copy()
        if told.restart:
            one.bank, one.spoken, one.points = MemoryBank(), {}, 0
        if self._say(one, number, told):
            self._replay(one, number + 1)
        else:
            self.objects[one.object_id] = before

    def _say(self, one: TrackedObject, number: int, told: Told) -> bool:
        """Apply a prompt on top of what is there on the frame; False, and nothing changed, if it does not fit."""
        seen = self.window[number]
        former = one.bank.get(number)
        spoken = one.spoken.get(number, Spoken("begin" if former is None else "correct", ()))
        try:
            told.check(seen.width, seen.height)
            memory = self._spoken_on(one, number, spoken, told, former)
        except BadPromptError as error:
            self.rejected.append((told, error))
            return False
        self._keep(one, number, memory, spoken.start)
        one.spoken[number] = Spoken(spoken.start, (*spoken.told, told))
        one.points += len(told.prompt.points)
        told.number = number
        return True

    def _spoken_on(self, one: TrackedObject, number: int, spoken: Spoken, told: Told, former: Memory | None) -> Memory:
        if spoken.start == "begin" and not any(map(says_what, (*spoken.told, told))):
            raise BadPromptError("say first what belongs to the object: a click with label 1, a box or a mask")
        seen = self.window[number]
        features, exact = seen.features(self._loaded), self._options.bit_exact
        for said in steps_of(spoken.told, told, seen, self._model.image_size):
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

    def _keep(self, one: TrackedObject, number: int, memory: Memory, start: Start | None) -> None:
        memory = located(memory, one.bank.get(number - 1), one.bank.get(number - 2)) if self.rule.selective else memory
        stays = number in one.bank.conditioning or start == "begin"
        if stays or (start == "correct" and self._options.keep_corrections):
            one.bank.condition(number, memory, self._options.max_conditioning_frames)
        else:
            one.bank.forget(number)
            one.bank.recent[number] = memory

    def _track(self, number: int, objects: list[TrackedObject]) -> None:
        tracked = [one for one in objects if one.bank.started(number)]
        if not tracked:
            return
        attended = [one.bank.attended(number, self.rule) for one in tracked]
        features = self.window[number].features(self._loaded)
        outcomes = track(self._model, features, attended, self._options.bit_exact)
        for one, memory in zip(tracked, outcomes, strict=True):
            self._keep(one, number, memory, None)

    def _replay(self, one: TrackedObject, first: int) -> None:
        """Track anew from frame ``first`` to the newest one that was tracked, with what was said on the way."""
        for number in self.window:
            if first <= number <= self._tracked:
                self._again(one, number)

    def _again(self, one: TrackedObject, number: int) -> None:
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

    def _take_back(self, one: TrackedObject, told: Told) -> None:
        number = told.number
        spoken = None if number is None else one.spoken.get(number)
        if number is None or spoken is None or told not in spoken.told:
            return
        left = tuple(other for other in spoken.told if other is not told)
        one.points -= len(told.prompt.points)
        if left:
            one.spoken[number] = Spoken(spoken.start, left)
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

    def _bring_back(self, one: TrackedObject) -> None:
        """Make conditioning frames again of those that had to leave for one that was taken back."""
        for number, spoken in sorted(one.spoken.items()):
            memory = one.bank.recent.get(number)
            if memory is not None and (spoken.start == "begin" or self._options.keep_corrections):
                one.bank.condition(number, memory, self._options.max_conditioning_frames)
