"""One accepted websocket, whoever it belongs to: one task reads, one writes.

The reader never waits for the others, because uvicorn's own queue of messages is unbounded: what comes too fast is
dropped, refused or answered by the owner.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamseg.errors import InternalError
from streamseg.service.effects import CLOSE_FAULT, Close
from streamseg.service.outbox import Item, Outbox, OutboxFullError
from streamseg.service.places import Place
from streamseg.settings import Limits

logger = logging.getLogger(__name__)

# Key in the ASGI scope's extensions under which our server offers to drop a connection without further ado.
ABORT_EXTENSION = "streamseg.abort"
# Nobody said goodbye: no close frame came, or one that says that the client heard nothing for too long.
BROKEN = frozenset({1006, 1011})


class Owner(Protocol):
    """Whom a link belongs to."""

    @property
    def busy(self) -> bool:
        """Whether a client may well be silent, because something is done for it."""

    def receive(self, data: str | bytes) -> None:
        """A message came."""

    def idle(self, seconds: float) -> None:
        """None came for so long, which is the limit."""

    async def left(self, broke: bool) -> None:
        """The link has ended; ``broke``: without a goodbye of either side."""


class Link:
    """``place``: the one that it takes up at the server."""

    def __init__(self, websocket: WebSocket, limits: Limits, place: Place) -> None:
        self.owner: Owner | None = None
        self.place = place
        self._websocket = websocket
        self._limits = limits
        self._outbox = Outbox()
        self._heard_at = time.monotonic()
        self._heard = False
        self._broke = False

    async def serve(self, owner: Owner) -> bool:
        """Serve until the websocket ends; whether it broke, without a goodbye of either side."""
        self.owner = owner
        tasks = [
            asyncio.create_task(self._guarded(part), name=f"streamseg-{name}")
            for name, part in (("read", self._read), ("write", self._write))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._outbox.abandon()
        return self._broke

    def put(self, item: Item) -> None:
        """Queue something to be sent."""
        try:
            self._outbox.put(item)
        except OutboxFullError:
            self._give_up()

    async def room(self) -> None:
        """See ``Outbox.room``."""
        await self._outbox.room()

    @property
    def has_room(self) -> bool:
        """Whether no result waits to be sent."""
        return self._outbox.has_room

    def touch(self) -> None:
        """The client had a reason to be silent until now."""
        self._heard_at = time.monotonic()

    def dismiss(self, code: int, reason: str) -> None:
        """Close it; its owner has another one."""
        self.owner = None
        self._outbox.abandon()
        self.put(Close(code, reason))

    async def _guarded(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run one of the tasks; how it fails decides how the connection ends."""
        try:
            await part()
        except WebSocketDisconnect:
            # The reader hears how it ended.
            await asyncio.Event().wait()
        except TimeoutError:
            self._give_up()
        except Exception as error:
            reason = internal(error).message
            try:
                async with asyncio.timeout(1.0):
                    await self._websocket.close(CLOSE_FAULT, reason)
            except Exception:
                self._abort()

    def _give_up(self) -> None:
        if self._broke:
            return
        logger.info("a client does not read what it is sent; dropping its connection")
        self._broke = True
        self._abort()

    def _abort(self) -> None:
        # A close frame would wait behind everything else that the client does not read.
        abort = self._websocket.scope.get("extensions", {}).get(ABORT_EXTENSION)
        if abort is not None:
            abort()

    async def _read(self) -> None:
        limits = self._limits
        while True:
            limit_s = limits.idle_timeout_s if self._heard else min(limits.handshake_timeout_s, limits.idle_timeout_s)
            try:
                async with asyncio.timeout_at(self._idle_at(limit_s)):
                    message = await self._websocket.receive()
            except TimeoutError:
                self.touch()
                if self.owner is not None:
                    self.owner.idle(limit_s)
                continue
            if message["type"] == "websocket.disconnect":
                self._broke = message["code"] in BROKEN
                return
            self._heard = True
            self.touch()
            data = message.get("bytes")
            if self.owner is not None:
                self.owner.receive(message["text"] if data is None else data)
            # Messages that are there already come without a pause; the other tasks must get their turn too.
            await asyncio.sleep(0)

    def _idle_at(self, limit_s: float) -> float:
        now = time.monotonic()
        # While a frame is in work, silence is what a patient client does.
        since = now if self.owner is not None and self.owner.busy else self._heard_at
        return asyncio.get_running_loop().time() + max(since + limit_s - now, 0.0)

    async def _write(self) -> None:
        while True:
            item = await self._outbox.next()
            async with asyncio.timeout(self._limits.send_timeout_s):
                if isinstance(item, Close):
                    await self._websocket.close(item.code, item.reason)
                    return
                for message in item.messages:
                    if isinstance(message, str):
                        await self._websocket.send_text(message)
                    else:
                        await self._websocket.send_bytes(message)
            self._outbox.sent()


def internal(error: Exception) -> InternalError:
    """What a client hears of a fault of ours: a number under which the log has the rest."""
    number = secrets.token_hex(6)
    logger.error("fault %s", number, exc_info=error)
    return InternalError(f"a fault of the server; its log has the details under {number}")
