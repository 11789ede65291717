"""A network camera as the source of a shared stream; it is read on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamseg.errors import InternalError, StreamsegError
from streamseg.media.network import Connected, Ended, LivePicture, Lost, NetworkOptions, NetworkStream, StreamEvent

if TYPE_CHECKING:
    from streamseg.media.addresses import AddressRule
    from streamseg.media.frame import Frame
    from streamseg.service.shared_stream import SharedStream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Picture:
    picture: LivePicture

    @property
    def time_s(self) -> float:
        return self.picture.time_s

    def frame(self, index: int) -> Frame:
        return replace(self.picture.frame(), index=index)


class NetworkSource:
    """Feeds ``stream`` from an address. ``close`` is owed to it.

    ``rule``: which addresses may be opened; None: any, for the operator's own. Raises AddressRefusedError.
    """

    def __init__(self, stream: SharedStream, url: str, rule: AddressRule | None, options: NetworkOptions) -> None:
        self._stream = stream
        self._network = NetworkStream(url, rule=rule, options=options)
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._newest: LivePicture | None = None
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._reason = ""
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._read, name="streamseg-network", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The address without what is secret in it."""
        return self._network.name

    async def connected(self) -> None:
        """Wait for the first picture; raises StreamsegError if none comes."""
        await asyncio.shield(self._connected)

    async def close(self) -> None:
        """End the thread; it may take as long as a look-up of its host does."""
        self._stop.set()
        self._connected.cancel()
        # Not a thread of the pool: the few of them decode the frames of everybody.
        await self._over.wait()

    # On the thread

    def _read(self) -> None:
        error: StreamsegError | None = None
        try:
            self._network.run(self._on_picture, self._on_event, self._stop)
        except StreamsegError as raised:
            error = raised
        except Exception:
            logger.exception("a network stream could not be read")
            error = InternalError("a fault of the server; its log has the details")
        self._tell(self._ended, error)

    def _on_picture(self, picture: LivePicture) -> None:
        # One call waits at a time: a busy loop must not gather pictures.
        waits, self._newest = self._newest is not None, picture
        if not waits:
            self._tell(self._take)

    def _on_event(self, event: StreamEvent) -> None:
        self._tell(self._happened, event)

    def _tell(self, callback: object, *arguments: object) -> None:
        # The loop may have ended before the thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)  # type: ignore[arg-type]

    # On the loop

    def _take(self) -> None:
        picture, self._newest = self._newest, None
        if picture is not None:
            self._stream.take(_Picture(picture))

    def _happened(self, event: StreamEvent) -> None:
        match event:
            case Connected():
                self._stream.tell("live", "")
                if not self._connected.done():
                    self._connected.set_result(None)
            case Lost(reason=reason):
                self._reason = reason
                self._stream.tell("lost", reason)
            case Ended():
                self._stream.tell("ended", "the stream is over")
            case _:
                # Who comes now has not heard the reason.
                self._stream.tell("lost", f"{self._reason}; trying again in {event.in_s:.0f} s")

    def _ended(self, error: StreamsegError | None) -> None:
        self._over.set()
        if not self._connected.done():
            failure = error or InternalError("the stream ended before its first picture")
            self._connected.set_exception(failure)
            # Nobody may be waiting any more.
            self._connected.exception()
        self._stream.tell("ended", "the stream is over" if error is None else error.message)
