"""What runs in the decoder process: it gives up its rights first, and parses strangers' bytes after that.

Started by ``decoder_process``; never imported by the process that serves.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import io
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

from streamseg.errors import StreamsegError, UnsupportedMediaError
from streamseg.media.decoder_channel import Channel, ChannelClosedError
from streamseg.media.landlock import restrict

# How often reading the file tells the parent that the decoder is alive while no frame is due.
_ALIVE_EVERY_S = 0.5
_MAX_MESSAGE_CHARS = 1000
# Decoders do not always say that memory is what they lack: this close to the limit it is taken to be.
_STARVED_FROM = 0.9


class SourceFile(io.RawIOBase):
    """The file to decode, read through a descriptor whose position is not shared with anybody."""

    def __init__(self, fd: int, channel: Channel) -> None:
        self._fd = fd
        self._channel = channel
        self._position = 0
        self._size = os.fstat(fd).st_size
        self._alive_at = time.monotonic()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        now = time.monotonic()
        if now - self._alive_at >= _ALIVE_EVERY_S:
            self._alive_at = now
            self._channel.send({"kind": "alive"}, wait=False)
        count = os.preadv(self._fd, [buffer], self._position)
        self._position += count
        return count

    @property
    def file(self) -> BinaryIO:
        """This file, as the type that readers name."""
        return cast(BinaryIO, self)


class Task:
    """What an entry function gets: the file, the channel to the parent, and what the parent asks for."""

    def __init__(self, channel: Channel, source: SourceFile, request: dict[str, Any]) -> None:
        self.channel = channel
        self.source = source
        self.request = request


def decode(task: Task) -> None:
    """Entry: VideoReader on the file; its frames go into shared memory, everything else over the channel."""
    from streamseg.media.sampling import Sampling
    from streamseg.media.shared_frames import FrameSlots
    from streamseg.media.video import VideoLimits, VideoReader

    with VideoReader(task.source.file, limits=VideoLimits(**task.request["limits"])) as reader:
        told = len(reader.problems)
        task.channel.send({"kind": "info", "info": asdict(reader.info), "problems": reader.problems})
        start, fds = _receive(task.channel, max_fds=1)
        ring = FrameSlots(fds[0], reader.info.width, reader.info.height)
        free = deque(range(ring.count))
        # JSON knows lists only.
        rule: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in start["sampling"].items()
        }
        for frame, choice in reader.frames(Sampling(**rule), start["always"]):
            while not free:
                free.append(_receive(task.channel)[0]["slot"])
            slot = free.popleft()
            ring.write(slot, frame.rgb)
            problems, told = reader.problems[told:], len(reader.problems)
            task.channel.send(
                {
                    "kind": "frame",
                    "slot": slot,
                    "index": frame.index,
                    "time_s": frame.time_s,
                    "choice": choice.name,
                    "problems": problems,
                }
            )
        task.channel.send({"kind": "end", "problems": reader.problems[told:]})


def copy_sound(task: Task) -> None:
    """Entry: extract_audio on the file, into the one file that may be written."""
    from streamseg.media.audio import extract_audio

    request = task.request
    has_sound = extract_audio(
        task.source.file,
        Path(request["out"]),
        container=request["container"],
        start_s=request["start_s"],
        end_s=request["end_s"],
    )
    task.channel.send({"kind": "end", "has_sound": has_sound})


def _receive(channel: Channel, max_fds: int = 0) -> tuple[dict[str, Any], list[int]]:
    message = channel.receive(max_fds=max_fds)
    while message is None:
        message = channel.receive(max_fds=max_fds)
    return message


def main(arguments: str) -> None:
    """Confine this process, run the entry function that ``arguments`` (JSON) names, and report how it ended."""
    request = json.loads(arguments)
    _end_with_parent(request["lifeline"])
    _limit(request)
    memory = os.open("/proc/self/status", os.O_RDONLY)
    channel = Channel(socket.socket(fileno=request["channel"]))
    try:
        module, name = request["entry"].split(":")
        entry = getattr(importlib.import_module(module), name)
        _import_decoders()
        restrict(readable=_code_folders(), writable=request["writable"])
        channel.send({"kind": "ready"})
        entry(Task(channel, SourceFile(request["source"], channel), request["task"]))
        status = 0
    except ChannelClosedError:
        os._exit(0)
    except BaseException as error:
        status = 1
        with contextlib.suppress(ChannelClosedError):
            _report(channel, error, _peak_bytes(memory) > _STARVED_FROM * request["memory_bytes"])
    # The parent ends this process once it has read everything; what a hostile file left behind in the decoders is not
    # worth taking down in order.
    with contextlib.suppress(ChannelClosedError):
        while True:
            channel.receive()
    os._exit(status)


def _report(channel: Channel, error: BaseException, near_limit: bool) -> None:
    if _is_memory(error) or (near_limit and isinstance(error, UnsupportedMediaError)):
        channel.send({"kind": "memory"})
    elif isinstance(error, StreamsegError):
        channel.send({"kind": "error", "code": error.code, "message": error.message[:_MAX_MESSAGE_CHARS]})
    else:
        traceback.print_exception(error)
        channel.send({"kind": "fault"})


def _is_memory(error: BaseException | None) -> bool:
    """Whether running out of memory is what began this chain of errors."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _peak_bytes(status: int) -> int:
    """The most address space that this process has had, from its open status file."""
    found = re.search(rb"VmPeak:\s+(\d+) kB", os.pread(status, 64 * 1024, 0))
    return int(found[1]) * 1024 if found else 0


def _end_with_parent(lifeline: int) -> None:
    """Let the kernel end this process when the parent ends or closes its end, even inside a decoder that hangs.

    PR_SET_PDEATHSIG would not do: it fires when the *thread* that started this process ends.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


def _limit(request: dict[str, Any]) -> None:
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, request["memory_bytes"], request["memory_bytes"]),
        (resource.RLIMIT_CPU, request["cpu_s"], request["cpu_s"] + 1),
        (resource.RLIMIT_FSIZE, request["written_bytes"], request["written_bytes"]),
        (resource.RLIMIT_NOFILE, request["open_files"], request["open_files"]),
    ):
        # A limit that the parent itself has may be lower, and cannot be raised.
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _import_decoders() -> None:
    # FFmpeg stays silent as PyAV has it by default: with any log level, a decoder thread that logs needs the
    # interpreter's lock, and waits for ever for a thread that ends the decoder and holds it.
    import av  # noqa: F401
    import numpy  # noqa: F401


def _code_folders() -> list[str]:
    """Where Python code may still be imported from: library folders, never the folder that a program runs in."""
    package = Path(__file__).resolve().parents[1]
    libraries = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages", "lib-dynload")]
    return [str(package), str(Path(os.__file__).parent), *libraries]
