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
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from streamseg.errors import BadPromptError, BadStateError, FrameSizeError
from streamseg.segmentation.decode import Answer
from streamseg.segmentation.history import History
from streamseg.segmentation.memory import MemoryBank
from streamseg.segmentation.prompts import PromptLimits
from streamseg.segmentation.segmenter import (
    MAX_REJECTED,
    Rejected,
    check_mask_memory,
    check_own,
    check_room,
    unknown_object,
)
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.track_run import TrackRun
from streamseg.segmentation.track_state import SavedObject, SavedTracker, from_bytes, to_bytes
from streamseg.segmentation.track_step import restored
from streamseg.segmentation.tracked_object import Seen, TakenBack, Told, TrackedObject, told_of

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.memory import Memory
    from streamseg.segmentation.prompts import Prompt

# A frame counts as of another shape from this relative change of its aspect ratio on; encoders round to even sides.
SHAPE_TOLERANCE = 0.02
# Prompts of one object on one frame, and of those that wait: masks must not pile up.
MAX_SAID = 64


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
        self._objects: dict[int, TrackedObject] = {}
        self._waiting: list[Told | TakenBack] = []
        self._history: History[Told] = History()
        self._rejected: list[Rejected] = []
        # What the model is at; an object is not forgotten while its first prompt is there.
        self._in_work: list[Told | TakenBack] = []
        self._window: OrderedDict[int, Seen] = OrderedDict()
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

    def add_prompt(
        self,
        prompt: Prompt,
        replace: bool = False,
        tag: str | None = None,
        on_next: bool = False,
        author: Hashable = None,
        own: bool = False,
    ) -> None:
        """See ``Segmenter``; BadPromptError too for a frame that has passed too long ago to be corrected."""
        told = Told(prompt, self._coarse(prompt), replace, tag, on_next)
        with self._lock:
            known = self._objects.get(prompt.object_id)
            if own and known is not None:
                check_own(prompt.object_id, known.author, author)
            waiting = [one.prompt for one in self._waiting if isinstance(one, Told)]
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
                self._objects[prompt.object_id] = TrackedObject(prompt.object_id, author=author)
            self._waiting.append(told)
            self._history.add(author, told)

    def undo(self, author: Hashable = None) -> int:
        """See ``Segmenter``. On a frame that has passed too long ago for a correction the object goes on from where it
        is; once everything that was said on that frame was taken back, without remembering it."""
        with self._lock:
            while (taken := self._history.take(author)) is not None:
                told, since = taken
                object_id = told.prompt.object_id
                void = any(other.restart and other.prompt.object_id == object_id for other in since)
                if void or object_id not in self._objects:
                    continue
                if told in self._waiting:
                    self._waiting.remove(told)
                    self._drop_if_nothing(object_id)
                else:
                    self._waiting.append(TakenBack(told))
                return object_id
        raise BadStateError("there is no prompt left to take back")

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        with self._lock:
            if self._objects.pop(object_id, None) is None:
                raise unknown_object(object_id, self._objects)
            self._waiting = [one for one in self._waiting if told_of(one).prompt.object_id != object_id]
            self._history.drop(lambda told: told.prompt.object_id == object_id)

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
        together = [Told(prompt, self._coarse(prompt), False, None) for prompt in prompts]
        with self._lock:
            self._check_shape(frame)
            again = self._last is frame
            number = self._frames - 1 if again else self._frames
            due, self._waiting = self._due(frame.index)
            self._enter(together, frame, number)
            self._in_work = [*due, *together]
            originals = dict(self._objects)
        try:
            check_mask_memory(frame, len(originals), 1, self._limits)
            window = OrderedDict(self._window)
            if not again:
                window[number] = Seen.of(frame, self._image_size)
            objects = {name: one.copy() for name, one in originals.items()}
            run = TrackRun(model, self._options, window, objects, number if again else number - 1)
            run.apply([one for one in due if not self._is_for(one, number)])
            run.advance(number, together)
            run.apply([one for one in due if self._is_for(one, number)], on=number)
        except BaseException:
            # The frame is lost with the prompts that came with it; everything else is as it was.
            with self._lock:
                self._in_work = []
                self._put_back(due, originals)
                self._history.drop(lambda told: told in together)
                self._forget_the_unborn()
            raise
        with self._lock:
            self._in_work = []
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
            objects[one.object_id] = TrackedObject(one.object_id, bank, points=one.points)
        self.clear()
        with self._lock:
            self._objects = objects
            self._frames = saved.frames
            # The frames that come may be counted from anywhere.
            self._passed = -1
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

    def _meant(self, told: Told) -> int | None:
        """The frame that is meant, if it was seen already."""
        if told.on_next:
            return None
        return next((number for number, seen in self._window.items() if seen.index >= told.prompt.frame), None)

    def _size_of(self, told: Told) -> tuple[int, int] | None:
        """Of the frame that is meant, (width, height), as far as it is known."""
        number = self._meant(told)
        if number is None and not self._follows():
            # The next frame may have any size.
            return None
        return self._shape_wh if number is None else (self._window[number].width, self._window[number].height)

    def _check_moment(self, told: Told) -> None:
        if told.on_next or told.prompt.frame > self._passed:
            return
        raise BadPromptError(
            f"frame {told.prompt.frame} has passed: the last {self._options.correction_window_frames} frames, after "
            f"{self._passed}, can still be corrected"
        )

    def _follows(self) -> bool:
        return any(one.bank.conditioning for one in self._objects.values())

    def _check_shape(self, frame: Frame) -> None:
        if self._shape_wh is None:
            return
        width, height = self._shape_wh
        change = (frame.width * height) / (frame.height * width)
        if abs(change - 1.0) <= SHAPE_TOLERANCE:
            return
        if not self._follows():
            # What was seen before belongs to another picture.
            self._passed = max([self._passed, *(seen.index for seen in self._window.values())])
            self._window.clear()
        else:
            raise FrameSizeError(
                f"the frame has {frame.width} x {frame.height} pixels, the ones before had {width} x {height}: objects "
                "are followed on frames of one shape; reset, then point at them again"
            )

    def _put_back(self, due: list[Told | TakenBack], originals: dict[int, TrackedObject]) -> None:
        """Let what was due wait on, but for what was forgotten or taken back in the meantime.

        A prompt that is there when a frame fails again is given up: it must not hold up the stream for ever.
        """
        since = [one.told for one in self._waiting if isinstance(one, TakenBack)]
        undone = [one for one in due if isinstance(one, Told) and one in since]
        names = {name for name, one in originals.items() if self._objects.get(name) is one}
        due = [one for one in due if one not in undone and told_of(one).prompt.object_id in names]
        given_up: list[Told] = []
        for one in list(due):
            if not isinstance(one, Told):
                continue
            if one.failed:
                due.remove(one)
                given_up.append(one)
                self._reject(one, BadPromptError("the frame failed with this prompt; use fewer objects"))
            one.number, one.failed = None, True
        self._history.drop(lambda told: told in given_up)
        waiting = [one for one in self._waiting if not (isinstance(one, TakenBack) and one.told in undone)]
        self._waiting = [*due, *waiting]

    def _due(self, index: int) -> tuple[list[Told | TakenBack], list[Told | TakenBack]]:
        """What is to be done with the frame of this index, and what goes on waiting."""
        due = [one for one in self._waiting if self._has_come(one, index)]
        return due, [one for one in self._waiting if one not in due]

    @staticmethod
    def _has_come(one: Told | TakenBack, index: int) -> bool:
        return isinstance(one, TakenBack) or one.on_next or one.prompt.frame <= index

    def _is_for(self, one: Told | TakenBack, number: int) -> bool:
        """Whether it is about the newest frame, and so is done once that was tracked."""
        if isinstance(one, TakenBack):
            return one.told.number == number
        before = [seen.index for known, seen in self._window.items() if known < number]
        return one.on_next or not before or one.prompt.frame > before[-1]

    def _enter(self, together: list[Told], frame: Frame, number: int) -> None:
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
                self._objects[name] = TrackedObject(name)
            self._history.add(None, told)

    def _commit(self, run: TrackRun, originals: dict[int, TrackedObject], number: int, frame: Frame) -> None:
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
        rejected = [told for told, _ in run.rejected]
        self._history.drop(lambda told: told in rejected)
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
        waits = any(told_of(told).prompt.object_id == object_id for told in (*self._waiting, *self._in_work))
        if one is not None and not one.bank.conditioning and not waits:
            del self._objects[object_id]

    def _reject(self, told: Told, error: BadPromptError) -> None:
        if len(self._rejected) < MAX_REJECTED:
            self._rejected.append(Rejected(told.prompt.object_id, error, told.tag))


def _answers(memories: list[tuple[int, Memory | None]]) -> list[Answer]:
    known = [(name, memory) for name, memory in memories if memory is not None and memory.logits is not None]
    if not known:
        return []
    stacked = torch.cat([memory.logits for _, memory in known if memory.logits is not None]).float().cpu().numpy()
    return [
        Answer(name, logits, np.array([memory.score], np.float32), 0, lost=memory.object_score <= 0)
        for (name, memory), logits in zip(known, stacked, strict=True)
    ]
