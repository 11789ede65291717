"""A line in which those who come first are served first, so many at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# How often somebody in the line hears where he is, moved on or not: silence would look like a broken server.
TELL_EVERY_S = 2.0


class Line:
    """``at_a_time``: how many have their turn together."""

    def __init__(self, at_a_time: int) -> None:
        self._free = at_a_time
        self._waiting: deque[asyncio.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, tell: Callable[[int], None]) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the context; ``tell`` gets the place in the line, from 1."""
        called = asyncio.Event()
        if self._free > 0:
            self._free -= 1
            called.set()
        else:
            self._waiting.append(called)
        try:
            while not called.is_set():
                tell(self._waiting.index(called) + 1)
                try:
                    async with asyncio.timeout(TELL_EVERY_S):
                        await called.wait()
                except TimeoutError:
                    continue
            yield
        finally:
            if not called.is_set():
                self._waiting.remove(called)
            elif self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
