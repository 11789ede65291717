"""Backwards through a recording: where an object was on the frames before the one on which it was pointed at.

A recording decodes forwards only. It is read up to the last such frame again and again, each time keeping the last
stretch that was not tracked yet, small as the model sees it; that stretch is then tracked from its end to its start.
The masks wait on disk, coarse, until the frames come by in their order, so that memory holds a stretch of frames and no
more.
"""

from __future__ import annotations

import math
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from streamseg.errors import TooLargeError
from streamseg.media.frame import Frame
from streamseg.media.sampling import Choice
from streamseg.segmentation.decode import Answer
from streamseg.segmentation.embedding import shrink
from streamseg.segmentation.prompts import Prompt
from streamseg.streaming import Submitted, submit_patiently

if TYPE_CHECKING:
    from threading import Event

    from streamseg.pipeline import Pipeline

Chosen: TypeAlias = "tuple[Frame, Choice]"
# Opens the recording anew, from its start.
Reopen: TypeAlias = Callable[[], AbstractContextManager[Iterator[Chosen]]]

# Of frames kept at a time.
STRETCH_BYTES = 256 * 2**20
FRAMES_IN_WORK = 2
REPORT_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer lies in the file, and what of it is not pixels."""

    offset: int
    length: int
    shape: tuple[int, ...]
    score: float
    lost: bool


class EarlierAnswers:
    """Answers for frames before the objects' first prompts, by frame index; kept in a temporary file in ``folder``."""

    def __init__(self, folder: Path | None = None) -> None:
        # Closed by close().
        self._file = tempfile.NamedTemporaryFile(prefix=".earlier-", dir=folder)  # noqa: SIM115
        self._places: dict[int, dict[int, _Place]] = {}
        self._end = 0

    def put(self, index: int, answer: Answer) -> None:
        logits = answer.logits[answer.best : answer.best + 1]
        packed = zlib.compress(logits.astype(np.float16).tobytes(), 1)
        self._file.seek(self._end)
        self._file.write(packed)
        place = _Place(self._end, len(packed), logits.shape, float(answer.scores[answer.best]), answer.lost)
        self._places.setdefault(index, {})[answer.object_id] = place
        self._end += len(packed)

    def get(self, index: int) -> list[Answer]:
        """What is known of the frame ``index``; it is forgotten then."""
        answers = []
        for name, place in self._places.pop(index, {}).items():
            self._file.seek(place.offset)
            packed = zlib.decompress(self._file.read(place.length))
            logits = np.frombuffer(packed, np.float16).reshape(place.shape).astype(np.float32)
            answers.append(Answer(name, logits, np.array([place.score], np.float32), 0, place.lost))
        return answers

    def close(self) -> None:
        self._file.close()


def track_backwards(
    pipeline: Pipeline,
    reopen: Reopen,
    prompts: Sequence[Prompt],
    *,
    on_progress: Callable[[int], None] | None = None,
    cancelled: Event | None = None,
    folder: Path | None = None,
    max_wall_s: float = math.inf,
) -> EarlierAnswers:
    """Track every object from its first prompted frame to the start of the recording.

    ``pipeline``: a fresh one in the mode ``track``. ``reopen``: the chosen frames from the start on.
    ``on_progress``: called with the number of frames tracked. ``cancelled``: ends it early with what there is.
    ``folder``: for the temporary file with the answers, which are the caller's to close. ``max_wall_s``: TooLargeError
    where it takes longer, since a long recording is decoded many times.
    """
    first = {one.object_id: min(p.frame for p in prompts if p.object_id == one.object_id) for one in prompts}
    starting = sorted((one for one in prompts if one.frame == first[one.object_id]), key=lambda one: -one.frame)
    answers = EarlierAnswers(folder)
    try:
        run = _Backwards(pipeline, answers, starting, on_progress, cancelled, time.monotonic() + max_wall_s)
        run.run(reopen)
    except BaseException:
        answers.close()
        raise
    return answers


class _Backwards:
    def __init__(
        self,
        pipeline: Pipeline,
        answers: EarlierAnswers,
        starting: list[Prompt],
        on_progress: Callable[[int], None] | None,
        cancelled: Event | None,
        ends_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._answers = answers
        self._waiting = starting
        self._image_size = pipeline.image_size
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._ends_s = ends_s
        self._last_index = starting[0].frame if starting else 0
        self._work: deque[tuple[int, frozenset[int], Future[Submitted]]] = deque()
        self._done = 0
        self._told_s = 0.0

    def run(self, reopen: Reopen) -> None:
        most = max(2, STRETCH_BYTES // (3 * self._image_size**2))
        end: int | None = None
        while not self._halted():
            stretch, earlier = self._read(reopen, end, most)
            while stretch and not self._halted():
                self._submit(*stretch.pop())
            if not earlier or self._halted():
                break
            end = earlier
        while self._work:
            self._collect()

    def _read(self, reopen: Reopen, end: int | None, most: int) -> tuple[deque[tuple[Frame, float, float]], int]:
        """The last frames before number ``end`` (None: up to the last prompted one), and how many come before them."""
        stretch: deque[tuple[Frame, float, float]] = deque(maxlen=most)
        count = 0
        with reopen() as chosen:
            for frame, choice in chosen:
                if self._halted():
                    break
                if choice is not Choice.SEGMENT:
                    continue
                if count == end:
                    break
                stretch.append(self._small(frame))
                count += 1
                if end is None and frame.index >= self._last_index:
                    break
        return stretch, count - len(stretch)

    def _small(self, frame: Frame) -> tuple[Frame, float, float]:
        side = self._image_size
        small = Frame(shrink(frame.rgb, side), frame.index, frame.time_s)
        return small, side / frame.width, side / frame.height

    def _submit(self, frame: Frame, per_x: float, per_y: float) -> None:
        while len(self._work) >= FRAMES_IN_WORK:
            self._collect()
        # Frames with prompts are never left out, whatever the sampling.
        due = [one for one in self._waiting if one.frame == frame.index]
        started = frozenset(one.object_id for one in due)
        scaled = [_scaled(one, per_x, per_y, self._image_size) for one in due]
        self._work.append((frame.index, started, submit_patiently(self._pipeline, frame, scaled)))

    def _collect(self) -> None:
        index, started, future = self._work.popleft()
        for answer in future.result().value:
            # On the prompted frame itself the way forwards has the answer.
            if answer.object_id not in started:
                self._answers.put(index, answer)
        self._done += 1
        now_s = time.monotonic()
        if self._on_progress is not None and now_s - self._told_s >= REPORT_EVERY_S:
            self._told_s = now_s
            self._on_progress(self._done)

    def _halted(self) -> bool:
        if time.monotonic() > self._ends_s:
            raise TooLargeError("the recording is too long to be followed backwards from there: point at it earlier")
        return self._cancelled is not None and self._cancelled.is_set()


def _scaled(prompt: Prompt, per_x: float, per_y: float, side: int) -> Prompt:
    """The prompt on the frame as the model sees it."""
    box = prompt.box
    mask = None
    if prompt.mask is not None:
        share = cv2.resize(prompt.mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        mask = share >= min(0.5, float(share.max()))
    return Prompt(
        prompt.object_id,
        prompt.frame,
        [(x * per_x, y * per_y) for x, y in prompt.points],
        prompt.point_labels,
        None if box is None else (box[0] * per_x, box[1] * per_y, min(box[2] * per_x, side), min(box[3] * per_y, side)),
        mask,
    )
