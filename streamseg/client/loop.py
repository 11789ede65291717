"""An event loop in a thread of its own, which waits for those who cannot."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from streamseg.client.asynchronous import AsyncClient
from streamseg.errors import BadStateError

T = TypeVar("T")

# Longer than a server takes to answer a close, or the client to give up waiting for it.
SHUT_TIMEOUT_S = 8.0


class Loop:
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
