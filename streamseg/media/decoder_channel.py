"""Messages between this process and a decoder process: JSON over a socket pair, one datagram each.

Nothing is ever unpickled and no message is longer than ``MAX_MESSAGE_BYTES``, whatever the other side sends.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from typing import Any, NoReturn

MAX_MESSAGE_BYTES = 64 * 1024


class ChannelClosedError(Exception):
    """The other side is gone."""


class MessageError(ValueError):
    """What arrived is no message."""


class Channel:
    """One end. Sending and closing may happen in any thread; receiving in one at a time."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        # Reentrant: the garbage collector may give a slot back while this thread is sending.
        self._lock = threading.RLock()

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = (), *, wait: bool = True) -> None:
        """Send one message, waiting for room; with ``wait=False`` it is dropped when there is none."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_MESSAGE_BYTES:
            raise MessageError(f"a message of {len(data)} bytes is over {MAX_MESSAGE_BYTES}")
        while True:
            try:
                with self._lock:
                    if fds:
                        socket.send_fds(self._end, [data], list(fds))
                    else:
                        self._end.send(data)
                return
            except BlockingIOError:
                if not wait:
                    return
                self._wait(select.POLLOUT, None)
            except OSError as error:
                raise ChannelClosedError from error

    def receive(self, timeout_s: float | None = None, max_fds: int = 0) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors; None when nothing came in time.

        Raises ChannelClosedError, or MessageError for anything that is no JSON object. Descriptors are taken only
        where ``max_fds`` asks for them; others never reach this process.
        """
        if not self._wait(select.POLLIN, timeout_s):
            return None
        fds: list[int] = []
        try:
            with self._lock:
                if max_fds:
                    data, fds, flags, _ = socket.recv_fds(self._end, MAX_MESSAGE_BYTES, max_fds)
                else:
                    data, _, flags, _ = self._end.recvmsg(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # Said once, before what the other side sent last, when it went without reading everything.
            return self.receive(timeout_s, max_fds)
        except OSError as error:
            raise ChannelClosedError from error
        if not data:
            raise ChannelClosedError
        if flags & socket.MSG_TRUNC:
            raise MessageError("a message is too long")
        try:
            message = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise MessageError("a message is no JSON") from error
        if not isinstance(message, dict):
            raise MessageError("a message is no JSON object")
        return message, fds

    def _wait(self, event: int, timeout_s: float | None) -> bool:
        poll = select.poll()
        with self._lock:
            number = self._end.fileno()
        if number < 0:
            raise ChannelClosedError
        poll.register(number, event)
        return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))

    def close(self) -> None:
        """Close this end; a receive that waits in another thread ends with ChannelClosedError."""
        with self._lock:
            if self._end.fileno() >= 0:
                # The other side may have closed first.
                with contextlib.suppress(OSError):
                    self._end.shutdown(socket.SHUT_RDWR)
                self._end.close()


def _no_constant(name: str) -> NoReturn:
    raise MessageError(f"{name} is no JSON number")
