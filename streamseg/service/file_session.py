"""One uploaded file: stored piece by piece, processed in a thread of its own, its results told as they come."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from streamseg.errors import BadPromptError, BadStateError, CancelledWorkError, OverloadedError, UnsupportedMediaError
from streamseg.media.sampling import Sampling
from streamseg.media.writer import VideoOptions
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.recording import Progress as JobProgress
from streamseg.recording import RecordingJob, Summary
from streamseg.service.effects import Change, Edit, Processed, Segmented
from streamseg.service.encoding import encode_result
from streamseg.service.file_prompts import FilePrompts, first_difference
from streamseg.service.file_service import FileService
from streamseg.service.files import Job, full_disk_named
from streamseg.service.moments import frames_at
from streamseg.service.protocol.client_messages import PromptRequest, SamplingFields, Start, VideoFields
from streamseg.service.protocol.server_messages import Progress

if TYPE_CHECKING:
    from streamseg.engine import Engine
    from streamseg.media.frame import Frame
    from streamseg.media.video import VideoInfo
    from streamseg.segmentation.masks import FrameResult
    from streamseg.service.metrics import Metrics
    from streamseg.settings import Limits

REPORT_EVERY_S = 0.5
# How long a client hears nothing while its file is in work.
ALIVE_EVERY_S = 5.0
NOTHING_YET = Progress(type="progress", frames=0, total=None, time_s=0.0, fps=0.0, eta_s=None)
# A file whose prompts change while it is processed begins anew; this bounds what one file may cost.
MOST_RUNS = 64


class FileSession:
    """One file of one connection. ``close`` is owed to it, whatever happens.

    ``on_result`` sends a result and returns once there is room for the next one: the file is processed at the client's
    pace. ``on_progress`` must not wait. Both are called on the event loop.
    """

    def __init__(
        self,
        start: Start,
        limits: Limits,
        options: StreamOptions,
        engine: Engine,
        files: FileService,
        metrics: Metrics,
        on_result: Callable[[int, float, Segmented], Coroutine[Any, Any, None]],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._start = start
        self._limits = limits
        self._options = options
        self._engine = engine
        self._files = files
        self._metrics = metrics
        self._on_result = on_result
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._prompts = FilePrompts(limits)
        self._job: Job | None = None
        self._entered = False
        self._published = False
        # Ends the work early; ``_gone`` also makes it worthless.
        self._halted = threading.Event()
        # Ends the run under way, because of that or because it is to be done again.
        self._interrupted = threading.Event()
        self._turning = threading.Lock()
        self._again = False
        self._finished = False
        self._runs = 0
        self._size_wh: tuple[int, int] | None = None
        # Up to this frame the results that were told are those of the prompts as they are.
        self._valid_to = -1
        self._gone = False
        self._told = asyncio.Event()
        self._delivery: Future[None] | None = None
        self._running: Future[Summary] | None = None
        self._ended = asyncio.Event()
        self._pipeline: Pipeline | None = None
        self._reported_s = 0.0
        self._told_s = time.monotonic()
        self._progress = NOTHING_YET

    async def open(self) -> None:
        """Make room for the file; raises OverloadedError, or BadPromptError for a prompt of the start."""
        for prompt in self._start.prompts:
            await self._prompts.add(prompt)
        assert self._start.size_bytes is not None
        self._files.enter()
        self._entered = True
        self._job = await asyncio.to_thread(self._files.store.create, self._start.size_bytes)

    async def change(self, change: Change) -> None:
        """Carry out a prompt, an undo, a removal or a reset."""
        await self._prompts.change(change.request)

    async def amend(self, request: Edit) -> None:
        """A change while the file is processed: that begins anew, and tells results from the frame on from which
        the change makes a difference.

        Raises BadStateError once the file is done, or where the change would leave nothing to segment.
        """
        with self._turning:
            if self._finished or self._halted.is_set():
                raise BadStateError("the file has been processed; start again for other prompts")
        if self._runs >= MOST_RUNS:
            raise OverloadedError(f"the file was begun anew {MOST_RUNS} times; start again with all prompts")
        if isinstance(request, PromptRequest) and self._size_wh is not None:
            # It must not cost what was done so far.
            await self._prompts.check_fits(request, *self._size_wh)
        before = self._prompts.said
        await self._prompts.change(request)
        if not self._prompts.said:
            self._prompts.said = before
            raise BadStateError("nothing would be left to segment; stop ends the session")
        with self._turning:
            if self._finished or self._gone:
                raise BadStateError("the file has been processed; start again for other prompts")
            self._again = True
            first = 0 if self._start.backwards else first_difference(request, before)
            self._valid_to = min(self._valid_to, first - 1)
            self._interrupted.set()

    def _know(self, info: VideoInfo) -> None:
        self._size_wh = info.width, info.height

    async def store(self, piece: bytes) -> None:
        """Write the next piece of the file; raises OverloadedError where the disk is full."""
        assert self._job is not None
        await asyncio.to_thread(self._job.write, piece)
        self._metrics.upload_bytes.inc(len(piece))

    async def process(self) -> Processed:
        """Process the file once it is its turn; raises StreamsegError."""
        assert self._job is not None
        await asyncio.to_thread(self._job.close)
        if not self._prompts.said:
            raise BadPromptError("say what to segment: a file needs a prompt in start, or before its last chunk")
        turn = asyncio.create_task(self._in_turn())
        halted = asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait({turn, halted}, return_when=asyncio.FIRST_COMPLETED)
            if self._running is None and not turn.done():
                return Processed([], [])
            summary = await asyncio.shield(turn)
        except asyncio.CancelledError:
            self._abandon()
            raise
        except (CancelledWorkError, UnsupportedMediaError):
            # The latter where the file was closed before it was read.
            if self._gone or not self._halted.is_set():
                raise
            return Processed([], [])
        finally:
            turn.cancel()
            halted.cancel()
            await asyncio.gather(turn, halted, return_exceptions=True)
        files = []
        if summary.frames:
            files = await asyncio.to_thread(self._files.store.publish, self._job, list(summary.files))
            self._published = True
        return Processed(files, list(summary.problems))

    async def _in_turn(self) -> Summary:
        async with self._files.line.turn(self._tell_place):
            self._metrics.file_jobs.inc()
            try:
                self._running = self._files.executor.submit(self._run)
                self._running.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._ended.set))
                # The turn lasts until the thread has ended, whoever stops waiting for it.
                while not self._ended.is_set():
                    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                        async with asyncio.timeout(ALIVE_EVERY_S):
                            await self._ended.wait()
                    self._tell_alive()
                return self._running.result()
            finally:
                self._metrics.file_jobs.dec()

    def _tell_alive(self) -> None:
        """Say something where nothing was said for long: passing over frames and finishing files takes its time."""
        if not self._gone and time.monotonic() - self._told_s >= ALIVE_EVERY_S:
            self._tell(self._progress)

    def _tell(self, progress: Progress) -> None:
        self._told_s, self._progress = time.monotonic(), progress
        self._on_progress(progress)

    def _tell_place(self, place: int) -> None:
        self._on_progress(NOTHING_YET.model_copy(update={"waiting": place}))

    def halt(self) -> None:
        """End the processing early; what there is so far is kept."""
        self._halted.set()
        self._interrupted.set()
        self._told.set()

    async def close(self) -> None:
        """End what is under way; everything that was not published is gone when this returns."""
        self._abandon()
        if self._running is not None:
            await self._ended.wait()
        # First of all: whoever has heard that this file is over finds its place free.
        if self._entered:
            self._entered = False
            self._files.leave()
        job, self._job = self._job, None
        if job is not None and not self._published:
            await asyncio.to_thread(self._files.store.remove, job)
        # An error in it knows this session by its traceback.
        self._running = None

    def _abandon(self) -> None:
        self._gone = True
        self.halt()
        delivery, pipeline = self._delivery, self._pipeline
        if delivery is not None:
            delivery.cancel()
        if pipeline is not None:
            pipeline.close()

    # In the file's own thread

    def _run(self) -> Summary:
        try:
            return self._run_until_valid()
        except Exception as error:
            # The error is told later; until then it must not hold the pictures and masks of what it ended.
            _forget_locals(error)
            raise

    def _run_until_valid(self) -> Summary:
        while True:
            try:
                summary = self._run_once()
            except CancelledWorkError:
                # The reader gave up, because of what made this run void.
                if not self._is_void():
                    raise
                continue
            if not self._is_void():
                return summary

    def _is_void(self) -> bool:
        """Whether the run that has ended is to be done again; if not, nothing can be changed any more."""
        with self._turning:
            again = self._again and not self._halted.is_set()
            self._again = False
            self._finished = not again
            if again:
                self._runs += 1
                self._interrupted.clear()
            return again

    def _run_once(self) -> Summary:
        assert self._job is not None
        if self._gone:
            raise CancelledWorkError("the client has left")
        start = self._start
        for left in self._job.results.iterdir():
            left.unlink()
        pipeline = Pipeline(self._engine, self._options, self._limits.prompts())
        self._pipeline = pipeline
        video = start.video or VideoFields()
        try:
            with full_disk_named():
                return RecordingJob(
                    source=self._job.upload,
                    prompts=self._prompts.placed(self._frames_at),
                    folder=self._job.results,
                    formats=frozenset({"rle"} if start.video is None else {"rle", "overlay"}),
                    sampling=_sampling(start.sampling),
                    video=VideoOptions(**video.model_dump()),
                    limits=self._limits.video(),
                    untrusted=True,
                    backwards=start.backwards,
                ).run(
                    pipeline,
                    on_info=self._know,
                    on_progress=self._report,
                    on_result=self._deliver,
                    cancelled=self._interrupted,
                )
        finally:
            pipeline.close()

    def _frames_at(self, times_s: list[float]) -> dict[float, int]:
        assert self._job is not None
        return frames_at(self._job.upload, times_s, self._limits.video(), self._interrupted)

    def _deliver(self, frame: Frame, result: FrameResult) -> None:
        if result.held or not self._is_news(result.index):
            return
        segmented = encode_result(frame, result, self._start)
        self._check_gone()
        self._delivery = asyncio.run_coroutine_threadsafe(
            self._on_result(result.index, round(result.time_s, 6), segmented), self._loop
        )
        # ``close`` either finds the delivery or is found here.
        if self._gone:
            self._delivery.cancel()
        try:
            self._delivery.result()
        except CancelledError:
            raise CancelledWorkError("the client has left") from None

    def _is_news(self, index: int) -> bool:
        with self._turning:
            if self._again or index <= self._valid_to:
                return False
            self._valid_to = index
            return True

    def _report(self, progress: JobProgress) -> None:
        self._check_gone()
        now = time.monotonic()
        if now - self._reported_s < REPORT_EVERY_S:
            return
        self._reported_s = now
        assert self._job is not None
        self._files.store.account(self._job)
        self._loop.call_soon_threadsafe(
            self._tell,
            Progress(
                type="progress",
                frames=progress.frames,
                total=progress.total,
                time_s=round(progress.time_s, 6),
                fps=round(progress.fps, 3),
                eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
                backwards=progress.backwards or None,
            ),
        )

    def _check_gone(self) -> None:
        if self._gone:
            raise CancelledWorkError("the client has left")


def _forget_locals(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _sampling(fields: SamplingFields | None) -> Sampling:
    return Sampling() if fields is None else Sampling(**fields.model_dump())
