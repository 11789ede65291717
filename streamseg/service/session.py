"""One client's state machine, free of I/O.

Texts and bytes of the client and the outcomes of its work go in, effects come out; whoever holds the socket carries
them out in order, and takes the next work with ``take`` once the former one has ended and its result is on its way:

    idle --start--> open --stop, or the picture's result--> ending --last work ended--> idle

On ``frames`` the newest frame wins: one is in work, one waits, and a waiting one gives way to a newer one. A ``file``
comes in pieces, each stored before the next ones are asked for, and is then one long work that tells its results.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadStateError,
    OverloadedError,
    RateLimitedError,
    StreamsegError,
)
from streamseg.service import stream_rules, webrtc_rules
from streamseg.service.codec import parse_binary, parse_text
from streamseg.service.effects import (
    CLOSE_GOING_AWAY,
    CLOSE_POLICY,
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
    Signal,
    Store,
    Work,
)
from streamseg.service.protocol import VERSION
from streamseg.service.protocol.client_messages import (
    LIVE_SOURCES,
    SHARED_SOURCES,
    WINDOW_BYTES,
    Candidate,
    ChunkMessage,
    ClientMessage,
    FrameMessage,
    Offer,
    PromptRequest,
    Resume,
    Start,
    Stop,
    Undo,
)
from streamseg.service.protocol.server_messages import (
    Answer,
    Done,
    Failure,
    IceServerFields,
    ModelInfo,
    Ok,
    Progress,
    Ready,
    Received,
    Result,
    Resumed,
    SessionLimits,
)
from streamseg.service.rate import TokenBucket
from streamseg.service.upload import Upload, check_prompt_moment, check_start, chunk_bytes

# Prompts, removals and resets that may wait while a frame is in work.
MAX_WAITING = 64
# A burst of so many seconds' worth of messages is let through.
BURST_S = 2.0
# Pieces of a file from this size on are paced by what is stored, so they do not count as messages.
BULK_BYTES = 256 * 2**10


class Session:
    """The state of one connection.

    ``limits``: the server's; a ``start`` may lower them, and ``lower`` tells what then holds. ``clock``: seconds,
    monotonic.
    """

    def __init__(
        self,
        model: ModelInfo,
        lower: Callable[[Start], SessionLimits],
        *,
        messages_per_s: float,
        ice_servers: Sequence[IceServerFields] = (),
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._model = model
        self._lower = lower
        self._clock = clock
        self._new_id = new_id
        self._bucket = TokenBucket(messages_per_s, BURST_S * messages_per_s, clock)
        self._messages_per_s = messages_per_s
        self._ice_servers = list(ice_servers)
        self._closed = False
        # Whether pieces of a file that is given up may still be on their way.
        self._draining = False
        self._clear()

    def _clear(self) -> None:
        self._start: Start | None = None
        self._id: str | None = None
        self._ending = False
        self._stop: Stop | None = None
        self._work: Work | None = None
        self._waiting: deque[Work] = deque()
        # The one picture of an `image` session, from its arrival on; on `frames` the newest one.
        self._picture: Segment | None = None
        self._first_at: float | None = None
        self._frames = 0
        self._newest_told = -1
        # Changes to the file under way whose outcome is owed.
        self._amending = 0
        self._dropped = 0
        self._upload: Upload | None = None
        self._processed: Processed | None = None
        # What is wrong with the camera's frames: said once, not with every frame.
        self._camera_fault: str | None = None

    @property
    def open(self) -> bool:
        """Whether a ``start`` was received whose ``done`` is still owed."""
        return self._start is not None

    @property
    def closed(self) -> bool:
        """Whether the connection is to be closed; nothing more is taken from the client."""
        return self._closed

    @property
    def resumable_id(self) -> str | None:
        """The id under which the session may go on over another connection; None where it may not."""
        start = self._start
        if self._closed or self._ending or start is None or start.source not in LIVE_SOURCES:
            return None
        return self._id

    @property
    def busy(self) -> bool:
        """Whether a work is under way or waits to be taken."""
        return self._work is not None or bool(self._waiting)

    # What comes in

    def receive(self, data: str | bytes) -> list[Effect]:
        """A message of the client, as it came."""
        if self._closed:
            return []
        if not self._is_paced(data) and not self._bucket.take():
            self._closed = True
            return [
                Send(Failure.of(RateLimitedError(f"more than {self._messages_per_s:g} messages per second"))),
                Close(CLOSE_POLICY, "too many messages per second"),
            ]
        try:
            message = parse_text(data) if isinstance(data, str) else parse_binary(data)
        except StreamsegError as error:
            return [Send(Failure.of(error))]
        return self.handle(message)

    def handle(self, message: ClientMessage) -> list[Effect]:
        """A message of the client, parsed."""
        if self._closed:
            return []
        effects: list[Effect] = []
        try:
            match message:
                case Start():
                    self._on_start(message)
                case FrameMessage():
                    effects = self._on_frame(message)
                case ChunkMessage():
                    effects = self._on_chunk(message)
                case Stop():
                    effects = self._on_stop(message)
                case Resume():
                    if self._start is not None:
                        raise BadStateError("a session is running already; resume is the first message of a connection")
                    effects = [Rejoin(message)]
                case Offer() | Candidate():
                    self._on_signal(message)
                case _:
                    effects = self._on_edit(message)
        except StreamsegError as error:
            index = message.header.index if isinstance(message, FrameMessage) else None
            return [Send(Failure.of(error, request_id=message.request_id, index=index))]
        return effects + self._finish()

    def take(self) -> Work | None:
        """The next work, if there is any and none is under way; its outcome is owed to ``ended``."""
        if self._closed or self._work is not None or not self._waiting:
            return None
        self._work = self._waiting.popleft()
        return self._work

    def ended(self, outcome: Outcome) -> list[Effect]:
        """The work under way has ended: with a result, with an error, or done (None)."""
        work, self._work = self._work, None
        if self._closed or work is None:
            return []
        effects: list[Effect]
        match work:
            case Open():
                effects = self._opened(work, outcome)
            case Change():
                effects = self._changed(work, outcome)
            case Negotiate():
                effects = self._negotiated(work, outcome)
            case Segment() | Again():
                effects = self._segmented(work, outcome)
            case Store():
                effects = self._stored(work, outcome)
            case Process():
                effects = self._file_ended(outcome)
        return effects + self._finish()

    def resumed(self, request: Resume, object_ids: Sequence[int], answered: Iterable[str]) -> list[Effect]:
        """The client came back for this session, over another connection.

        ``object_ids``: those that are known; ``answered``: request ids whose answers follow.
        """
        start, session_id = self._start, self.resumable_id
        assert start is not None
        assert session_id is not None
        under_way = [] if self._work is None else [self._work]
        waiting = [
            work.request_id for work in (*under_way, *self._waiting) if isinstance(work, Change | Negotiate | Segment)
        ]
        ready = self._ready(start, request.request_id, session_id)
        return [
            Send(
                Resumed(
                    **dict(ready),
                    resumed=True,
                    newest_index=None if self._picture is None else self._picture.index,
                    object_ids=list(object_ids),
                    received=[one for one in (*answered, *waiting) if one is not None],
                )
            )
        ]

    def camera(self, frame: CameraFrame) -> list[Effect]:
        """A frame came over WebRTC."""
        start = self._start
        if self._closed or start is None or self._ending or start.source != "webrtc":
            return []
        return self._arrived(start, frame, None, None)

    def emit(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame of the file under way was segmented."""
        if self._closed or not isinstance(self._work, Process):
            return []
        # Frames that are segmented again do not count again.
        self._frames += index > self._newest_told
        self._newest_told = max(self._newest_told, index)
        return [SendResult(self._result(index, time_s, segmented), segmented.attachments)]

    def viewed(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame of the stream that the client looks at was segmented."""
        if self._closed or self._start is None or self._ending:
            return []
        if self._frames:
            self._dropped += index - self._newest_told - 1
        self._frames += 1
        self._newest_told = index
        return [SendResult(self._result(index, round(time_s, 6), segmented), segmented.attachments)]

    def amended(self, request: Edit, outcome: StreamsegError | None) -> list[Effect]:
        """What came of an ``Amend``."""
        if self._closed or self._start is None:
            return []
        self._amending = max(self._amending - 1, 0)
        if outcome is not None:
            return [Send(Failure.of(outcome, request_id=request.request_id))]
        return [Send(Ok(type="ok", of=request.type, request_id=request.request_id))]

    def report(self, progress: Progress) -> list[Effect]:
        """How far the file under way is."""
        return [Send(progress)] if isinstance(self._work, Process) and not self._closed else []

    def idle(self, seconds: float) -> list[Effect]:
        """Nothing was received for ``seconds``, which is the limit."""
        return [] if self._closed or self.busy else self.close(CLOSE_GOING_AWAY, f"nothing received for {seconds:g} s")

    def close(self, code: int, reason: str) -> list[Effect]:
        """End the connection."""
        if self._closed:
            return []
        self._closed = True
        return [Close(code, reason)]

    # Messages

    def _on_start(self, start: Start) -> None:
        if self._start is not None:
            raise BadStateError("a session is running already; send stop and wait for done before the next start")
        if start.keep and start.source in LIVE_SOURCES:
            raise BadMessageError(f'keep is for the source "image"; "{start.source}" stays open anyway')
        if start.multimask and start.mode != "image":
            raise BadMessageError('multimask is for the mode "image"')
        if start.window is not None and not start.window[0] < start.window[1]:
            raise BadMessageError("window is [low, high] with low < high")
        limits = self._lower(start)
        check_start(start, limits)
        webrtc_rules.check_start(start, limits.max_image_pixels)
        stream_rules.check_start(start)
        if start.size_bytes is not None:
            self._upload = Upload(start.size_bytes, chunk_bytes(limits))
        self._start = start
        self._draining = False
        self._waiting.append(Open(start))

    def _on_frame(self, frame: FrameMessage) -> list[Effect]:
        start = self._running("frame")
        if start.source == "file":
            raise BadStateError("a file comes as chunks, not as frames")
        if start.source in SHARED_SOURCES:
            raise BadStateError(f'frames of the source "{start.source}" come from the stream itself')
        if start.source == "image" and self._picture is not None:
            raise BadStateError("this session has its picture already; stop and start again for another one")
        return self._arrived(start, frame, frame.header.index, frame.header.time_s)

    def _arrived(
        self, start: Start, frame: FrameMessage | CameraFrame, index: int | None, time_s: float | None
    ) -> list[Effect]:
        newest = -1 if self._picture is None else self._picture.index
        index = newest + 1 if index is None else index
        if index <= newest:
            raise BadMessageError(f"the frame index {index} comes after {newest}; indices must increase")
        now = self._clock()
        if self._first_at is None:
            self._first_at = now
        time_s = round(now - self._first_at, 6) if time_s is None else time_s
        self._picture = Segment(frame, index, time_s)
        former = self._waiting[-1] if self._waiting and start.source in LIVE_SOURCES else None
        if not isinstance(former, Segment):
            self._waiting.append(self._picture)
            return []
        self._waiting[-1] = self._picture
        self._dropped += 1
        return [Drop(former.index)]

    def _on_chunk(self, chunk: ChunkMessage) -> list[Effect]:
        if self._draining and (self._start is None or self._ending):
            return []
        start = self._running("chunk")
        if self._upload is None:
            raise BadStateError(f'chunks are for the source "file"; this one is "{start.source}"')
        try:
            self._upload.take(chunk)
        except BadMessageError as error:
            self._give_up()
            return [Send(Failure.of(error, request_id=chunk.request_id))]
        self._waiting.append(Store(chunk, self._upload.come_bytes))
        if self._upload.complete:
            self._waiting.append(Process())
        return []

    def _give_up(self) -> None:
        """End a file's session with what is under way; what waits is not done, but for the answer to its start."""
        self._waiting = deque(work for work in self._waiting if isinstance(work, Open))
        self._ending = True
        self._draining = True

    def _is_paced(self, data: str | bytes) -> bool:
        uploading = self._upload is not None and not self._upload.complete and not self._ending
        return uploading and not isinstance(data, str) and len(data) >= BULK_BYTES

    def _on_edit(self, request: Edit) -> list[Effect]:
        start = self._running(request.type)
        if start.source == "image" and not start.keep and self._picture is not None:
            raise BadStateError("the picture is in work already; send prompts before it, or start with keep")
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} requests are waiting for the frame in work; send them more slowly")
        shared = start.source in SHARED_SOURCES
        newest = max(self._newest_told, 0) if shared else 0 if self._picture is None else self._picture.index
        if isinstance(request, PromptRequest):
            if start.source == "file":
                check_prompt_moment(request.frame, request.time_s)
            elif request.time_s is not None:
                raise BadMessageError('the time_s of a prompt is for the source "file"; name its frame')
            if request.frame is not None and (shared or self._picture is not None):
                self._check_frame(start, request.frame, newest)
        if isinstance(self._work, Process):
            if self._amending >= MAX_WAITING:
                raise OverloadedError(f"{MAX_WAITING} changes to the file wait already; send them more slowly")
            self._amending += 1
            return [Amend(request)]
        change = Change(request, newest)
        if self._waiting and isinstance(self._waiting[-1], Process):
            self._waiting.insert(len(self._waiting) - 1, change)
        else:
            self._before_newest(start, change)
        return []

    def _on_signal(self, signal: Signal) -> None:
        start = self._running(signal.type)
        if start.source != "webrtc":
            raise BadStateError(f'{signal.type} is for the source "webrtc"; this one is "{start.source}"')
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} requests are waiting for the frame in work; send them more slowly")
        self._before_newest(start, Negotiate(signal))

    def _before_newest(self, start: Start, work: Change | Negotiate) -> None:
        if start.source in LIVE_SOURCES and self._waiting and isinstance(self._waiting[-1], Segment):
            # The next frame that is segmented should show it.
            self._waiting.insert(len(self._waiting) - 1, work)
        else:
            self._waiting.append(work)

    @staticmethod
    def _check_frame(start: Start, named: int, newest: int) -> None:
        if start.source == "image" and named != newest:
            raise BadPromptError(f"there is no frame {named}; the picture of this session has the index {newest}")
        if named > newest:
            raise BadPromptError(f"frame {named} has not been received yet; the newest one is {newest}")

    def _on_stop(self, stop: Stop) -> list[Effect]:
        start = self._running("stop")
        self._stop = stop
        if isinstance(self._work, Process):
            self._ending = True
            return [Halt()]
        if start.source == "file":
            # Half a file is of no use.
            self._give_up()
        self._ending = True
        return []

    def _running(self, what: str) -> Start:
        if self._start is None:
            raise BadStateError(f"{what} before start: no session is running")
        if self._ending:
            raise BadStateError(f"{what} after stop: the session is ending; wait for done")
        return self._start

    # Outcomes

    def _opened(self, work: Open, outcome: Outcome) -> list[Effect]:
        start = work.start
        if not isinstance(outcome, StreamsegError):
            self._id = self._new_id()
            return [Send(self._ready(start, start.request_id, self._id))]
        effects: list[Effect] = [Send(Failure.of(outcome, request_id=start.request_id))]
        # Pieces of a file are passed over; everything else is answered.
        orphans: list[tuple[str | None, int | None]] = [
            (work.request_id, work.index if isinstance(work, Segment) else None)
            for work in self._waiting
            if not isinstance(work, Store | Process)
            and not (isinstance(work, Segment) and isinstance(work.frame, CameraFrame))
        ]
        if self._stop is not None:
            orphans.append((self._stop.request_id, None))
        self._draining = self._upload is not None
        self._clear()
        for request_id, index in orphans:
            error = BadStateError("no session is running: its start was refused")
            effects.append(Send(Failure.of(error, request_id=request_id, index=index)))
        return [*effects, Release()]

    def _ready(self, start: Start, request_id: str | None, session_id: str) -> Ready:
        limits = self._lower(start)
        return Ready(
            type="ready",
            version=VERSION,
            request_id=request_id,
            session_id=session_id,
            model=self._model,
            limits=limits,
            chunk_bytes=None if self._upload is None else chunk_bytes(limits),
            window_bytes=None if self._upload is None else WINDOW_BYTES,
            ice_servers=self._ice_servers if start.source == "webrtc" else None,
        )

    def _changed(self, work: Change, outcome: Outcome) -> list[Effect]:
        request = work.request
        if isinstance(outcome, StreamsegError):
            return [Send(Failure.of(outcome, request_id=request.request_id))]
        # A prompt on a kept picture is answered by a result of its own, before anything else is done.
        if isinstance(request, PromptRequest | Undo) and self._kept_picture_was_segmented():
            assert self._picture is not None
            self._waiting.appendleft(Again(self._picture, request.request_id))
        return [Send(Ok(type="ok", of=request.type, request_id=request.request_id))]

    @staticmethod
    def _negotiated(work: Negotiate, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, StreamsegError):
            return [Send(Failure.of(outcome, request_id=work.request_id))]
        return [Send(outcome)] if isinstance(outcome, Answer) else []

    def _kept_picture_was_segmented(self) -> bool:
        return self._start is not None and self._start.keep and self._frames > 0

    def _segmented(self, work: Segment | Again, outcome: Outcome) -> list[Effect]:
        segment = work.segment if isinstance(work, Again) else work
        frame = segment.frame
        request_id = work.request_id if isinstance(work, Again) else frame.request_id
        start = self._start
        assert start is not None
        if isinstance(work, Segment) and start.source == "image":
            if not start.keep:
                self._ending = True
            elif isinstance(outcome, StreamsegError):
                self._picture = None
        if not isinstance(outcome, Segmented):
            error = outcome if isinstance(outcome, StreamsegError) else StreamsegError("the frame gave no result")
            if isinstance(frame, CameraFrame):
                former, self._camera_fault = self._camera_fault, error.code
                if former == error.code:
                    self._dropped += 1
                    return [Drop(segment.index)]
            return [Send(Failure.of(error, request_id=request_id, index=segment.index))]
        if isinstance(work, Segment):
            self._frames += 1
        effects: list[Effect] = [
            Send(Failure.of(error, request_id=rejected_id, index=segment.index))
            for rejected_id, error in outcome.rejected
        ]
        if isinstance(frame, CameraFrame):
            self._camera_fault = None
            result = self._result(segment.index, segment.time_s, outcome, rtp_timestamp=frame.rtp_timestamp)
            return [*effects, SendResult(result, outcome.attachments, camera=True)]
        result = self._result(segment.index, segment.time_s, outcome, frame.header.timestamp_ms, request_id)
        return [*effects, SendResult(result, outcome.attachments)]

    def _result(
        self,
        index: int,
        time_s: float,
        segmented: Segmented,
        timestamp_ms: float | None = None,
        request_id: str | None = None,
        rtp_timestamp: int | None = None,
    ) -> Result:
        return Result(
            type="result",
            index=index,
            time_s=time_s,
            timestamp_ms=timestamp_ms,
            rtp_timestamp=rtp_timestamp,
            request_id=request_id,
            width=segmented.width,
            height=segmented.height,
            timings_ms=segmented.timings_ms,
            dropped=self._dropped,
            attachments=len(segmented.attachments),
            objects=segmented.objects,
        )

    def _stored(self, work: Store, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, StreamsegError):
            self._give_up()
            return [Send(Failure.of(outcome, request_id=work.chunk.request_id))]
        if self._ending or self._upload is None:
            return []
        self._upload.stored(work.total_bytes)
        return [Send(Received(type="received", bytes=work.total_bytes))]

    def _file_ended(self, outcome: Outcome) -> list[Effect]:
        self._ending = True
        if isinstance(outcome, Processed):
            self._processed = outcome
            return []
        start = self._start
        assert start is not None
        error = outcome if isinstance(outcome, StreamsegError) else StreamsegError("the file gave no result")
        return [Send(Failure.of(error, request_id=start.request_id))]

    def _finish(self) -> list[Effect]:
        """End the session if it is ending and nothing is left to do."""
        if self._start is None or not self._ending or self.busy:
            return []
        stop_id = None if self._stop is None else self._stop.request_id
        processed = self._processed
        done = Done(
            type="done",
            request_id=stop_id,
            frames=self._frames,
            dropped=self._dropped,
            files=None if processed is None else processed.files,
            problems=None if processed is None else processed.problems,
        )
        self._clear()
        return [Send(done), Release()]
