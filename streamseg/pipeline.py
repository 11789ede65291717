"""Ties the path together: each frame's way through decoding, the model, refinement and whatever the sink makes of it.

Every way in (websocket, command line, Python) holds one ``Pipeline`` for each stream; they differ in where frames come
from and where results go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from streamseg.engine import Done, Engine
from streamseg.errors import BadSettingError, BadStateError, CancelledWorkError
from streamseg.segmentation.image import ImageSegmenter
from streamseg.segmentation.lift import lift, lift_window
from streamseg.segmentation.masks import Candidate, FrameResult, MaskRegion, ObjectResult, State
from streamseg.segmentation.prompts import Prompt, PromptLimits
from streamseg.segmentation.refine import RefineOptions, refine_mask
from streamseg.segmentation.segmenter import MODES, Mode, Rejected, Segmenter
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.tracking import Tracker

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.decode import Answer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How one stream is segmented.

    ``mode``: ``image``, each frame by itself, or ``track``, the video model; ``track`` says how objects are tracked.
    ``carry``: in the mode ``image``, on the frames after its prompt an object goes on from its previous mask; otherwise
    its prompts are applied again to every frame. ``multimask``: also give the other readings of each prompt (``image``
    only). ``second_look``: look at objects a second time, in the mode ``image`` and without ``multimask``, if the
    model gains from it. ``score_threshold``: masks with a lower predicted IoU become ``low_score``. Raises
    BadSettingError.
    """

    mode: Mode = "image"
    carry: bool = True
    multimask: bool = False
    second_look: bool = False
    score_threshold: float | None = None
    refine: RefineOptions = field(default_factory=RefineOptions)
    track: TrackOptions = field(default_factory=TrackOptions)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BadSettingError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.multimask and self.mode != "image":
            raise BadSettingError('multimask is for the mode "image": a tracked object has one mask')


@dataclass(frozen=True, slots=True)
class _Step:
    """One frame's turn at the model. Prompts are read when it comes, so that a late click still counts."""

    segmenter: Segmenter
    frame: Frame
    prompts: Sequence[Prompt] = ()

    def run(self, model: LoadedModel) -> list[Answer]:
        return self.segmenter.step(model, self.frame, self.prompts)


@dataclass(frozen=True, slots=True)
class _Save:
    tracker: Tracker

    def run(self, model: LoadedModel) -> bytes:
        return self.tracker.save(model)


@dataclass(frozen=True, slots=True)
class _Restore:
    tracker: Tracker
    data: bytes

    def run(self, model: LoadedModel) -> None:
        self.tracker.restore(model, self.data)


