"""The client for plain scripts and notebooks: the same methods, which wait.

An event loop in a thread of its own does the work, so that it also runs where another event loop already does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from streamseg.client.asynchronous import AsyncClient
from streamseg.client.kept import AsyncImageSession
from streamseg.client.live import AsyncStream
from streamseg.client.pictures import ImageLike
from streamseg.client.recorded import AsyncRecording, RemoteProgress, RemoteSummary
from streamseg.client.wire import RemoteResult
from streamseg.errors import BadStateError
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt
from streamseg.segmentation.segmenter import Mode

T = TypeVar("T")

# Longer than a server takes to answer a close, or the client to give up waiting for it.
SHUT_TIMEOUT_S = 8.0


class _Loop:
    """An event loop in a daemon thread, stopped when its owner is closed, collected, or Python ends."""

    def __init__(self, client: AsyncClient) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamseg client", daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, _shut, self._loop, self._thread, client)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it; an interrupt of the caller cancels it."""
        if not self._stop.alive:
            work.close()
            raise BadStateError("this client is closed: make a new one")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._stop()


def _shut(loop: asyncio.AbstractEventLoop, thread: threading.Thread, client: AsyncClient) -> None:
    async def finish() -> None:
        await client.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_default_executor()

    if threading.current_thread() is thread:
        # The garbage collector may run anywhere; the loop cannot wait for itself.
        loop.stop()
        return
    with contextlib.suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(finish(), loop).result(timeout=SHUT_TIMEOUT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=SHUT_TIMEOUT_S)
    if not thread.is_alive():
        loop.close()


