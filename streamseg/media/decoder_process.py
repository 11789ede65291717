"""A child process that parses one stranger's file: started, listened to with a deadline, ended and explained."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from streamseg.errors import (
    BadSettingError,
    CancelledWorkError,
    InternalError,
    NotFoundError,
    StreamsegError,
    TooLargeError,
    UnsupportedMediaError,
)
from streamseg.media.decoder_channel import Channel, ChannelClosedError, MessageError

log = logging.getLogger(__name__)

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from streamseg.media.untrusted_child import main
main(sys.argv[2])
"""
# Inherited only where the interpreter may not start without it.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH",)
# Threads of libraries for numerics are of no use here and cost address space, as do the arenas of malloc.
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "4",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_OPEN_FILES = 64
_START_S = 60.0
_GRACE_S = 1.0
# How soon ``cancelled`` is noticed while the child has nothing to say.
_LOOK_EVERY_S = 0.1
_MAX_TEXT_CHARS = 1000
_MAX_LOG_BYTES = 4096
_ERRORS: dict[str, type[StreamsegError]] = {
    error.code: error for error in (UnsupportedMediaError, TooLargeError, NotFoundError, BadSettingError, InternalError)
}
_SAID_BY_SIGNAL = {
    signal.SIGXCPU: "the file needs more processor time than allowed ({cpu_s} s)",
    signal.SIGKILL: "the decoder was ended by the system while it read this file, most likely for want of memory",
}


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What decoding one file may cost.

    ``memory_bytes``: address space of the child process, about 400 MB of which are code; FFmpeg needs some 20 frames
    of the video at its own size. ``cpu_s``: processor time, of all threads together. ``stall_s``: the longest wait for
    a sign of progress (a frame, or the next part of the file being read). ``written_bytes``: size of a file that the
    child writes, where it is to write one.
    """

    memory_bytes: int = 4 * 2**30
    cpu_s: int = 4 * 3600
    stall_s: float = 30.0
    written_bytes: int = 2**30


class DecoderProcess:
    """One child process, from its start to its end.

    It has an empty environment, the limits, one descriptor for the file, and after its imports no right to open
    anything else; it dies with this process. Whatever ends it early becomes an UnsupportedMediaError that says so.
    """

    def __init__(
        self,
        entry: str,
        source_fd: int,
        task: Mapping[str, Any],
        limits: ProcessLimits,
        *,
        writable: str | None = None,
        max_wall_s: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        """``entry``: "module:function" that the child calls with its Task. ``writable``: a folder that it may write to.

        ``max_wall_s``: how long this process waits for the child in all; time in which it does not wait for it (the
        consumer is slower) does not count. ``cancelled``: once it is set, whoever waits gets CancelledWorkError.
        """
        self.limits = limits
        self._cancelled = cancelled
        # The child keeps to this limit by itself, counting only what it decodes; it is given a moment to say so.
        self._left_s = None if max_wall_s is None else max_wall_s + _GRACE_S
        self._max_wall_s = max_wall_s
        self._ready = False
        self._closing = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as childs:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            childs.callback(theirs.close)
            self._channel = Channel(ours)
            lifeline, held = os.pipe()
            childs.callback(os.close, lifeline)
            written, log_end = os.pipe()
            childs.callback(os.close, log_end)
            self._lifeline = os.fdopen(held, "wb", buffering=0)
            self._log = os.fdopen(written, "rb", buffering=0)
            # A child that floods its log must not block on it, and nobody reads it before the end.
            os.set_blocking(log_end, False)
            os.set_blocking(written, False)
            request = {
                "channel": theirs.fileno(),
                "cpu_s": limits.cpu_s,
                "entry": entry,
                "lifeline": lifeline,
                "memory_bytes": limits.memory_bytes,
                "open_files": _OPEN_FILES,
                "source": source_fd,
                "task": dict(task),
                "writable": writable,
                "written_bytes": limits.written_bytes if writable is not None else 0,
            }
            paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  (the text, unresolved)
            try:
                self._process = subprocess.Popen(  # noqa: S603  (our own interpreter)
                    [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(paths), json.dumps(request)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log_end,
                    pass_fds=(theirs.fileno(), lifeline, source_fd),
                    env=_ENVIRONMENT | {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                self._close_ends()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = (), *, wait: bool = True) -> None:
        """Send a message; a child that is gone is not an error here, the next ``receive`` tells why."""
        with contextlib.suppress(ChannelClosedError):
            self._channel.send(message, fds, wait=wait)

    def give_back(self, slot: int) -> None:
        """Tell the child that a slot of the ring may be written again."""
        self.send({"slot": slot}, wait=False)

    def receive(self) -> dict[str, Any]:
        """The next message that is not about an error; an error of the child is raised as its own class.

        Raises ChannelClosedError after ``close``.
        """
        if not self._ready:
            self._await_start()
        waiting_since = progress_at = time.monotonic()
        try:
            while True:
                if self._cancelled is not None and self._cancelled.is_set():
                    self.close()
                    raise CancelledWorkError("the file was given up while it was being read")
                now = time.monotonic()
                wait_s = progress_at + self.limits.stall_s - now
                if wait_s <= 0:
                    self._fail(f"the decoder hung on this file: no progress for {self.limits.stall_s:g} s")
                if self._left_s is not None:
                    wait_s = min(wait_s, waiting_since + self._left_s - now)
                    if wait_s <= 0:
                        self.close()
                        allowed = f"the {self._max_wall_s:g} s that are allowed"
                        raise TooLargeError(f"decoding the video takes longer than {allowed}")
                if self._cancelled is not None:
                    wait_s = min(wait_s, _LOOK_EVERY_S)
                received = self._channel.receive(wait_s)
                if received is None:
                    continue
                progress_at = time.monotonic()
                message = received[0]
                match message.get("kind"):
                    case "alive":
                        continue
                    case "memory":
                        self._fail(self._needs_memory())
                    case "fault":
                        self._fail("the decoder crashed on this file")
                    case "error":
                        raise self._error(message)
                return message
        except ChannelClosedError:
            if self._closed:
                raise
            self._fail(self._how_it_ended())
        except MessageError as error:
            self.distrust(error)
        finally:
            if self._left_s is not None:
                self._left_s -= time.monotonic() - waiting_since

    def _await_start(self) -> None:
        """Until the child is about to read the first byte of the file: what goes wrong before is not the file's."""
        try:
            received = self._channel.receive(_START_S)
        except (ChannelClosedError, MessageError):
            if self._closed:
                raise
            received = None
        if received is None or received[0] != {"kind": "ready"}:
            self._log_end("the decoder process did not start")
            raise InternalError("the decoder for this file could not be started")
        self._ready = True

    def distrust(self, why: object) -> NoReturn:
        """The child sent what no decoder of ours sends. Raises UnsupportedMediaError."""
        # As text: a log that keeps an exception would keep the frames in its traceback.
        log.warning("a decoder process sent a message that is none: %s", f"{why!s:.200}")
        self._fail("the decoder crashed on this file")

    def _error(self, message: dict[str, Any]) -> StreamsegError:
        kind, said = _ERRORS.get(text(message.get("code"))), text(message.get("message"))
        if kind is None:
            self.distrust(message)
        self.close()
        return kind(said)

    def _needs_memory(self) -> str:
        return f"the file needs more memory than allowed ({self.limits.memory_bytes / 2**20:.0f} MiB) to decode"

    def _how_it_ended(self) -> str:
        # It closed its end by dying; the kernel may need a moment until the status is there.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        said = "the decoder crashed on this file"
        status = self._process.poll()
        if status is None or status >= 0:
            return said
        try:
            ended_by = signal.Signals(-status)
        except ValueError:
            return said
        return _SAID_BY_SIGNAL.get(ended_by, f"{said} ({ended_by.name})").format(cpu_s=self.limits.cpu_s)

    def _fail(self, said: str) -> NoReturn:
        self._log_end(said)
        raise UnsupportedMediaError(said)

    def _log_end(self, said: str) -> None:
        """End the child, and log what it wrote."""
        written = b""
        # Another thread may have closed it.
        with contextlib.suppress(OSError, ValueError):
            written = (self._log.read(64 * 1024) or b"")[-_MAX_LOG_BYTES:]
        self.close()
        log.warning("%s; the decoder process (%d) wrote: %r", said, self.pid, written)

    def close(self) -> None:
        """End the child at once and take back everything that it held. May be called twice, and in any thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._process.kill()
            self._process.wait()
            self._close_ends()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def _close_ends(self) -> None:
        self._channel.close()
        self._lifeline.close()
        self._log.close()


def text(value: Any) -> str:
    """A text of the child's that may be shown: of bounded length, on one line, without control characters."""
    if not isinstance(value, str):
        raise MessageError(f"a text was expected, not {type(value).__name__}")
    return "".join(char if char.isprintable() else " " for char in value[:_MAX_TEXT_CHARS])
