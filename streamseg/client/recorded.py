"""A video file through a server: its upload, its results as they come, and what there is to download."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Literal, Self

from streamseg.client.connection import Connection, Incoming
from streamseg.client.download import download
from streamseg.client.wire import RemoteFile, RemoteResult, remote_files, result_from
from streamseg.closable import AsyncClosable
from streamseg.errors import BadMessageError, BadStateError, NotFoundError, StreamsegError, UnsupportedMediaError

# Of a server that does not say what it takes.
PIECE_BYTES = 2**20
WINDOW_BYTES = 4 * 2**20
# How soon ``cancelled`` is noticed while the server has nothing to say.
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class RemoteProgress:
    """How far a file is: sent to the server, waiting there for its turn, then being processed.

    ``sent_bytes`` of ``size_bytes`` are at the server. ``waiting``: its place in the server's line, from 1.
    ``backwards``: frames that were tracked backwards so far, before the way forwards begins. ``frames`` are done of
    ``total`` (an estimate, where there is one), up to ``time_s``, at ``fps``; ``eta_s``: seconds left.
    """

    stage: Literal["upload", "waiting", "processing"]
    sent_bytes: int
    size_bytes: int
    waiting: int | None = None
    backwards: int = 0
    frames: int = 0
    total: int | None = None
    time_s: float = 0.0
    fps: float = 0.0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class RemoteSummary:
    """What came of a file. ``problems``: what was wrong with it and survivable; ``lost``: frames by object.

    ``remote_files``: what the server keeps for a while; ``files``: what of it was fetched. ``seconds``: from the first
    to the last segmented frame; ``took_s``: with the upload and the downloads.
    """

    frames: int
    seconds: float
    took_s: float
    interrupted: bool
    problems: tuple[str, ...]
    files: tuple[Path, ...]
    lost: dict[int, int]
    remote_files: tuple[RemoteFile, ...]


class AsyncRecording(AsyncClosable):
    """A file that is segmented by a server; made by ``AsyncClient.segment_file``.

    The iteration sends the file and gives its results, in order and without gaps; the server waits for a caller who
    takes them slowly. After its end ``summary`` says what came of it. ``finish`` does without the results.
    """

    def __init__(
        self,
        connection: Connection,
        file: BinaryIO,
        size_bytes: int,
        *,
        url: str,
        token: str | None,
        out: Path | None,
        on_progress: Callable[[RemoteProgress], None] | None,
        cancelled: Event | None,
        timeout_s: float | None,
    ) -> None:
        self._connection = connection
        self._file = file
        self._size_bytes = size_bytes
        self._url = url
        self._token = token
        self._out = out
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._timeout_s = timeout_s
        self._began_s = time.perf_counter()
        self._piece_bytes = PIECE_BYTES
        self._window_bytes = WINDOW_BYTES
        self._sent_bytes = 0
        self._received_bytes = 0
        self._stopped = False
        self._failure: StreamsegError | None = None
        self._ended = False
        self._first_s: float | None = None
        self._last_s = 0.0
        self._frames = 0
        self._lost: Counter[int] = Counter()
        self.summary: RemoteSummary | None = None

    @classmethod
    async def open(cls, connection: Connection, start: Mapping[str, Any], path: Path, **options: Any) -> Self:
        """Start a session on an open connection, which belongs to the recording from then on."""
        try:
            file, size_bytes = await asyncio.to_thread(_open, path)
            recording = cls(connection, file, size_bytes, **options)
        except BaseException:
            await connection.close()
            raise
        try:
            await recording._start({**start, "name": path.name[:255], "size_bytes": size_bytes})
        except BaseException:
            await recording.close()
            raise
        return recording

    async def close(self) -> None:
        """Drop what is under way; the server then deletes everything that is not finished."""
        self._ended = True
        await asyncio.to_thread(self._file.close)
        await self._connection.close()

    async def stop(self) -> None:
        """End early: the iteration gives what is still in work, and the files hold what was done so far."""
        if not self._ended and not self._stopped:
            self._stopped = True
            await self._connection.send({"type": "stop", "request_id": self._connection.next_id()})

    async def finish(self) -> RemoteSummary:
        """Let it run to its end."""
        async for _ in self:
            pass
        if self.summary is None:
            raise BadStateError("this recording was closed before it was done")
        return self.summary

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteResult:
        while not self._ended:
            if self._cancelled is not None and self._cancelled.is_set():
                await self.stop()
            if self._may_send():
                await self._send_piece()
                continue
            result = await self._handle(await self._receive())
            if result is not None:
                return result
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        raise StopAsyncIteration

    async def _start(self, start: Mapping[str, Any]) -> None:
        await self._connection.send({**start, "request_id": self._connection.next_id()})
        ready = await self._connection.receive_within(self._timeout_s)
        if ready.type == "error":
            raise ready.error()
        self._piece_bytes = _positive(ready.fields.get("chunk_bytes"), PIECE_BYTES)
        self._window_bytes = _positive(ready.fields.get("window_bytes"), WINDOW_BYTES)
        self._piece_bytes = min(self._piece_bytes, self._window_bytes)

    def _may_send(self) -> bool:
        if self._stopped or self._failure is not None or self._sent_bytes >= self._size_bytes:
            return False
        end = min(self._sent_bytes + self._piece_bytes, self._size_bytes)
        return end - self._received_bytes <= self._window_bytes

    async def _send_piece(self) -> None:
        offset = self._sent_bytes
        piece = await asyncio.to_thread(self._file.read, min(self._piece_bytes, self._size_bytes - offset))
        if not piece:
            raise BadStateError("the file became shorter while it was sent")
        self._sent_bytes += len(piece)
        last = self._sent_bytes == self._size_bytes
        await self._connection.send_chunk({"offset": offset, **({"last": True} if last else {})}, piece)

    async def _receive(self) -> Incoming:
        if self._cancelled is None or self._stopped:
            return await self._connection.receive_within(self._timeout_s)
        # A cancelled read loses no message; the event belongs to other threads and cannot wake this one.
        receiving = asyncio.ensure_future(self._connection.receive_within(self._timeout_s))
        try:
            while True:
                await asyncio.wait({receiving}, timeout=LOOK_EVERY_S)
                if receiving.done():
                    return receiving.result()
                if self._cancelled.is_set():
                    await self.stop()
        finally:
            if not receiving.done():
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)

    async def _handle(self, message: Incoming) -> RemoteResult | None:
        match message.type:
            case "received":
                self._received_bytes = _positive(message.fields.get("bytes"), 0)
                self._tell(RemoteProgress("upload", self._received_bytes, self._size_bytes))
            case "progress":
                self._tell(_progress(message.fields, self._received_bytes, self._size_bytes))
            case "result":
                return self._take(result_from(message.fields, message.attachments, None))
            case "error":
                if self._failure is None:
                    self._failure = message.error()
            case "done":
                await self._done(message)
        return None

    def _take(self, result: RemoteResult) -> RemoteResult:
        self._frames += 1
        self._first_s = result.time_s if self._first_s is None else self._first_s
        self._last_s = result.time_s
        for one in result.objects:
            self._lost[one.object_id] += one.state != "tracked"
        return result

    async def _done(self, message: Incoming) -> None:
        self._ended = True
        if self._failure is not None:
            return
        named = remote_files(message.fields.get("files"))
        paths: list[Path] = []
        for file in named if self._out is not None else ():
            assert self._out is not None
            paths.append(await self._download(file, self._out))
        problems = message.fields.get("problems") or ()
        self.summary = RemoteSummary(
            frames=self._frames,
            seconds=0.0 if self._first_s is None else self._last_s - self._first_s,
            took_s=time.perf_counter() - self._began_s,
            interrupted=self._stopped,
            problems=tuple(str(one) for one in problems),
            files=tuple(paths),
            lost=dict(self._lost),
            remote_files=named,
        )

    async def _download(self, file: RemoteFile, folder: Path) -> Path:
        wanted = True
        try:
            return await asyncio.to_thread(
                download,
                self._url,
                self._token,
                file,
                folder,
                timeout_s=self._timeout_s,
                wanted=lambda: wanted,
            )
        finally:
            # The thread ends by itself where the caller was cancelled.
            wanted = False

    def _tell(self, progress: RemoteProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)


def _open(path: Path) -> tuple[BinaryIO, int]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        size_bytes = path.stat().st_size
        if size_bytes == 0:
            raise UnsupportedMediaError(f"{path} is empty: no video")
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file, size_bytes


def _positive(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _progress(fields: Mapping[str, Any], sent_bytes: int, size_bytes: int) -> RemoteProgress:
    waiting = fields.get("waiting")
    try:
        return RemoteProgress(
            "processing" if waiting is None else "waiting",
            sent_bytes,
            size_bytes,
            waiting=waiting,
            backwards=fields.get("backwards") or 0,
            frames=int(fields["frames"]),
            total=None if fields["total"] is None else int(fields["total"]),
            time_s=float(fields["time_s"]),
            fps=float(fields["fps"]),
            eta_s=None if fields["eta_s"] is None else float(fields["eta_s"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessageError("the server sent a progress that this client cannot read") from error
