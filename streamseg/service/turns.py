"""Whose turn it is to change the objects of a stream that several share."""

from __future__ import annotations

import asyncio
from collections import deque

from streamseg.errors import OverloadedError


class Turns:
    """``most`` turns a picture; who comes first is served first. While none comes: ``most_still``, without waiting.

    Each viewer waits with one change at a time, so the viewers are served in turn, however much one of them says.
    """

    def __init__(self, most: int, most_still: int) -> None:
        self._most = most
        self._most_still = most_still
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, *, moving: bool) -> None:
        """Wait for a turn. Raises OverloadedError where all are taken and, unless ``moving``, no picture is awaited."""
        if self._taken < (self._most if moving else self._most_still):
            self._taken += 1
            return
        if not moving:
            raise self._refusal()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def next_picture(self) -> None:
        """There are new turns."""
        self._taken = 0
        while self._taken < self._most and self._waiting:
            turn = self._waiting.popleft()
            # Whoever has left waits no more.
            if not turn.done():
                turn.set_result(None)
                self._taken += 1

    def stand_still(self) -> None:
        """No picture is awaited for now: who waits is refused."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._refusal())
        self._waiting.clear()

    def _refusal(self) -> OverloadedError:
        return OverloadedError("the stream has no pictures now, and enough waits for the next one; say this after it")
