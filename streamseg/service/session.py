"""One client's state machine, free of I/O.

Texts and bytes of the client and the outcomes of its work go in, effects come out; whoever holds the socket carries
them out in order, and takes the next work with ``take`` once the former one has ended and its result is on its way:

    idle --start--> open --stop, or the picture's result--> ending --last work ended--> idle

On ``frames`` the newest frame wins: one is in work, one waits, and a waiting one gives way to a newer one.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable

from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadStateError,
    OverloadedError,
    RateLimitedError,
    StreamsegError,
)
from streamseg.service.codec import parse_binary, parse_text
from streamseg.service.effects import (
    CLOSE_GOING_AWAY,
    CLOSE_POLICY,
    Again,
    Change,
    Close,
    Drop,
    Edit,
    Effect,
    Open,
    Release,
    Segment,
    Segmented,
    Send,
    SendResult,
    Work,
)
from streamseg.service.protocol import (
    VERSION,
    ClientMessage,
    Done,
    Failure,
    FrameMessage,
    ModelInfo,
    Ok,
    PromptRequest,
    Ready,
    Result,
    SessionLimits,
    Start,
    Stop,
)

# Prompts, removals and resets that may wait while a frame is in work.
MAX_WAITING = 64
# A burst of so many seconds' worth of messages is let through.
BURST_S = 2.0


class TokenBucket:
    """Lets ``per_s`` through on average and ``burst`` at once."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._left = self._burst
        self._since = clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_s)
        self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


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
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._model = model
        self._lower = lower
        self._clock = clock
        self._new_id = new_id
        self._bucket = TokenBucket(messages_per_s, BURST_S * messages_per_s, clock)
        self._messages_per_s = messages_per_s
        self._closed = False
        self._clear()

    def _clear(self) -> None:
        self._start: Start | None = None
        self._ending = False
        self._stop: Stop | None = None
        self._work: Work | None = None
        self._waiting: deque[Work] = deque()
        # The one picture of an `image` session, from its arrival on; on `frames` the newest one.
        self._picture: Segment | None = None
        self._first_at: float | None = None
        self._frames = 0
        self._dropped = 0

    @property
    def open(self) -> bool:
        """Whether a ``start`` was received whose ``done`` is still owed."""
        return self._start is not None

    @property
    def closed(self) -> bool:
        """Whether the connection is to be closed; nothing more is taken from the client."""
        return self._closed

    @property
    def busy(self) -> bool:
        """Whether a work is under way or waits to be taken."""
        return self._work is not None or bool(self._waiting)

    # What comes in

    def receive(self, data: str | bytes) -> list[Effect]:
        """A message of the client, as it came."""
        if self._closed:
            return []
        if not self._bucket.take():
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
                case Stop():
                    self._on_stop(message)
                case _:
                    self._on_edit(message)
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

    def ended(self, outcome: Segmented | StreamsegError | None) -> list[Effect]:
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
            case Segment() | Again():
                effects = self._segmented(work, outcome)
        return effects + self._finish()

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
        if start.keep and start.source != "image":
            raise BadMessageError('keep is for the source "image"; "frames" stay open anyway')
        if start.window is not None and not start.window[0] < start.window[1]:
            raise BadMessageError("window is [low, high] with low < high")
        self._start = start
        self._waiting.append(Open(start))

    def _on_frame(self, frame: FrameMessage) -> list[Effect]:
        start = self._running("frame")
        if start.source == "image" and self._picture is not None:
            raise BadStateError("this session has its picture already; stop and start again for another one")
        newest = -1 if self._picture is None else self._picture.index
        index = newest + 1 if frame.header.index is None else frame.header.index
        if index <= newest:
            raise BadMessageError(f"the frame index {index} comes after {newest}; indices must increase")
        now = self._clock()
        if self._first_at is None:
            self._first_at = now
        time_s = round(now - self._first_at, 6) if frame.header.time_s is None else frame.header.time_s
        self._picture = Segment(frame, index, time_s)
        former = self._waiting[-1] if self._waiting and start.source == "frames" else None
        if not isinstance(former, Segment):
            self._waiting.append(self._picture)
            return []
        self._waiting[-1] = self._picture
        self._dropped += 1
        return [Drop(former.index)]

    def _on_edit(self, request: Edit) -> None:
        start = self._running(request.type)
        if start.source == "image" and not start.keep and self._picture is not None:
            raise BadStateError("the picture is in work already; send prompts before it, or start with keep")
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} requests are waiting for the frame in work; send them more slowly")
        newest = 0 if self._picture is None else self._picture.index
        if isinstance(request, PromptRequest) and request.frame is not None and self._picture is not None:
            self._check_frame(start, request.frame, newest)
        change = Change(request, newest)
        if start.source == "frames" and self._waiting and isinstance(self._waiting[-1], Segment):
            # The next frame that is segmented should show it.
            self._waiting.insert(len(self._waiting) - 1, change)
        else:
            self._waiting.append(change)

    @staticmethod
    def _check_frame(start: Start, named: int, newest: int) -> None:
        if start.source == "image" and named != newest:
            raise BadPromptError(f"there is no frame {named}; the picture of this session has the index {newest}")
        if named > newest:
            raise BadPromptError(f"frame {named} has not been received yet; the newest one is {newest}")

    def _on_stop(self, stop: Stop) -> None:
        self._running("stop")
        self._stop = stop
        self._ending = True

    def _running(self, what: str) -> Start:
        if self._start is None:
            raise BadStateError(f"{what} before start: no session is running")
        if self._ending:
            raise BadStateError(f"{what} after stop: the session is ending; wait for done")
        return self._start

    # Outcomes

    def _opened(self, work: Open, outcome: Segmented | StreamsegError | None) -> list[Effect]:
        start = work.start
        if not isinstance(outcome, StreamsegError):
            ready = Ready(
                type="ready",
                version=VERSION,
                request_id=start.request_id,
                session_id=self._new_id(),
                model=self._model,
                limits=self._lower(start),
            )
            return [Send(ready)]
        effects: list[Effect] = [Send(Failure.of(outcome, request_id=start.request_id))]
        orphans = [*self._waiting, *([self._stop] if self._stop else [])]
        self._clear()
        for orphan in orphans:
            error = BadStateError("no session is running: its start was refused")
            effects.append(Send(Failure.of(error, request_id=_request_id(orphan), index=_index(orphan))))
        return [*effects, Release()]

    def _changed(self, work: Change, outcome: Segmented | StreamsegError | None) -> list[Effect]:
        request = work.request
        if isinstance(outcome, StreamsegError):
            return [Send(Failure.of(outcome, request_id=request.request_id))]
        # A prompt on a kept picture is answered by a result of its own, before anything else is done.
        if isinstance(request, PromptRequest) and self._kept_picture_was_segmented():
            assert self._picture is not None
            self._waiting.appendleft(Again(self._picture, request.request_id))
        return [Send(Ok(type="ok", of=request.type, request_id=request.request_id))]

    def _kept_picture_was_segmented(self) -> bool:
        return self._start is not None and self._start.keep and self._frames > 0

    def _segmented(self, work: Segment | Again, outcome: Segmented | StreamsegError | None) -> list[Effect]:
        segment = work.segment if isinstance(work, Again) else work
        header = segment.frame.header
        request_id = work.request_id if isinstance(work, Again) else header.request_id
        start = self._start
        assert start is not None
        if isinstance(work, Segment) and start.source == "image":
            if not start.keep:
                self._ending = True
            elif isinstance(outcome, StreamsegError):
                self._picture = None
        if not isinstance(outcome, Segmented):
            error = outcome or StreamsegError("the frame gave no result")
            return [Send(Failure.of(error, request_id=request_id, index=segment.index))]
        if isinstance(work, Segment):
            self._frames += 1
        effects: list[Effect] = [
            Send(Failure.of(error, request_id=rejected_id, index=segment.index))
            for rejected_id, error in outcome.rejected
        ]
        result = Result(
            type="result",
            index=segment.index,
            time_s=segment.time_s,
            timestamp_ms=header.timestamp_ms,
            request_id=request_id,
            width=outcome.width,
            height=outcome.height,
            timings_ms=outcome.timings_ms,
            dropped=self._dropped,
            attachments=len(outcome.attachments),
            objects=outcome.objects,
        )
        return [*effects, SendResult(result, outcome.attachments)]

    def _finish(self) -> list[Effect]:
        """End the session if it is ending and nothing is left to do."""
        if self._start is None or not self._ending or self.busy:
            return []
        stop_id = None if self._stop is None else self._stop.request_id
        done = Done(type="done", request_id=stop_id, frames=self._frames, dropped=self._dropped)
        self._clear()
        return [Send(done), Release()]


def _request_id(orphan: Work | Stop) -> str | None:
    match orphan:
        case Stop() | Again():
            return orphan.request_id
        case Change():
            return orphan.request.request_id
        case Segment():
            return orphan.frame.request_id
        case Open():
            return orphan.start.request_id


def _index(orphan: Work | Stop) -> int | None:
    return orphan.index if isinstance(orphan, Segment) else None