class Pipeline:
    """One stream. Frames come one after the other; prompts may come at any time, from any thread."""

    def __init__(
        self, engine: Engine, options: StreamOptions | None = None, limits: PromptLimits | None = None
    ) -> None:
        self._engine = engine
        self._options = options or StreamOptions()
        self._limits = limits
        self._segmenter = _segmenter(engine.model, self._options, limits)
        self._closed = False

    @property
    def object_ids(self) -> tuple[int, ...]:
        return self._segmenter.object_ids

    def add_prompt(
        self,
        prompt: Prompt,
        replace: bool = False,
        tag: str | None = None,
        on_next: bool = False,
        author: Hashable = None,
        own: bool = False,
    ) -> None:
        """See ``Segmenter.add_prompt``."""
        self._segmenter.add_prompt(prompt, replace, tag, on_next, author, own)

    def undo(self, author: Hashable = None) -> int:
        """See ``Segmenter.undo``."""
        return self._segmenter.undo(author)

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        self._segmenter.remove(object_id)

    def reset(self) -> None:
        """Forget all objects."""
        self._segmenter.reset()

    def take_rejected(self) -> list[Rejected]:
        """See ``Segmenter.take_rejected``."""
        return self._segmenter.take_rejected()

    def save_state(self) -> bytes:
        """What the tracker remembers, for ``restore_state`` of another pipeline with the same model.

        Raises BadStateError in another mode than ``track``.
        """
        return self._engine.submit(_Save(self._tracker()), self).result().value

    def restore_state(self, data: bytes) -> None:
        """Go on from a saved state: the same masks on the frames that come. BadStateError if it is none."""
        self._engine.submit(_Restore(self._tracker(), data), self).result()

    def beside(self) -> Pipeline:
        """A fresh pipeline with the same model and options."""
        return Pipeline(self._engine, self._options, self._limits)

    @property
    def options(self) -> StreamOptions:
        return self._options

    @property
    def image_size(self) -> int:
        """Side of the model's square input in pixels."""
        return self._engine.model.image_size

    def _tracker(self) -> Tracker:
        if not isinstance(self._segmenter, Tracker):
            raise BadStateError('there is a state to keep in the mode "track" only')
        return self._segmenter

    def process(self, frame: Frame) -> FrameResult:
        """Segment one frame with the prompts so far, blocking.

        The very same frame again reuses its image embedding.
        """
        return self.finish(frame, self.submit(frame).result())

    async def run(self, load: Callable[[], Frame], finish: Callable[[Frame, FrameResult], T]) -> T:
        """Load a frame (decoding), segment and refine it, and ``finish`` it (encoding), off the event loop."""
        started = time.perf_counter()
        frame = await asyncio.to_thread(load)
        return await self._run(frame, 1e3 * (time.perf_counter() - started), finish)

    async def rerun(self, finish: Callable[[Frame, FrameResult], T]) -> T:
        """Segment the last frame again with the prompts as they now are; its embedding is not computed again."""
        frame = self._segmenter.last_frame
        if frame is None:
            raise BadStateError("there is no frame yet")
        return await self._run(frame, 0.0, finish)

    async def _run(self, frame: Frame, decode_ms: float, finish: Callable[[Frame, FrameResult], T]) -> T:
        done = await asyncio.wrap_future(self.submit(frame))
        return await asyncio.to_thread(lambda: finish(frame, self.finish(frame, done, decode_ms)))

    def close(self) -> None:
        """Cancel what waits and free the memory of the stream."""
        self._closed = True
        self._engine.cancel(self)
        self._segmenter.clear()

    def submit(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> Future[Done[list[Answer]]]:
        """Queue a frame for the model; what comes of it goes to ``finish``. ``prompts`` count from this frame on."""
        if self._closed:
            raise CancelledWorkError("the session has ended")
        return self._engine.submit(_Step(self._segmenter, frame, prompts), self)

    def finish(self, frame: Frame, done: Done[list[Answer]], decode_ms: float = 0.0) -> FrameResult:
        """The model's answers as refined masks of the frame's size."""
        started = time.perf_counter()
        objects = []
        for answer in done.value:
            # The masks of a large picture are seconds of work, for nobody once the session has ended.
            if self._closed:
                raise CancelledWorkError("the session has ended")
            objects.append(self._result(frame, answer))
        timings_ms = {
            "decode": decode_ms,
            "queue": done.queue_ms,
            "segment": done.run_ms,
            "refine": 1e3 * (time.perf_counter() - started),
        }
        return FrameResult(frame.index, frame.time_s, frame.width, frame.height, tuple(objects), timings_ms)

    def _result(self, frame: Frame, answer: Answer) -> ObjectResult:
        readings = [
            self._reading(lift(logits, frame.width, frame.height), float(score))
            for place, (logits, score) in enumerate(zip(answer.logits, answer.scores, strict=True))
            if place == answer.best or self._options.multimask
        ]
        best = readings.pop(answer.best if self._options.multimask else 0)
        if answer.second is not None:
            seen = answer.second
            best = self._reading(lift_window(seen.logits, seen.window_xyxy_px, frame.width, frame.height), seen.score)
        region, state = best.region, _state(best, answer.lost, self._options.score_threshold)
        if state != "tracked":
            region = MaskRegion.empty(frame.width, frame.height)
        return ObjectResult(answer.object_id, region, best.score, state, tuple(readings))

    def _reading(self, region: MaskRegion, score: float) -> Candidate:
        return Candidate(refine_mask(region, self._options.refine), min(max(score, 0.0), 1.0))


def _segmenter(model: LoadedModel, options: StreamOptions, limits: PromptLimits | None) -> Segmenter:
    if options.mode == "track":
        return Tracker(model.image_size, options.track, limits)
    return ImageSegmenter(
        model.mask_input_size,
        carry=options.carry,
        multimask=options.multimask,
        second_look=options.second_look,
        limits=limits,
    )


def _state(reading: Candidate, lost: bool, score_threshold: float | None) -> State:
    if lost or reading.region.area_px == 0:
        return "lost"
    if score_threshold is not None and reading.score < score_threshold:
        return "low_score"
    return "tracked"
