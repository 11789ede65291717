"""A connection whose session goes on over another one when it broke, without its user noticing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamseg.client.connection import Connection, Incoming
from streamseg.errors import ConnectionLostError, OverloadedError, SessionGoneError

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 4.0
# So many answers are told once more by a server.
MAX_HEARD = 64
# The key of the newest frame whose own result nobody waits for.
NEWEST_FRAME = "the newest frame"

Reopen = Callable[[str], Awaitable[Connection]]
"""Connect again for the session of that id."""


@dataclass(slots=True)
class _Sent:
    """A message that may be needed again. ``over``: the connection that it went over."""

    fields: Mapping[str, Any]
    picture: bytes | None
    over: Connection | None = None


class ResumingConnection:
    """What has no answer yet is sent again, in its order, where the server says that it did not arrive.

    Of the frames whose own result nobody waits for that is the newest one only. ``reopen``: None, and a connection that
    broke has ended. ``send_*`` may be called from several tasks, ``receive`` from one.
    """

    def __init__(self, connection: Connection, reopen: Reopen | None, timeout_s: float | None) -> None:
        self._connection = connection
        self._reopen = reopen
        self._timeout_s = timeout_s
        self._counter = 0
        self._away = False
        self._session_id = ""
        self._resume_s = 0.0
        self._unanswered: dict[str, _Sent] = {}
        self._heard: deque[dict[str, Any]] = deque(maxlen=MAX_HEARD)
        self._newest_result = -1

    def next_id(self) -> str:
        """A request id that this session has not used yet."""
        self._counter += 1
        return str(self._counter)

    async def start(self, start: Mapping[str, Any]) -> None:
        """Start the session; raises what the server says against it."""
        await self._connection.send({**start, "request_id": self.next_id()})
        ready = await self._connection.receive_within(self._timeout_s)
        if ready.type == "error":
            raise ready.error()
        limits = ready.fields.get("limits")
        resume_s = limits.get("resume_s") if isinstance(limits, Mapping) else None
        self._resume_s = float(resume_s) if isinstance(resume_s, int | float) else 0.0
        self._session_id = str(ready.fields.get("session_id", ""))

    async def send(self, fields: Mapping[str, Any]) -> None:
        """Send a request, which has a ``request_id``; away from the server, once that is back."""
        await self._send(str(fields["request_id"]), _Sent(fields, None))

    async def send_frame(self, header: Mapping[str, Any], picture: bytes) -> None:
        """Send a picture, whose header has an ``index``; away from the server, the newest one once that is back."""
        key = header.get("request_id", NEWEST_FRAME)
        self._unanswered.pop(key, None)
        await self._send(key, _Sent(header, picture))

    def settled(self, request_id: str) -> None:
        """Nobody waits for this answer any more."""
        self._unanswered.pop(request_id, None)

    async def receive(self) -> Incoming:
        """The next message; raises the reason if the session ends."""
        while True:
            try:
                message = await self._connection.receive()
            except ConnectionLostError as lost:
                if not self._can_resume(self._connection):
                    raise
                await self._come_back(lost)
                continue
            if not self._is_repeated(message):
                return message

    async def close(self) -> None:
        await self._connection.close()

    async def _send(self, key: str, message: _Sent) -> None:
        self._unanswered[key] = message
        while not self._away and message.over is not self._connection:
            connection = self._connection
            try:
                await self._transmit(message)
            except ConnectionLostError:
                if not self._can_resume(connection):
                    raise
                if connection is self._connection:
                    # Whoever receives finds that out too, and sends it again.
                    return

    async def _transmit(self, message: _Sent) -> None:
        message.over = self._connection
        if message.picture is None:
            await self._connection.send(message.fields)
        else:
            await self._connection.send_frame(message.fields, message.picture)

    def _can_resume(self, connection: Connection) -> bool:
        return self._reopen is not None and self._resume_s > 0 and connection.broken

    def _is_repeated(self, message: Incoming) -> bool:
        if message.type == "result":
            index = message.fields.get("index")
            if not isinstance(index, int):
                return False
            former, self._newest_result = self._newest_result, max(index, self._newest_result)
            return index <= former
        if message.request_id is None:
            return False
        repeated = message.fields in self._heard
        self._heard.append(message.fields)
        return repeated

    async def _come_back(self, lost: ConnectionLostError) -> None:
        self._away = True
        until_s = time.monotonic() + self._resume_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._resume()
            except (ConnectionLostError, OverloadedError) as error:
                if time.monotonic() + pause_s > until_s:
                    tried = f"{lost.message}; no way back was found within {self._resume_s:g} s: {error.message}"
                    raise ConnectionLostError(tried) from None
            else:
                return
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _resume(self) -> None:
        assert self._reopen is not None
        connection = await self._reopen(self._session_id)
        try:
            request = {"type": "resume", "version": 1, "session_id": self._session_id, "request_id": self.next_id()}
            await connection.send(request)
            told = await connection.receive_within(self._timeout_s)
            if told.type == "error":
                error = told.error()
                if isinstance(error, SessionGoneError):
                    raise SessionGoneError("the connection broke, and the server has ended the session since")
                raise error
        except BaseException:
            with contextlib.suppress(Exception):
                await connection.close()
            raise
        self._connection = connection
        self._pass_over_received(told)
        while (left := self._first_unsent()) is not None:
            await self._transmit(left)
        self._away = False

    def _first_unsent(self) -> _Sent | None:
        return next((one for one in self._unanswered.values() if one.over is not self._connection), None)

    def _pass_over_received(self, told: Incoming) -> None:
        newest, received = told.fields.get("newest_index"), told.fields.get("received")
        for key, one in self._unanswered.items():
            if one.picture is None:
                arrived = isinstance(received, list) and key in received
            else:
                arrived = isinstance(newest, int) and one.fields["index"] <= newest
            if arrived:
                one.over = self._connection
