"""A session machine on a Starlette websocket: one task reads, one writes, one works.

The reader never waits for the others, because uvicorn's own queue of messages is unbounded: what comes too fast is
dropped, refused or answered by the session machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamseg.engine import Engine
from streamseg.errors import InternalError, StreamsegError
from streamseg.pipeline import StreamOptions
from streamseg.segmentation.refine import RefineOptions
from streamseg.service.codec import encode_text
from streamseg.service.effects import (
    CLOSE_FAULT,
    Again,
    Amend,
    CameraFrame,
    Change,
    Close,
    Drop,
    Edit,
    Effect,
    Halt,
    Negotiate,
    Open,
    Outcome,
    Process,
    Processed,
    Release,
    Segment,
    Segmented,
    Send,
    SendResult,
    Store,
    Work,
)
from streamseg.service.file_session import FileService, FileSession
from streamseg.service.frame_session import FrameSession
from streamseg.service.metrics import Metrics
from streamseg.service.outbox import Outbox, OutboxFullError, Packet
from streamseg.service.protocol import (
    Failure,
    IceServerFields,
    ModelInfo,
    Progress,
    Ready,
    SessionLimits,
    Start,
)
from streamseg.service.session import Session
from streamseg.settings import Settings

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

# Key in the ASGI scope's extensions under which our server offers to drop a connection without further ado.
ABORT_EXTENSION = "streamseg.abort"


class Connection:
    """One accepted websocket, until it ends."""

    def __init__(
        self,
        websocket: WebSocket,
        engine: Engine,
        settings: Settings,
        metrics: Metrics,
        model: ModelInfo,
        files: FileService,
    ) -> None:
        self._websocket = websocket
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._session = Session(
            model,
            self._lowered,
            messages_per_s=settings.limits.messages_per_s,
            ice_servers=_ice_servers(settings),
        )
        self._outbox = Outbox()
        self._awake = asyncio.Event()
        self._files = files
        self._frames: FrameSession | None = None
        self._file: FileSession | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._amending: set[asyncio.Task[None]] = set()
        self._amend_turn = asyncio.Lock()
        self._heard_at = time.monotonic()
        self._heard = False

    async def serve(self) -> None:
        """Serve until the client leaves, breaks a rule or the server shuts down; nothing stays behind."""
        tasks = [
            asyncio.create_task(self._guarded(part), name=f"streamseg-{name}")
            for name, part in (("read", self._read), ("write", self._write), ("work", self._work))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks += self._amending
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._release()
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _guarded(self, part: Callable[[], object]) -> None:
        """Run one of the tasks; how it fails decides how the connection ends."""
        try:
            await part()  # type: ignore[misc]
        except WebSocketDisconnect:
            pass
        except (TimeoutError, OutboxFullError):
            logger.info("a client does not read what it is sent; dropping its connection")
            self._abort()
        except Exception as error:
            reason = _internal(error).message
            try:
                async with asyncio.timeout(1.0):
                    await self._websocket.close(CLOSE_FAULT, reason)
            except Exception:
                self._abort()

    def _abort(self) -> None:
        # A close frame would wait behind everything else that the client does not read.
        abort = self._websocket.scope.get("extensions", {}).get(ABORT_EXTENSION)
        if abort is not None:
            abort()

    async def _read(self) -> None:
        limits = self._settings.limits
        while True:
            limit_s = limits.idle_timeout_s if self._heard else min(limits.handshake_timeout_s, limits.idle_timeout_s)
            try:
                async with asyncio.timeout_at(self._idle_at(limit_s)):
                    message = await self._websocket.receive()
            except TimeoutError:
                self._perform(self._session.idle(limit_s))
                if self._session.closed:
                    # The writer ends the connection once the reason is on its way.
                    await asyncio.Event().wait()
                continue
            if message["type"] == "websocket.disconnect":
                return
            self._heard_at, self._heard = time.monotonic(), True
            data = message.get("bytes")
            self._perform(self._session.receive(message["text"] if data is None else data))
            # Messages that are there already come without a pause; the other tasks must get their turn too.
            await asyncio.sleep(0)

    def _idle_at(self, limit_s: float) -> float:
        now = time.monotonic()
        # While a frame is in work, silence is what a patient client does.
        since = now if self._session.busy else self._heard_at
        return asyncio.get_running_loop().time() + max(since + limit_s - now, 0.0)

    async def _write(self) -> None:
        while True:
            item = await self._outbox.next()
            async with asyncio.timeout(self._settings.limits.send_timeout_s):
                if isinstance(item, Close):
                    await self._websocket.close(item.code, item.reason)
                    return
                for message in item.messages:
                    if isinstance(message, str):
                        await self._websocket.send_text(message)
                    else:
                        await self._websocket.send_bytes(message)
            self._outbox.sent()

    async def _work(self) -> None:
        while True:
            # Asked before the work is taken, so that it is the newest frame that is taken then.
            await self._outbox.room()
            work = self._session.take()
            if work is None:
                self._awake.clear()
                await self._awake.wait()
                continue
            outcome = await self._outcome(work)
            self._heard_at = time.monotonic()
            self._perform(self._session.ended(outcome))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    if isinstance(message, Failure):
                        self._metrics.error(message.code)
                    elif isinstance(message, Ready):
                        self._metrics.sessions_total.inc()
                    self._outbox.put(Packet((encode_text(message),)))
                case SendResult(result, attachments, camera):
                    self._metrics.frames.inc()
                    self._metrics.stages(result.timings_ms)
                    if camera and self._frames is not None and self._frames.send(result):
                        continue
                    self._outbox.put(Packet((encode_text(result), *attachments), result=True))
                case Drop():
                    self._metrics.dropped.inc()
                case Halt():
                    if self._file is not None:
                        self._file.halt()
                case Amend(request):
                    self._amend(request)
                case Release():
                    self._release()
                case Close():
                    self._outbox.put(effect)
        self._awake.set()

    # Work

    async def _outcome(self, work: Work) -> Outcome:
        try:
            match work:
                case Open(start):
                    await self._open(start)
                case Change():
                    if self._file is not None:
                        await self._file.change(work.request)
                    else:
                        await self._opened_frames().change(work)
                case Negotiate(signal):
                    return await self._opened_frames().negotiate(signal)
                case Segment() | Again():
                    return await self._opened_frames().segment(work)
                case Store(chunk):
                    await self._opened_file().store(chunk.payload)
                case Process():
                    return await self._process()
        except StreamsegError as error:
            return error
        except Exception as error:
            return _internal(error)
        return None

    async def _open(self, start: Start) -> None:
        limits = self._settings.limits.lowered(start.limits.model_dump(exclude_none=True))
        options = StreamOptions(
            mode=start.mode,
            carry=start.carry,
            multimask=start.multimask,
            score_threshold=start.score_threshold,
            refine=self._refine(start),
            track=self._settings.track,
        )
        if start.source == "file":
            self._metrics.sessions.inc()
            self._file = FileSession(
                start, limits, options, self._engine, self._files, self._metrics, self._deliver, self._report
            )
            await self._file.open()
            return
        self._metrics.sessions.inc()
        self._frames = FrameSession(start, limits, options, self._engine, self._settings, self._take, self._fail)
        await self._frames.open()

    def _refine(self, start: Start) -> RefineOptions:
        wanted = {} if start.refine is None else start.refine.model_dump(exclude_none=True)
        return dataclasses.replace(self._settings.refine, **wanted)

    def _take(self, frame: CameraFrame) -> None:
        self._perform(self._session.camera(frame))

    def _fail(self, error: StreamsegError) -> None:
        with contextlib.suppress(OutboxFullError):
            self._perform([Send(Failure.of(error))])

    # Files

    async def _process(self) -> Processed:
        file = self._opened_file()
        try:
            processed = await file.process()
        finally:
            # Before the client hears that it is over: the next file then finds the room of this one.
            await asyncio.shield(self._closed(file))
        self._metrics.files_done.inc()
        return processed

    def _amend(self, request: Edit) -> None:
        file = self._opened_file()

        async def amend() -> None:
            outcome: StreamsegError | None = None
            try:
                # A lock is fair: what came first is carried out first.
                async with self._amend_turn:
                    await file.amend(request)
            except StreamsegError as error:
                outcome = error
            except Exception as error:
                outcome = _internal(error)
            with contextlib.suppress(OutboxFullError):
                self._perform(self._session.amended(request, outcome))

        self._amending.add(task := asyncio.create_task(amend(), name="streamseg-amend"))
        task.add_done_callback(self._amending.discard)

    async def _deliver(self, index: int, time_s: float, segmented: Segmented) -> None:
        await self._outbox.room()
        self._perform(self._session.emit(index, time_s, segmented))

    def _report(self, progress: Progress) -> None:
        # A client that reads nothing is found out by the writer.
        with contextlib.suppress(OutboxFullError):
            self._perform(self._session.report(progress))

    def _opened_file(self) -> FileSession:
        if self._file is None:
            raise RuntimeError("the session machine gave work without a file")
        return self._file

    def _opened_frames(self) -> FrameSession:
        if self._frames is None:
            raise RuntimeError("the session machine gave work without a session")
        return self._frames

    def _closed(self, what: FileSession | FrameSession) -> asyncio.Task[None]:
        """Close what a session works with, whether or not somebody waits for it."""
        task = asyncio.create_task(what.close(), name="streamseg-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _release(self) -> None:
        opened = self._file or self._frames
        self._file = self._frames = None
        if opened is not None:
            self._closed(opened)
            self._metrics.sessions.dec()

    def _lowered(self, start: Start) -> SessionLimits:
        limits = self._settings.limits.lowered(start.limits.model_dump(exclude_none=True))
        return SessionLimits(**{name: getattr(limits, name) for name in SessionLimits.model_fields})


def _ice_servers(settings: Settings) -> list[IceServerFields]:
    return [
        IceServerFields(
            urls=server.urls,
            username=server.username,
            credential=None if server.credential is None else server.credential.get_secret_value(),
        )
        for server in settings.webrtc.ice_servers
    ]


def _internal(error: Exception) -> InternalError:
    """What a client hears of a fault of ours: a number under which the log has the rest."""
    number = secrets.token_hex(6)
    logger.error("fault %s", number, exc_info=error)
    return InternalError(f"a fault of the server; its log has the details under {number}")
