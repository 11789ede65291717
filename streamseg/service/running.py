"""A session from its start to its done, whatever its source. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod

from streamseg.errors import BadMessageError, BadPromptError, BadStateError, StreamsegError
from streamseg.service.effects import (
    CameraFrame,
    Change,
    Edit,
    Effect,
    Negotiate,
    Outcome,
    Segment,
    Segmented,
    Send,
    Signal,
    Work,
)
from streamseg.service.protocol.client_messages import (
    LIVE_SOURCES,
    ChunkMessage,
    FrameMessage,
    PromptRequest,
    Start,
    Stop,
)
from streamseg.service.protocol.server_messages import Done, Failure, Ok, Result, SessionLimits
from streamseg.service.work_queue import WorkQueue


class Running(ABC):
    """What is the same for all sources. ``limits``: those that hold.

    Its methods raise StreamsegError for what the client may not say now.
    """

    def __init__(self, start: Start, limits: SessionLimits) -> None:
        self.start = start
        self.limits = limits
        self.live = start.source in LIVE_SOURCES
        self.queue = WorkQueue(newest_wins=self.live)
        # Known once the session is open.
        self.session_id: str | None = None
        # Whether it is over once nothing is left to do.
        self.ending = False
        self._stop: Stop | None = None
        self._frames = 0
        self._dropped = 0

    @property
    def received_index(self) -> int | None:
        """Index of the newest frame that the client sent; None if there was none."""
        return None

    @property
    def newest(self) -> int:
        """Index of the frame that a prompt is made on which names none."""
        return 0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, and no answer is owed."""
        return not self.queue.busy

    # What the client says

    @abstractmethod
    def frame(self, message: FrameMessage) -> list[Effect]:
        """A picture came."""

    def chunk(self, message: ChunkMessage) -> list[Effect]:  # noqa: ARG002
        """A piece of a file came."""
        raise BadStateError(f'chunks are for the source "file"; this one is "{self.start.source}"')

    def signal(self, message: Signal) -> list[Effect]:
        """An offer or a candidate came."""
        raise BadStateError(f'{message.type} is for the source "webrtc"; this one is "{self.start.source}"')

    def edit(self, request: Edit) -> list[Effect]:
        """A prompt, an undo, a removal or a reset came."""
        self.queue.check_room()
        if isinstance(request, PromptRequest):
            self.check_moment(request)
        self.queue.put_early(Change(request, self.newest))
        return []

    def check_moment(self, prompt: PromptRequest) -> None:
        """Raise what is wrong with the frame or the time that ``prompt`` names."""
        if prompt.time_s is not None:
            raise BadMessageError('the time_s of a prompt is for the source "file"; name its frame')

    def _check_received(self, frame: int) -> None:
        if frame > self.newest:
            raise BadPromptError(f"frame {frame} has not been received yet; the newest one is {self.newest}")

    def stop(self, message: Stop) -> list[Effect]:
        """What was taken already is finished."""
        self._stop = message
        self.ending = True
        return []

    # Outcomes

    def ended(self, work: Work, outcome: Outcome) -> list[Effect]:
        """A work other than ``Open`` has ended."""
        if not isinstance(work, Change):
            raise TypeError(f"the source {self.start.source} has no work {work}")
        return self._changed(work, outcome)

    def _changed(self, work: Change, outcome: Outcome) -> list[Effect]:
        return self._answer(work.request, outcome)

    @staticmethod
    def _answer(request: Edit, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, StreamsegError):
            return [Send(Failure.of(outcome, request_id=request.request_id))]
        return [Send(Ok(type="ok", of=request.type, request_id=request.request_id))]

    def refused(self) -> list[Effect]:
        """The start was refused: answers to what came after it."""
        orphans = [
            (work.request_id, work.index if isinstance(work, Segment) else None)
            for work in self.queue.waiting
            # Pieces of a file and the frames of a camera are passed over; everything else is answered.
            if isinstance(work, Change | Negotiate)
            or (isinstance(work, Segment) and not isinstance(work.frame, CameraFrame))
        ]
        if self._stop is not None:
            orphans.append((self._stop.request_id, None))
        error = BadStateError("no session is running: its start was refused")
        return [Send(Failure.of(error, request_id=request_id, index=index)) for request_id, index in orphans]

    def result(
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

    def done(self) -> Done:
        return Done(
            type="done",
            request_id=None if self._stop is None else self._stop.request_id,
            frames=self._frames,
            dropped=self._dropped,
        )
