"""What waits to be sent on one connection, in order and bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from streamseg.service.effects import Close

# Answers are small and a client's rate is limited, so only one that reads nothing at all gets here.
MAX_WAITING = 4096


@dataclass(frozen=True, slots=True)
class Packet:
    """Messages that go out without another one between them. ``result``: whether it holds a frame's result."""

    messages: tuple[str | bytes, ...]
    result: bool = False


Item: TypeAlias = Packet | Close


class OutboxFullError(Exception):
    """The client has not read for so long that its answers are not kept any more."""


class Outbox:
    """Filled by whoever answers, emptied by the one task that writes to the socket."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, item: Item) -> None:
        """Queue ``item``; raises OutboxFullError."""
        if len(self._items) >= self._most:
            raise OutboxFullError
        self._items.append(item)
        self._changed.set()
        if isinstance(item, Packet) and item.result:
            self._room.clear()

    async def next(self) -> Item:
        """The oldest item, once there is one; it stays until ``sent``."""
        while not self._items:
            self._changed.clear()
            await self._changed.wait()
        return self._items[0]

    def sent(self) -> None:
        """The oldest item has been handed to the socket."""
        item = self._items.popleft()
        if isinstance(item, Packet) and item.result:
            self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether no result waits."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait until no result waits: a client that reads slowly holds up its own work, not the memory."""
        await self._room.wait()

    def abandon(self) -> None:
        """Nobody reads it any more: what waits is not sent, but for the item that may be on its way."""
        while len(self._items) > 1:
            self._items.pop()
        self._room.set()
