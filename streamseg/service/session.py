"""One client's state machine, free of I/O.

Texts and bytes of the client and the outcomes of its work go in, effects come out; whoever holds the socket carries
them out in order, and takes the next work with ``take`` once the former one has ended and its result is on its way:

    idle --start--> open --stop, or the picture's result--> ending --last work ended--> idle

What a session takes and does between start and done depends on its source: see ``Running`` and its kinds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from streamseg.errors import BadMessageError, BadStateError, RateLimitedError, StreamsegError
from streamseg.service import stream_rules, webrtc_rules
from streamseg.service.codec import cost_of, parse_binary, parse_text
from streamseg.service.effects import (
    CLOSE_GOING_AWAY,
    CLOSE_POLICY,
    CameraFrame,
    Change,
    Close,
    Edit,
    Effect,
    Negotiate,
    Open,
    Outcome,
    Rejoin,
    Release,
    Segment,
    Segmented,
    Send,
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
    Resume,
    Start,
    Stop,
)
from streamseg.service.protocol.server_messages import (
    Failure,
    IceServerFields,
    ModelInfo,
    Progress,
    Ready,
    Resumed,
    SessionLimits,
)
from streamseg.service.rate import TokenBucket
from streamseg.service.running import Running
from streamseg.service.running_file import RunningFile
from streamseg.service.running_frames import RunningFrames
from streamseg.service.running_stream import RunningStream
from streamseg.service.upload import check_start

# A burst of so many seconds' worth of messages is let through. One of very many values counts as several.
BURST_S = 2.0
# Pieces of a file from this size on are paced by what is stored, so they do not count as messages.
BULK_BYTES = 256 * 2**10


class Session:
    """The state of one connection: at most one session at a time, and what holds for all of them.

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
        self._running: Running | None = None
        # Whether pieces may still be on their way of the last file, which was given up.
        self._draining = False

    @property
    def open(self) -> bool:
        """Whether a ``start`` was received whose ``done`` is still owed."""
        return self._running is not None

    @property
    def closed(self) -> bool:
        """Whether the connection is to be closed; nothing more is taken from the client."""
        return self._closed

    @property
    def resumable_id(self) -> str | None:
        """The id under which the session may go on over another connection; None where it may not."""
        running = self._running
        if self._closed or running is None or running.ending or not running.live:
            return None
        return running.session_id

    @property
    def busy(self) -> bool:
        """Whether a work is under way or waits to be taken."""
        return self._running is not None and self._running.queue.busy

    # What comes in

    def receive(self, data: str | bytes) -> list[Effect]:
        """A message of the client, as it came."""
        if self._closed:
            return []
        if not self._is_paced(data) and not self._bucket.take(cost_of(data)):
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
                    effects = self._going_on("frame").frame(message)
                case ChunkMessage():
                    effects = [] if self._is_left_over() else self._going_on("chunk").chunk(message)
                case Stop():
                    effects = self._going_on("stop").stop(message)
                case Resume():
                    if self._running is not None:
                        raise BadStateError("a session is running already; resume is the first message of a connection")
                    effects = [Rejoin(message)]
                case Offer() | Candidate():
                    effects = self._going_on(message.type).signal(message)
                case _:
                    effects = self._going_on(message.type).edit(message)
        except StreamsegError as error:
            index = message.header.index if isinstance(message, FrameMessage) else None
            return [Send(Failure.of(error, request_id=message.request_id, index=index))]
        return effects + self._finish()

    def take(self) -> Work | None:
        """The next work, if there is any and none is under way; its outcome is owed to ``ended``."""
        return None if self._closed or self._running is None else self._running.queue.take()

    def ended(self, outcome: Outcome) -> list[Effect]:
        """The work under way has ended: with a result, with an error, or done (None)."""
        running = self._running
        work = None if running is None else running.queue.end()
        if self._closed or running is None or work is None:
            return []
        effects = self._opened(running, outcome) if isinstance(work, Open) else running.ended(work, outcome)
        return effects + self._finish()

    def resumed(self, request: Resume, object_ids: Sequence[int], answered: Iterable[str]) -> list[Effect]:
        """The client came back for this session, over another connection.

        ``object_ids``: those that are known; ``answered``: request ids whose answers follow.
        """
        running = self._running
        assert running is not None
        queue = running.queue
        under_way = [] if queue.under_way is None else [queue.under_way]
        waiting = [
            work.request_id for work in (*under_way, *queue.waiting) if isinstance(work, Change | Negotiate | Segment)
        ]
        ready = self._ready(running, request.request_id)
        return [
            Send(
                Resumed(
                    **dict(ready),
                    resumed=True,
                    newest_index=running.received_index,
                    object_ids=list(object_ids),
                    received=[one for one in (*answered, *waiting) if one is not None],
                )
            )
        ]

    def camera(self, frame: CameraFrame) -> list[Effect]:
        """A frame came over WebRTC."""
        running = self._running
        return running.camera(frame) if isinstance(running, RunningFrames) and not self._closed else []

    def emit(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame of the file under way was segmented."""
        running = self._running
        return running.emit(index, time_s, segmented) if isinstance(running, RunningFile) and not self._closed else []

    def viewed(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame of the stream that the client looks at was segmented."""
        running = self._running
        if self._closed or not isinstance(running, RunningStream):
            return []
        return running.viewed(index, time_s, segmented)

    def amended(self, request: Edit, outcome: StreamsegError | None) -> list[Effect]:
        """What came of an ``Amend``."""
        running = self._running
        if self._closed or not isinstance(running, RunningFile):
            return []
        return running.amended(request, outcome) + self._finish()

    def report(self, progress: Progress) -> list[Effect]:
        """How far the file under way is."""
        running = self._running
        return running.report(progress) if isinstance(running, RunningFile) and not self._closed else []

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
        if self._running is not None:
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
        running = self._kind(start, limits)
        running.queue.put(Open(start))
        self._running, self._draining = running, False

    def _kind(self, start: Start, limits: SessionLimits) -> Running:
        if start.source == "file":
            assert start.size_bytes is not None
            return RunningFile(start, limits, start.size_bytes)
        if start.source in SHARED_SOURCES:
            return RunningStream(start, limits)
        return RunningFrames(start, limits, self._clock)

    def _going_on(self, what: str) -> Running:
        running = self._running
        if running is None:
            raise BadStateError(f"{what} before start: no session is running")
        if running.ending:
            raise BadStateError(f"{what} after stop: the session is ending; wait for done")
        return running

    def _is_paced(self, data: str | bytes) -> bool:
        running = self._running
        uploading = isinstance(running, RunningFile) and running.uploading
        return uploading and not isinstance(data, str) and len(data) >= BULK_BYTES

    def _is_left_over(self) -> bool:
        """Whether a piece is one of a file that was given up."""
        running = self._running
        return self._draining if running is None else isinstance(running, RunningFile) and running.draining

    # Outcomes

    def _opened(self, running: Running, outcome: Outcome) -> list[Effect]:
        start = running.start
        if not isinstance(outcome, StreamsegError):
            running.session_id = self._new_id()
            return [Send(self._ready(running, start.request_id))]
        self._running, self._draining = None, isinstance(running, RunningFile)
        return [Send(Failure.of(outcome, request_id=start.request_id)), *running.refused(), Release()]

    def _ready(self, running: Running, request_id: str | None) -> Ready:
        assert running.session_id is not None
        file = running if isinstance(running, RunningFile) else None
        return Ready(
            type="ready",
            version=VERSION,
            request_id=request_id,
            session_id=running.session_id,
            model=self._model,
            limits=running.limits,
            chunk_bytes=None if file is None else file.chunk_bytes,
            window_bytes=None if file is None else WINDOW_BYTES,
            ice_servers=self._ice_servers if running.start.source == "webrtc" else None,
        )

    def _finish(self) -> list[Effect]:
        """End the session if it is ending and nothing is left to do."""
        running = self._running
        if running is None or not running.ending or not running.settled:
            return []
        self._running, self._draining = None, isinstance(running, RunningFile) and running.draining
        return [Send(running.done()), Release()]
