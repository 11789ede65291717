"""A picture that stays at the server, to be clicked on again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from streamseg.client.connection import Connection
from streamseg.client.wire import RemoteResult, gather_prompts, prompt_fields, result_from
from streamseg.closable import AsyncClosable
from streamseg.errors import BadPromptError, BadStateError, ConnectionLostError, StreamsegError
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt


class AsyncImageSession(AsyncClosable):
    """One kept picture; made by ``AsyncClient.image_session``.

    A server closes connections that are idle for minutes. With ``reconnect`` the picture and what was said about it
    are then sent again, once, by the next call.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        start: Mapping[str, Any],
        picture: bytes,
        *,
        timeout_s: float | None,
        reconnect: bool,
    ) -> None:
        self._connect = connect
        self._start = start
        self._picture = picture
        self._timeout_s = timeout_s
        self._reconnect = reconnect
        self._connection: Connection | None = None
        self._said: list[dict[str, Any]] = []
        self._turn = asyncio.Lock()
        self._closed = False

    async def segment(
        self,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        object_id: int = 1,
        replace: bool = False,
    ) -> RemoteResult:
        """Say more about object ``object_id`` (or, with ``prompts``, about several) and get all objects' masks.

        Points add to the object's former ones, a box takes the place of its former one; ``replace`` forgets all that
        was said about these objects first. Raises BadPromptError; the objects then keep what they had.
        """
        asked = gather_prompts(points_xy_px, labels, box_xyxy_px, prompts, object_id)
        if not asked:
            raise BadPromptError("say what to segment: points_xy_px, box_xyxy_px or prompts")
        messages: list[dict[str, Any]] = []
        replaced: set[int] = set()
        for one in asked:
            message: dict[str, Any] = {"type": "prompt", **prompt_fields(one)}
            if replace and one.object_id not in replaced:
                message["replace"] = True
                replaced.add(one.object_id)
            messages.append(message)
        result = await self._tell(messages)
        assert result is not None
        return result

    async def remove(self, object_id: int) -> None:
        """Forget an object; NotFoundError if there is none of this id."""
        await self._tell([{"type": "remove", "object_id": object_id}])

    async def reset(self) -> None:
        """Forget all objects; the picture stays."""
        await self._tell([{"type": "reset"}])

    async def close(self) -> None:
        """Let the server forget the picture."""
        self._closed = True
        await self._drop()

    async def open(self) -> RemoteResult:
        """Send the picture, and what was said about it on a former connection; its result."""
        self._connection = connection = await self._connect()
        try:
            began_s = time.perf_counter()
            start_id, frame_id = connection.next_id(), connection.next_id()
            prompts = [{key: one[key] for key in one if key not in ("type", "replace")} for one in self._said]
            await connection.send({**self._start, "prompts": prompts, "request_id": start_id})
            ready = await connection.receive_within(self._timeout_s)
            if ready.type == "error":
                raise ready.error()
            await connection.send_frame({"index": 0, "request_id": frame_id}, self._picture)
            while True:
                message = await connection.receive_within(self._timeout_s)
                if message.type == "error":
                    raise message.error()
                if message.type == "result":
                    latency_ms = 1e3 * (time.perf_counter() - began_s)
                    return result_from(message.fields, message.attachments, latency_ms)
        except BaseException:
            await self._drop()
            raise

    async def _tell(self, messages: Sequence[Mapping[str, Any]]) -> RemoteResult | None:
        if self._closed:
            raise BadStateError("this image session is closed: make a new one")
        async with self._turn:
            kept = self._connection is not None
            if not kept:
                await self.open()
            try:
                return await self._exchange(messages)
            except ConnectionLostError:
                if not (kept and self._reconnect):
                    raise
            await self.open()
            return await self._exchange(messages)

    async def _exchange(self, messages: Sequence[Mapping[str, Any]]) -> RemoteResult | None:
        connection = self._connection
        assert connection is not None
        try:
            outcome = await _KeptExchange(connection, messages, self._timeout_s).run(self._remember)
        except BaseException:
            await self._drop()
            raise
        if isinstance(outcome, StreamsegError):
            raise outcome
        return outcome

    def _remember(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "reset":
            self._said.clear()
            return
        if message["type"] == "remove" or message.get("replace"):
            self._said = [one for one in self._said if one["object_id"] != message["object_id"]]
        if message["type"] == "prompt":
            self._said.append(dict(message))

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


class _KeptExchange:
    """Some requests about the kept picture, their answers, and the result of the last one that was taken."""

    def __init__(self, connection: Connection, messages: Sequence[Mapping[str, Any]], timeout_s: float | None) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._requests = {connection.next_id(): message for message in messages}

    async def run(self, remember: Callable[[Mapping[str, Any]], None]) -> RemoteResult | StreamsegError | None:
        """The result (None if only ``remove`` or ``reset`` was asked), or the first refusal."""
        began_s = time.perf_counter()
        unanswered = set(self._requests)
        awaited: str | None = None
        failure: StreamsegError | None = None
        result: RemoteResult | None = None
        for request_id, message in self._requests.items():
            await self._connection.send({**message, "request_id": request_id})
        while unanswered or awaited is not None:
            answer = await self._connection.receive_within(self._timeout_s)
            request_id = answer.request_id or ""
            if answer.type == "done":
                raise ConnectionLostError("the server ended the session of the kept picture")
            if answer.type == "error" and (request_id in self._requests or not request_id):
                failure = failure or answer.error()
                unanswered.discard(request_id)
                if awaited == request_id or not request_id:
                    awaited = None
            elif answer.type == "ok" and request_id in unanswered:
                unanswered.discard(request_id)
                remember(self._requests[request_id])
                if self._requests[request_id]["type"] == "prompt":
                    awaited = request_id
            elif answer.type == "result" and request_id == awaited:
                latency_ms = 1e3 * (time.perf_counter() - began_s)
                result = result_from(answer.fields, answer.attachments, latency_ms)
                awaited = None
        return failure or result
