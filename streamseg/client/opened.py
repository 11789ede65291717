"""What a blocking client opens: a recording, a kept picture, a stream; each waits for its asynchronous counterpart."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

from streamseg.client.kept import AsyncImageSession
from streamseg.client.live import AsyncStream
from streamseg.client.loop import Loop
from streamseg.client.pictures import ImageLike
from streamseg.client.recorded import AsyncRecording, RemoteSummary
from streamseg.client.wire import RemoteResult
from streamseg.closable import AsyncClosable, Closable
from streamseg.errors import BadStateError
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt

Remote = TypeVar("Remote", bound=AsyncClosable)
RemoteResults = TypeVar("RemoteResults", AsyncRecording, AsyncStream)


class _Opened(Closable, Generic[Remote]):
    def __init__(self, loop: Loop, remote: Remote) -> None:
        self._loop = loop
        self._remote = remote

    def close(self) -> None:
        """Drop what is under way, and let the server forget it."""
        with contextlib.suppress(BadStateError):
            self._loop.run(self._remote.close())


class _Results(_Opened[RemoteResults]):
    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RemoteResult:
        result = self._loop.run(self._next())
        if result is None:
            raise StopIteration
        return result

    async def _next(self) -> RemoteResult | None:
        # StopAsyncIteration cannot leave a coroutine.
        return await anext(self._remote, None)


class Recording(_Results[AsyncRecording]):
    """A file that is segmented by a server; made by ``Client.segment_file``; see ``AsyncRecording``."""

    @property
    def summary(self) -> RemoteSummary | None:
        """What came of it, after the end of the iteration."""
        return self._remote.summary

    def stop(self) -> None:
        """End early: the iteration gives what is still in work, and the files hold what was done so far."""
        self._loop.run(self._remote.stop())

    def finish(self) -> RemoteSummary:
        """Let it run to its end."""
        return self._loop.run(self._remote.finish())


class ImageSession(_Opened[AsyncImageSession]):
    """A kept picture; made by ``Client.image_session``; see ``AsyncImageSession``."""

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
            self._remote.segment(
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
        self._loop.run(self._remote.remove(object_id))

    def reset(self) -> None:
        """Forget all objects; the picture stays."""
        self._loop.run(self._remote.reset())


class Stream(_Results[AsyncStream]):
    """A session for live frames; made by ``Client.stream`` and ``Client.look``; see ``AsyncStream``.

    A loop over a camera calls ``send`` and then ``poll``, or ``segment`` where no frame may be passed over.
    """

    def send(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> int:
        """Hand in a frame; returns its index."""
        return self._loop.run(self._remote.send(frame, index=index, time_s=time_s))

    def segment(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> RemoteResult:
        """Hand in a frame and wait for its result."""
        return self._loop.run(self._remote.segment(frame, index=index, time_s=time_s))

    @property
    def source(self) -> tuple[str, str] | None:
        """See ``AsyncStream.source``."""
        return self._remote.source

    def poll(self) -> list[RemoteResult]:
        """The results that are there by now, without waiting."""
        return self._loop.run(self._poll())

    async def _poll(self) -> list[RemoteResult]:
        return self._remote.poll()

    def prompt(self, prompt: Prompt, *, frame: int | None = None, replace: bool = False, own: bool = False) -> None:
        """Say something about an object; see ``AsyncStream.prompt``."""
        self._loop.run(self._remote.prompt(prompt, frame=frame, replace=replace, own=own))

    def undo(self) -> None:
        """Take back the last prompt of one's own that was not taken back yet; BadStateError if there is none."""
        self._loop.run(self._remote.undo())

    def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        self._loop.run(self._remote.remove(object_id))

    def reset(self) -> None:
        """Forget all objects."""
        self._loop.run(self._remote.reset())

    def stop(self) -> None:
        """Say that no more frames come; the iteration gives what is still in work, then ends."""
        self._loop.run(self._remote.stop())
