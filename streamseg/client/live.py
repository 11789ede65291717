"""Frames of a live source, and their results as they come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from streamseg.client.connection import Connection, Incoming
from streamseg.client.pictures import ImageLike, picture_bytes
from streamseg.client.resuming import Reopen, ResumingConnection
from streamseg.client.wire import RemoteResult, prompt_fields, result_from
from streamseg.closable import AsyncClosable
from streamseg.errors import BadStateError, CancelledWorkError, ConnectionLostError, InternalError, StreamsegError
from streamseg.segmentation.prompts import Prompt

# Results wait here for a caller who is busy; the oldest give way, as on every live way.
MAX_WAITING_RESULTS = 64


class AsyncStream(AsyncClosable):
    """A session for live frames; made by ``AsyncClient.stream`` and, for frames of the server's, ``AsyncClient.look``.

    ``send`` hands in a frame and returns at once; results come by iteration, in the order of the frames. Frames that
    come faster than the model are passed over by the server (``result.dropped`` counts them). ``segment`` hands in a
    frame and waits for its own result, so that none is passed over.

    A frame that could not be segmented raises its error in the iteration, which may then go on.

    When the connection breaks, the session goes on over another one, with its objects and what the tracker remembers:
    requests and ``segment`` wait for that, of the frames of ``send`` the newest one is handed in then. Where it cannot
    be done within ``limits.resume_s`` of the server, ConnectionLostError or SessionGoneError say so.
    """

    def __init__(self, connection: ResumingConnection, *, timeout_s: float | None) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._opened_s = time.perf_counter()
        self._next_index = 0
        self._waiting: deque[RemoteResult | StreamsegError] = deque(maxlen=MAX_WAITING_RESULTS)
        self._news = asyncio.Event()
        self._answers: dict[str, asyncio.Future[RemoteResult | None]] = {}
        # The indices of the frames whose own result somebody waits for.
        self._awaited: dict[str, int] = {}
        self._end: StreamsegError | None = None
        self._source: tuple[str, str] | None = None
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, connection: Connection, start: Mapping[str, Any], *, timeout_s: float | None, reopen: Reopen | None
    ) -> Self:
        """Start a session on an open connection, which belongs to the stream from then on.

        ``reopen``: how to connect for it again; None: it ends with its connection.
        """
        resuming = ResumingConnection(connection, reopen, timeout_s)
        try:
            await resuming.start(start)
        except BaseException:
            await connection.close()
            raise
        stream = cls(resuming, timeout_s=timeout_s)
        stream._reader = asyncio.create_task(stream._read(), name="streamseg stream reader")
        return stream

    @property
    def source(self) -> tuple[str, str] | None:
        """Of a stream that is looked at: ``connecting``, ``live``, ``lost`` or ``ended``, and why, for people."""
        return self._source

    async def send(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> int:
        """Hand in a frame (bytes as they are; arrays and PIL images as JPEG); returns its index.

        ``index`` must grow from frame to frame; default: counted from 0. ``time_s``: presentation time; default: the
        server's clock since the first frame.
        """
        return await self._send(frame, index, time_s, None)

    async def segment(self, frame: ImageLike, *, index: int | None = None, time_s: float | None = None) -> RemoteResult:
        """Hand in a frame and wait for its result, which then does not come by iteration."""
        request_id = self._connection.next_id()
        answer = self._expect(request_id)
        try:
            await self._send(frame, index, time_s, request_id)
            result = await self._within(answer)
        finally:
            self._forget(request_id)
            self._awaited.pop(request_id, None)
        assert result is not None
        return result

    async def prompt(
        self, prompt: Prompt, *, frame: int | None = None, replace: bool = False, own: bool = False
    ) -> None:
        """Say something about an object; it holds from the next frame that is segmented.

        ``frame``: the index of the frame on which it was made; default: the next one that is segmented. In the mode
        ``track`` one of the last frames is corrected, and the object tracked anew from there. ``replace``: forget what
        was said about the object first. ``own``: the object is new, or was so with a prompt of this stream's; where
        others look on who gave one the same id, that is ObjectTakenError. Raises BadPromptError.
        """
        fields: dict[str, Any] = {"type": "prompt", **prompt_fields(prompt)}
        if frame is not None:
            fields["frame"] = frame
        fields |= {name: True for name, given in (("replace", replace), ("own", own)) if given}
        await self._ask(fields)

    async def undo(self) -> None:
        """Take back the last prompt of one's own that was not taken back yet; BadStateError if there is none."""
        await self._ask({"type": "undo"})

    async def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        await self._ask({"type": "remove", "object_id": object_id})

    async def reset(self) -> None:
        """Forget all objects."""
        await self._ask({"type": "reset"})

    async def stop(self) -> None:
        """Say that no more frames come. The iteration gives what is still in work, then ends."""
        await self._ask({"type": "stop"})

    async def close(self) -> None:
        """Drop the session and its connection."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._connection.close()

    def poll(self) -> list[RemoteResult]:
        """The results that are there by now, without waiting; raises as the iteration does."""
        taken: list[RemoteResult] = []
        while self._waiting:
            if isinstance(self._waiting[0], StreamsegError) and taken:
                break
            taken.append(self._take())
        if not taken and self._end is not None and not isinstance(self._end, CancelledWorkError):
            raise self._end
        return taken

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteResult:
        while not self._waiting:
            if self._end is not None:
                if isinstance(self._end, CancelledWorkError):
                    raise StopAsyncIteration
                raise self._end
            self._news.clear()
            await self._news.wait()
        return self._take()

    def _take(self) -> RemoteResult:
        one = self._waiting.popleft()
        if isinstance(one, StreamsegError):
            raise one
        return one

    async def _send(self, frame: ImageLike, index: int | None, time_s: float | None, request_id: str | None) -> int:
        handed_in_s = time.perf_counter()
        if self._end is not None:
            raise self._end
        if index is not None and index < self._next_index:
            raise BadStateError(f"the frame's index must grow: at least {self._next_index}, not {index}")
        index = self._next_index if index is None else index
        self._next_index = index + 1
        header: dict[str, Any] = {"index": index, "timestamp_ms": round(1e3 * (handed_in_s - self._opened_s), 3)}
        if time_s is not None:
            header["time_s"] = float(time_s)
        if request_id is not None:
            header["request_id"] = request_id
            self._awaited[request_id] = index
        picture = frame if isinstance(frame, bytes) else await asyncio.to_thread(picture_bytes, frame, live=True)
        await self._connection.send_frame(header, picture)
        return index

    async def _ask(self, fields: Mapping[str, Any]) -> None:
        request_id = self._connection.next_id()
        answer = self._expect(request_id)
        try:
            await self._connection.send({**fields, "request_id": request_id})
            await self._within(answer)
        finally:
            self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        self._answers.pop(request_id, None)
        self._connection.settled(request_id)

    def _expect(self, request_id: str) -> asyncio.Future[RemoteResult | None]:
        if self._end is not None:
            raise self._end
        answer: asyncio.Future[RemoteResult | None] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        return answer

    async def _within(self, answer: asyncio.Future[RemoteResult | None]) -> RemoteResult | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise ConnectionLostError(f"the server did not answer within {self._timeout_s:g} s") from None

    async def _read(self) -> None:
        end: StreamsegError = CancelledWorkError("the stream has ended")
        try:
            while self._handle(await self._connection.receive()):
                pass
        except StreamsegError as error:
            end = error
        except Exception as error:
            end = InternalError(f"the client failed while reading: {error!r}")
            end.__cause__ = error
        finally:
            self._end = end
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(end)
                    # Whoever waited may have been cancelled: nobody is obliged to look at it.
                    answer.exception()
            self._news.set()

    def _handle(self, message: Incoming) -> bool:
        """Take in one message; False after the last."""
        match message.type:
            case "result":
                result = self._result(message)
                self._deliver(message.request_id, result)
                self._give_up_before(result.index)
            case "error":
                self._deliver(message.request_id, message.error())
            case "ok":
                self._answer(message.request_id, None)
            case "source":
                self._source = str(message.fields.get("state")), str(message.fields.get("message", ""))
                # Nothing comes after it: the iteration gives what is there, and ends.
                return self._source[0] != "ended"
            case "done":
                self._answer(message.request_id, None)
                return False
        return True

    def _give_up_before(self, index: int) -> None:
        for request_id, awaited in self._awaited.items():
            if awaited < index:
                self._answer(request_id, CancelledWorkError(f"frame {awaited} gave way to a newer one"))

    def _result(self, message: Incoming) -> RemoteResult:
        sent_ms = message.fields.get("timestamp_ms")
        now_ms = 1e3 * (time.perf_counter() - self._opened_s)
        latency_ms = now_ms - sent_ms if isinstance(sent_ms, int | float) else None
        return result_from(message.fields, message.attachments, latency_ms)

    def _deliver(self, request_id: str | None, outcome: RemoteResult | StreamsegError) -> None:
        if not self._answer(request_id, outcome):
            self._waiting.append(outcome)
            self._news.set()

    def _answer(self, request_id: str | None, outcome: RemoteResult | StreamsegError | None) -> bool:
        answer = self._answers.get(request_id or "")
        if answer is None:
            return False
        if not answer.done():
            if isinstance(outcome, StreamsegError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        return True
