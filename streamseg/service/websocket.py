"""A session machine and what carries its works out, on whichever websocket the client has at the time.

The websocket itself is read and written by its ``Link``; one task works.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from streamseg.engine import Engine
from streamseg.errors import SessionGoneError, StreamsegError
from streamseg.service.codec import encode_text
from streamseg.service.effects import (
    CLOSE_FAULT,
    CLOSE_RESUMED_ELSEWHERE,
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
    Rejoin,
    Release,
    Segment,
    Segmented,
    Send,
    SendResult,
    Store,
    Work,
)
from streamseg.service.file_service import FileService
from streamseg.service.file_session import FileSession
from streamseg.service.frame_session import FrameSession
from streamseg.service.link import Link, internal
from streamseg.service.metrics import Metrics
from streamseg.service.outbox import Item, Packet
from streamseg.service.places import Place
from streamseg.service.protocol.client_messages import SHARED_SOURCES, Resume, Start
from streamseg.service.protocol.server_messages import Failure, ModelInfo, Ok, Progress, Ready, Resumed, SourceChanged
from streamseg.service.resumable import Registry
from streamseg.service.session import Session
from streamseg.service.stream_session import StreamSession
from streamseg.service.terms import ice_servers, lowered, stream_options, told
from streamseg.service.work_queue import MAX_WAITING
from streamseg.settings import Settings

if TYPE_CHECKING:
    from streamseg.service.shared_stream import SourceState
    from streamseg.service.streams import Streams

# What a session works with.
Opened: TypeAlias = FileSession | FrameSession | StreamSession
K = TypeVar("K", bound=Opened)


class Conversation:
    """With one client: on ``link``, and after that broke, while a live session is kept, on the next one."""

    def __init__(
        self,
        link: Link,
        engine: Engine,
        settings: Settings,
        metrics: Metrics,
        model: ModelInfo,
        files: FileService,
        registry: Registry,
        streams: Streams,
    ) -> None:
        self._link: Link | None = link
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._session = Session(
            model,
            lambda start: told(lowered(settings.limits, start)),
            messages_per_s=settings.limits.messages_per_s,
            ice_servers=ice_servers(settings),
        )
        self._registry = registry
        self._session_id: str | None = None
        # What a client that comes back is told once more: it may never have arrived.
        self._answers: deque[Ok | Failure] = deque(maxlen=MAX_WAITING)
        self._newest: Packet | None = None
        self._awake = asyncio.Event()
        self._files = files
        self._streams = streams
        self._opened: Opened | None = None
        self._worker: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._amending: set[asyncio.Task[None]] = set()
        self._amend_turn = asyncio.Lock()

    async def serve(self, link: Link) -> None:
        """Serve until the client leaves, breaks a rule or the server shuts down.

        Nothing stays behind, unless the session is kept: then the registry frees it.
        """
        self._worker = asyncio.create_task(self._guarded_work(), name="streamseg-work")
        broke = False
        try:
            broke = await link.serve(self)
        finally:
            # It may be another one's by now, or nobody's: then its owner goes on elsewhere.
            if link.owner is not None:
                await link.owner.left(broke)

    # The link

    @property
    def busy(self) -> bool:
        # Who looks on is not idle, also while there is nothing to see.
        return self._session.busy or isinstance(self._opened, StreamSession)

    def receive(self, data: str | bytes) -> None:
        self._perform(self._session.receive(data))

    def idle(self, seconds: float) -> None:
        if not self.busy:
            self._perform(self._session.idle(seconds))

    async def left(self, broke: bool) -> None:
        link, self._link = self._link, None
        if not (broke and link is not None and self._registry.keep(self, link.place)):
            await self.end()

    async def end(self) -> None:
        """Free everything."""
        tasks = [*self._amending, *([] if self._worker is None else [self._worker])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._release()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # Coming back

    @property
    def resumable_id(self) -> str | None:
        return self._session.resumable_id

    def rejoin(self, link: Link, request: Resume, place: Place | None) -> None:
        former, self._link = self._link, link
        link.owner = self
        if former is not None:
            place = former.place
            former.dismiss(CLOSE_RESUMED_ELSEWHERE, "resumed elsewhere")
        if place is not None:
            link.place.inherit(place)
        answered = [answer.request_id for answer in self._answers if answer.request_id is not None]
        opened = self._opened
        # Only a live session can go on.
        assert isinstance(opened, FrameSession | StreamSession)
        self._perform(self._session.resumed(request, opened.object_ids, answered))
        for answer in self._answers:
            self._put(Packet((encode_text(answer),)))
        if isinstance(opened, StreamSession):
            opened.tell_source()
        if self._newest is not None:
            self._put(self._newest)

    def _hand_over(self, request: Resume) -> None:
        """Give the websocket to the session that its client comes back for."""
        link, self._link = self._link, None
        if link is not None and self._registry.rejoin(link, request):
            if self._worker is not None:
                self._worker.cancel()
            return
        self._link = link
        gone = SessionGoneError("this session is not kept (any more); start another one")
        self._perform([Send(Failure.of(gone, request_id=request.request_id))])

    # Work

    async def _guarded_work(self) -> None:
        try:
            await self._work()
        except Exception as error:
            self._perform(self._session.close(CLOSE_FAULT, internal(error).message))

    async def _work(self) -> None:
        while True:
            if self._link is not None:
                # Asked before the work is taken, so that it is the newest frame that is taken then.
                await self._link.room()
            work = self._session.take()
            if work is None:
                self._awake.clear()
                await self._awake.wait()
                continue
            outcome = await self._outcome(work)
            if self._link is not None:
                self._link.touch()
            self._perform(self._session.ended(outcome))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    if isinstance(message, Failure):
                        self._metrics.error(message.code)
                    elif isinstance(message, Ready) and not isinstance(message, Resumed):
                        self._metrics.sessions_total.inc()
                        self._session_id = self._session.resumable_id
                        self._registry.add(self)
                    if isinstance(message, Ok | Failure) and message.request_id is not None and self._session_id:
                        self._answers.append(message)
                    self._put(Packet((encode_text(message),)))
                case SendResult(result, attachments, camera):
                    self._metrics.frames.inc()
                    self._metrics.stages(result.timings_ms)
                    if camera and isinstance(self._opened, FrameSession) and self._opened.send(result):
                        continue
                    packet = Packet((encode_text(result), *attachments), result=True)
                    if self._session_id is not None:
                        self._newest = packet
                    self._put(packet)
                case Drop():
                    self._metrics.dropped.inc()
                case Halt():
                    if isinstance(self._opened, FileSession):
                        self._opened.halt()
                case Amend(request):
                    self._amend(request)
                case Rejoin(request):
                    self._hand_over(request)
                case Release():
                    self._release()
                case Close():
                    self._put(effect)
        self._awake.set()

    def _put(self, item: Item) -> None:
        # A client that is away hears the newest of it when it comes back.
        if self._link is not None:
            self._link.put(item)

    async def _outcome(self, work: Work) -> Outcome:
        try:
            match work:
                case Open(start):
                    await self._open(start)
                case Change():
                    assert self._opened is not None
                    await self._opened.change(work)
                case Negotiate(signal):
                    return await self._opened_as(FrameSession).negotiate(signal)
                case Segment() | Again():
                    return await self._opened_as(FrameSession).segment(work)
                case Store(chunk):
                    await self._opened_as(FileSession).store(chunk.payload)
                case Process():
                    return await self._process()
        except StreamsegError as error:
            return error
        except Exception as error:
            return internal(error)
        return None

    async def _open(self, start: Start) -> None:
        if self._link is not None:
            # Who came back for a session has none before that.
            self._link.place.take()
        self._opened = self._kind(start)
        self._metrics.sessions.inc()
        await self._opened.open()

    def _kind(self, start: Start) -> Opened:
        settings = self._settings
        limits, options = lowered(settings.limits, start), stream_options(settings, start)
        if start.source == "file":
            return FileSession(
                start, limits, options, self._engine, self._files, self._metrics, self._deliver, self._report
            )
        if start.source in SHARED_SOURCES:
            return StreamSession(
                start,
                limits,
                options,
                self._streams,
                self._has_room,
                self._viewed,
                self._source_changed,
                self._failed,
            )
        return FrameSession(start, limits, options, self._engine, settings, self._take, self._fail)

    def _take(self, frame: CameraFrame) -> None:
        self._perform(self._session.camera(frame))

    def _fail(self, error: StreamsegError) -> None:
        self._failed(Failure.of(error))

    def _failed(self, failure: Failure) -> None:
        self._perform([Send(failure)])

    # Streams

    def _has_room(self) -> bool:
        return self._link is not None and self._link.has_room

    def _viewed(self, index: int, time_s: float, segmented: Segmented) -> None:
        self._perform(self._session.viewed(index, time_s, segmented))

    def _source_changed(self, state: SourceState, why: str) -> None:
        self._perform([Send(SourceChanged(type="source", state=state, message=why))])

    # Files

    async def _process(self) -> Processed:
        file = self._opened_as(FileSession)
        try:
            processed = await file.process()
        finally:
            # Before the client hears that it is over: the next file then finds the room of this one.
            await asyncio.shield(self._closed(file))
        self._metrics.files_done.inc()
        return processed

    def _amend(self, request: Edit) -> None:
        file = self._opened_as(FileSession)

        async def amend() -> None:
            outcome: StreamsegError | None = None
            try:
                # A lock is fair: what came first is carried out first.
                async with self._amend_turn:
                    await file.amend(request)
            except StreamsegError as error:
                outcome = error
            except Exception as error:
                outcome = internal(error)
            self._perform(self._session.amended(request, outcome))

        self._amending.add(task := asyncio.create_task(amend(), name="streamseg-amend"))
        task.add_done_callback(self._amending.discard)

    async def _deliver(self, index: int, time_s: float, segmented: Segmented) -> None:
        if self._link is not None:
            await self._link.room()
        self._perform(self._session.emit(index, time_s, segmented))

    def _report(self, progress: Progress) -> None:
        self._perform(self._session.report(progress))

    def _opened_as(self, kind: type[K]) -> K:
        if not isinstance(self._opened, kind):
            raise RuntimeError(f"the session machine gave work without a {kind.__name__}")
        return self._opened

    def _closed(self, what: Opened) -> asyncio.Task[None]:
        """Close what a session works with, whether or not somebody waits for it."""
        task = asyncio.create_task(what.close(), name="streamseg-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _release(self) -> None:
        opened, self._opened = self._opened, None
        if self._session_id is not None:
            self._registry.forget(self._session_id)
        self._session_id = self._newest = None
        self._answers.clear()
        if opened is not None:
            self._closed(opened)
            self._metrics.sessions.dec()