class Client:
    """A client of one streamseg server for plain scripts; see ``AsyncClient`` for the arguments and the errors."""

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8000",
        token: str | None = None,
        *,
        reconnect: bool = True,
        timeout_s: float | None = 120.0,
    ) -> None:
        self._client = AsyncClient(url, token, reconnect=reconnect, timeout_s=timeout_s)
        self.url = self._client.url
        self._loop = _Loop(self._client)

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now; otherwise the first ``segment`` does."""
        self._loop.run(self._client.connect())

    def close(self) -> None:
        """Close everything that was opened through this client; it cannot be used again."""
        self._loop.close()

    def segment(
        self,
        image: ImageLike,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
        window: tuple[float, float] | None = None,
    ) -> RemoteResult:
        """Segment one picture; see ``AsyncClient.segment``."""
        return self._loop.run(
            self._client.segment(
                image,
                points_xy_px=points_xy_px,
                labels=labels,
                box_xyxy_px=box_xyxy_px,
                prompts=prompts,
                multimask=multimask,
                score_threshold=score_threshold,
                refine=refine,
                overlay=overlay,
                window=window,
            )
        )

    def image_session(
        self,
        image: ImageLike,
        *,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
        window: tuple[float, float] | None = None,
    ) -> ImageSession:
        """Send a picture once, to click on it again and again; see ``AsyncClient.image_session``."""
        session = self._client.image_session(
            image,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine,
            overlay=overlay,
            window=window,
        )
        return ImageSession(self._loop, self._loop.run(session))

    def stream(
        self,
        *,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode = "track",
        carry: bool = True,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
    ) -> Stream:
        """Open a session for live frames; see ``AsyncClient.stream``."""
        stream = self._client.stream(
            prompts=prompts,
            mode=mode,
            carry=carry,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine,
            overlay=overlay,
        )
        return Stream(self._loop, self._loop.run(stream))

    def look(
        self,
        name: str | None = None,
        *,
        url: str | None = None,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode | None = None,
        picture: bool = False,
        overlay: bool = False,
    ) -> Stream:
        """Look at a stream of the server's; see ``AsyncClient.look``."""
        looking = self._client.look(name, url=url, prompts=prompts, mode=mode, picture=picture, overlay=overlay)
        return Stream(self._loop, self._loop.run(looking))

    def segment_file(
        self,
        path: str | Path,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        time_s: float | None = None,
        every: int = 1,
        fps: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        hold: bool = False,
        backwards: bool = False,
        video: bool = True,
        container: Literal["mp4", "webm"] = "mp4",
        quality: int = 75,
        max_side_px: int | None = None,
        mode: Mode = "track",
        carry: bool = True,
        score_threshold: float | None = None,
        refine: Any = None,
        out: str | Path | None = None,
        on_progress: Callable[[RemoteProgress], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Recording:
        """Segment a video file; see ``AsyncClient.segment_file``. ``on_progress`` is called in another thread."""
        recording = self._client.segment_file(
            path,
            points_xy_px=points_xy_px,
            labels=labels,
            box_xyxy_px=box_xyxy_px,
            prompts=prompts,
            time_s=time_s,
            every=every,
            fps=fps,
            start_s=start_s,
            end_s=end_s,
            hold=hold,
            backwards=backwards,
            video=video,
            container=container,
            quality=quality,
            max_side_px=max_side_px,
            mode=mode,
            carry=carry,
            score_threshold=score_threshold,
            refine=refine,
            out=out,
            on_progress=on_progress,
            cancelled=cancelled,
        )
        return Recording(self._loop, self._loop.run(recording))


class Recording:
    """A file that is segmented by a server; made by ``Client.segment_file``; see ``AsyncRecording``."""

    def __init__(self, loop: _Loop, recording: AsyncRecording) -> None:
        self._loop = loop
        self._recording = recording

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def summary(self) -> RemoteSummary | None:
        """What came of it, after the end of the iteration."""
        return self._recording.summary

    def stop(self) -> None:
        """End early: the iteration gives what is still in work, and the files hold what was done so far."""
        self._loop.run(self._recording.stop())

    def finish(self) -> RemoteSummary:
        """Let it run to its end."""
        return self._loop.run(self._recording.finish())

    def close(self) -> None:
        """Drop what is under way."""
        with contextlib.suppress(BadStateError):
            self._loop.run(self._recording.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RemoteResult:
        result = self._loop.run(self._next())
        if result is None:
            raise StopIteration
        return result

    async def _next(self) -> RemoteResult | None:
        # StopAsyncIteration cannot leave a coroutine.
        return await anext(self._recording, None)


class ImageSession:
    """A kept picture; made by ``Client.image_session``; see ``AsyncImageSession``."""

    def __init__(self, loop: _Loop, session: AsyncImageSession) -> None:
        self._loop = loop
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def segment(
        self,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        object_id: int = 1,
        replace: bool = False,
    ) -> RemoteResult:
        """Say more about one object, or with ``prompts`` about several; see ``AsyncImageSession.segment``."""
        return self._loop.run(
            self._session.segment(
                points_xy_px=points_xy_px,
                labels=labels,
                box_xyxy_px=box_xyxy_px,
                prompts=prompts,
                object_id=object_id,
                replace=replace,
            )
        )

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        self._loop.run(self._session.remove(object_id))

    def reset(self) -> None:
        """Forget all objects; the picture stays."""
        self._loop.run(self._session.reset())

    def close(self) -> None:
        """Let the server forget the picture."""
        with contextlib.suppress(BadStateError):
            self._loop.run(self._session.close())


class Stream:
    """A session for live frames; made by ``Client.stream`` and ``Client.look``; see ``AsyncStream``.

    A loop over a camera calls ``send`` and then ``poll``, or ``segment`` where no frame may be passed over.
    """

    def __init__(self, loop: _Loop, stream: AsyncStream) -> None:
        self._loop = loop
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> int:
        """Hand in a frame; returns its index."""
        return self._loop.run(self._stream.send(frame, index=index, time_s=time_s))

    def segment(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> RemoteResult:
        """Hand in a frame and wait for its result."""
        return self._loop.run(self._stream.segment(frame, index=index, time_s=time_s))

    @property
    def source(self) -> tuple[str, str] | None:
        """See ``AsyncStream.source``."""
        return self._stream.source

    def poll(self) -> list[RemoteResult]:
        """The results that are there by now, without waiting."""
        return self._loop.run(self._poll())

    async def _poll(self) -> list[RemoteResult]:
        return self._stream.poll()

    def prompt(self, prompt: Prompt, *, frame: int | None = None, replace: bool = False) -> None:
        """Say something about an object; see ``AsyncStream.prompt``."""
        self._loop.run(self._stream.prompt(prompt, frame=frame, replace=replace))

    def undo(self) -> None:
        """Take back the last prompt that was not taken back yet; BadStateError if there is none."""
        self._loop.run(self._stream.undo())

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        self._loop.run(self._stream.remove(object_id))

    def reset(self) -> None:
        """Forget all objects."""
        self._loop.run(self._stream.reset())

    def stop(self) -> None:
        """Say that no more frames come; the iteration gives what is still in work, then ends."""
        self._loop.run(self._stream.stop())

    def close(self) -> None:
        """Drop the session."""
        with contextlib.suppress(BadStateError):
            self._loop.run(self._stream.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RemoteResult:
        result = self._loop.run(self._next())
        if result is None:
            raise StopIteration
        return result

    async def _next(self) -> RemoteResult | None:
        # StopAsyncIteration cannot leave a coroutine.
        return await anext(self._stream, None)
