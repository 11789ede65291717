"""A session of the source ``image``, ``frames`` or ``webrtc``. No I/O.

Of a live source the newest frame wins: one is in work, one waits, and a waiting one gives way to a newer one.
"""

from __future__ import annotations

from collections.abc import Callable

from streamseg.errors import BadMessageError, BadPromptError, BadStateError, StreamsegError
from streamseg.service.effects import (
    Again,
    CameraFrame,
    Change,
    Drop,
    Edit,
    Effect,
    Negotiate,
    Outcome,
    Segment,
    Segmented,
    Send,
    SendResult,
    Signal,
    Work,
)
from streamseg.service.protocol.client_messages import FrameMessage, PromptRequest, Start, Undo
from streamseg.service.protocol.server_messages import Answer, Failure, SessionLimits
from streamseg.service.running import Running


class RunningFrames(Running):
    """``clock``: seconds, monotonic."""

    def __init__(self, start: Start, limits: SessionLimits, clock: Callable[[], float]) -> None:
        super().__init__(start, limits)
        self._clock = clock
        # The one picture of an `image` session, from its arrival on; of a live source the newest frame.
        self._picture: Segment | None = None
        self._first_at: float | None = None
        # What is wrong with the camera's frames: said once, not with every frame.
        self._camera_fault: str | None = None

    @property
    def received_index(self) -> int | None:
        return None if self._picture is None else self._picture.index

    @property
    def newest(self) -> int:
        return 0 if self._picture is None else self._picture.index

    # What the client says

    def frame(self, message: FrameMessage) -> list[Effect]:
        if not self.live and self._picture is not None:
            raise BadStateError("this session has its picture already; stop and start again for another one")
        return self._arrived(message, message.header.index, message.header.time_s)

    def camera(self, frame: CameraFrame) -> list[Effect]:
        """A frame came over WebRTC."""
        if self.ending or self.start.source != "webrtc":
            return []
        return self._arrived(frame, None, None)

    def _arrived(self, frame: FrameMessage | CameraFrame, index: int | None, time_s: float | None) -> list[Effect]:
        newest = -1 if self._picture is None else self._picture.index
        index = newest + 1 if index is None else index
        if index <= newest:
            raise BadMessageError(f"the frame index {index} comes after {newest}; indices must increase")
        now = self._clock()
        if self._first_at is None:
            self._first_at = now
        time_s = round(now - self._first_at, 6) if time_s is None else time_s
        self._picture = Segment(frame, index, time_s)
        former = self.queue.put_frame(self._picture)
        if former is None:
            return []
        self._dropped += 1
        return [Drop(former.index)]

    def signal(self, message: Signal) -> list[Effect]:
        if self.start.source != "webrtc":
            return super().signal(message)
        self.queue.check_room()
        self.queue.put_early(Negotiate(message))
        return []

    def edit(self, request: Edit) -> list[Effect]:
        if not self.live and not self.start.keep and self._picture is not None:
            raise BadStateError("the picture is in work already; send prompts before it, or start with keep")
        return super().edit(request)

    def check_moment(self, prompt: PromptRequest) -> None:
        super().check_moment(prompt)
        if prompt.frame is None or self._picture is None:
            return
        if not self.live and prompt.frame != self._picture.index:
            raise BadPromptError(
                f"there is no frame {prompt.frame}; the picture of this session has the index {self._picture.index}"
            )
        self._check_received(prompt.frame)

    # Outcomes

    def ended(self, work: Work, outcome: Outcome) -> list[Effect]:
        match work:
            case Segment() | Again():
                return self._segmented(work, outcome)
            case Negotiate():
                return self._negotiated(work, outcome)
            case _:
                return super().ended(work, outcome)

    def _changed(self, work: Change, outcome: Outcome) -> list[Effect]:
        request = work.request
        good = not isinstance(outcome, StreamsegError)
        # A prompt on a kept picture is answered by a result of its own, before anything else is done.
        if good and isinstance(request, PromptRequest | Undo) and self.start.keep and self._frames > 0:
            assert self._picture is not None
            self.queue.put_first(Again(self._picture, request.request_id))
        return super()._changed(work, outcome)

    @staticmethod
    def _negotiated(work: Negotiate, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, StreamsegError):
            return [Send(Failure.of(outcome, request_id=work.request_id))]
        return [Send(outcome)] if isinstance(outcome, Answer) else []

    def _segmented(self, work: Segment | Again, outcome: Outcome) -> list[Effect]:
        segment = work.segment if isinstance(work, Again) else work
        frame = segment.frame
        request_id = work.request_id if isinstance(work, Again) else frame.request_id
        if isinstance(work, Segment) and not self.live:
            if not self.start.keep:
                self.ending = True
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
            result = self.result(segment.index, segment.time_s, outcome, rtp_timestamp=frame.rtp_timestamp)
            return [*effects, SendResult(result, outcome.attachments, camera=True)]
        result = self.result(segment.index, segment.time_s, outcome, frame.header.timestamp_ms, request_id)
        return [*effects, SendResult(result, outcome.attachments)]
