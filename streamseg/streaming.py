"""A source of frames through the pipeline, stages overlapping: while one frame is segmented, the next is decoded and
the former one refined. Results come out in order, and nothing is dropped: whoever reads slowly slows the source down.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from streamseg.engine import Done
from streamseg.errors import OverloadedError
from streamseg.media.sampling import Choice
from streamseg.segmentation.masks import FrameResult, MaskRegion, ObjectResult

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.pipeline import Pipeline
    from streamseg.segmentation.decode import Answer
    from streamseg.segmentation.prompts import Prompt

T = TypeVar("T")
Chosen: TypeAlias = "tuple[Frame, Choice]"
Submitted: TypeAlias = "Done[list[Answer]]"

# Frames decoded ahead, and frames between the model and the reader: enough that no stage waits for another one's
# jitter, few enough that a 4K stream stays within some hundred MB.
FRAMES_AHEAD = 3
FRAMES_IN_WORK = 3
RETRY_S = 0.02


def segment_stream(
    pipeline: Pipeline,
    frames: Iterable[Chosen],
    prompts: Sequence[Prompt] = (),
    earlier: Callable[[int], list[Answer]] | None = None,
    *,
    live: bool = False,
) -> Generator[tuple[Frame, FrameResult], None, None]:
    """Segment the chosen frames of a source, in order.

    ``frames``: frames with what is to be done with each (``VideoReader.frames``). Each of ``prompts`` is applied to its
    own frame, or to the next one that comes, if sampling left that one out. Every object has its place in all results,
    in the order of the prompts; it is ``lost`` before its first prompt, unless ``earlier`` knows of it on a
    frame of that index. ``live``: nothing is read ahead, and each result comes before the next frame is asked for: of a
    source that gives its newest frame, frames that wait here would be old ones. Closing the iterator ends its threads.
    """
    order = tuple(dict.fromkeys(prompt.object_id for prompt in prompts))
    waiting = list(prompts)
    results: deque[Future[tuple[Frame, FrameResult]]] = deque()
    finisher = _Finisher(pipeline, order, earlier)
    in_work = 1 if live else FRAMES_IN_WORK
    reading = nullcontext(_timed(frames)) if live else _Ahead(frames, FRAMES_AHEAD)
    with reading as ahead, ThreadPoolExecutor(1, "streamseg-finish") as pool:
        try:
            for (frame, choice), decode_ms in ahead:
                if choice is Choice.HOLD:
                    results.append(pool.submit(finisher.hold, frame))
                else:
                    due = [prompt for prompt in waiting if prompt.frame <= frame.index]
                    waiting = [prompt for prompt in waiting if prompt.frame > frame.index]
                    answers = submit_patiently(pipeline, frame, due)
                    results.append(pool.submit(finisher.finish, frame, answers, decode_ms))
                while len(results) >= in_work:
                    yield results.popleft().result()
            while results:
                yield results.popleft().result()
        finally:
            for result in results:
                result.cancel()


def _timed(source: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Each item with the ms it took."""
    began = time.perf_counter()
    for item in source:
        yield item, 1e3 * (time.perf_counter() - began)
        began = time.perf_counter()


def submit_patiently(pipeline: Pipeline, frame: Frame, prompts: Sequence[Prompt]) -> Future[Submitted]:
    """Queue a frame for the model as soon as there is room."""
    while True:
        try:
            return pipeline.submit(frame, prompts)
        except OverloadedError:
            # Others fill the queue. A recording can wait, its frames cannot be dropped.
            time.sleep(RETRY_S)


class _Finisher:
    """Runs on one thread, so that frames are finished in order."""

    def __init__(
        self, pipeline: Pipeline, order: tuple[int, ...], earlier: Callable[[int], list[Answer]] | None
    ) -> None:
        self._pipeline = pipeline
        self._earlier = earlier
        self._order = order
        self._last: FrameResult | None = None

    def finish(self, frame: Frame, answers: Future[Submitted], decode_ms: float) -> tuple[Frame, FrameResult]:
        done = answers.result()
        if self._earlier is not None:
            done = replace(done, value=[*done.value, *self._earlier(frame.index)])
        result = self._complete(self._pipeline.finish(frame, done, decode_ms))
        self._last = result
        return frame, result

    def hold(self, frame: Frame) -> tuple[Frame, FrameResult]:
        if self._last is None:
            result = self._complete(FrameResult(frame.index, frame.time_s, frame.width, frame.height))
        else:
            result = replace(self._last, index=frame.index, time_s=frame.time_s, timings_ms={})
        return frame, replace(result, held=True)

    def _complete(self, result: FrameResult) -> FrameResult:
        known = {one.object_id: one for one in result.objects}
        nothing = MaskRegion.empty(result.width, result.height)
        objects = [
            known.pop(name) if name in known else ObjectResult(name, nothing, 0.0, "lost") for name in self._order
        ]
        return replace(result, objects=(*objects, *known.values()))


class _Ahead(Generic[T]):
    """Iterates over ``source`` on a thread of its own, ``depth`` items ahead; gives each with the ms it took."""

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = source
        self._ready: queue.Queue[tuple[T, float] | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="streamseg-decode", daemon=True)

    def __enter__(self) -> _Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            # Makes room for an item that the thread is about to leave behind.
            while not self._ready.empty():
                self._ready.get_nowait()
            self._thread.join(0.01)

    def __iter__(self) -> Iterator[tuple[T, float]]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        items = iter(self._source)
        try:
            while not self._stopped.is_set():
                began = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    self._ready.put(None)
                    return
                self._ready.put((item, 1e3 * (time.perf_counter() - began)))
        except BaseException as error:
            self._ready.put(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
