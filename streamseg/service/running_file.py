"""A session of the source ``file``. No I/O.

The file comes in pieces, each stored before the next ones are asked for, and is then one long work that tells its
results. What is said about its objects meanwhile amends that work.
"""

from __future__ import annotations

from streamseg.errors import BadMessageError, BadStateError, OverloadedError, StreamsegError
from streamseg.service.effects import (
    Amend,
    Edit,
    Effect,
    Halt,
    Outcome,
    Process,
    Processed,
    Segmented,
    Send,
    SendResult,
    Store,
    Work,
)
from streamseg.service.protocol.client_messages import ChunkMessage, FrameMessage, PromptRequest, Start, Stop
from streamseg.service.protocol.server_messages import Done, Failure, Progress, Received, SessionLimits
from streamseg.service.running import Running
from streamseg.service.upload import Upload, check_prompt_moment, chunk_bytes
from streamseg.service.work_queue import MAX_WAITING


class RunningFile(Running):
    def __init__(self, start: Start, limits: SessionLimits, size_bytes: int) -> None:
        super().__init__(start, limits)
        self.chunk_bytes = chunk_bytes(limits)
        # Whether pieces may still be on their way of a file that was given up.
        self.draining = False
        self._upload = Upload(size_bytes, self.chunk_bytes)
        self._newest_told = -1
        # Changes whose outcome is owed.
        self._amending = 0
        self._processed: Processed | None = None

    @property
    def uploading(self) -> bool:
        """Whether pieces are expected."""
        return not self._upload.complete and not self.ending

    @property
    def processing(self) -> bool:
        return isinstance(self.queue.under_way, Process)

    @property
    def settled(self) -> bool:
        return super().settled and not self._amending

    # What the client says

    def frame(self, message: FrameMessage) -> list[Effect]:  # noqa: ARG002
        raise BadStateError("a file comes as chunks, not as frames")

    def chunk(self, message: ChunkMessage) -> list[Effect]:
        try:
            self._upload.take(message)
        except BadMessageError as error:
            self._give_up()
            return [Send(Failure.of(error, request_id=message.request_id))]
        self.queue.put(Store(message, self._upload.come_bytes))
        if self._upload.complete:
            self.queue.put(Process())
        return []

    def edit(self, request: Edit) -> list[Effect]:
        if not self.processing:
            return super().edit(request)
        if isinstance(request, PromptRequest):
            self.check_moment(request)
        if self._amending >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} changes to the file wait already; send them more slowly")
        self._amending += 1
        return [Amend(request)]

    def check_moment(self, prompt: PromptRequest) -> None:
        check_prompt_moment(prompt.frame, prompt.time_s)

    def stop(self, message: Stop) -> list[Effect]:
        super().stop(message)
        if self.processing:
            return [Halt()]
        # Half a file is of no use.
        self._give_up()
        return []

    def _give_up(self) -> None:
        """End with what is under way."""
        self.queue.give_up()
        self.ending = True
        self.draining = True

    # Outcomes

    def ended(self, work: Work, outcome: Outcome) -> list[Effect]:
        match work:
            case Store():
                return self._stored(work, outcome)
            case Process():
                return self._processing_ended(outcome)
            case _:
                return super().ended(work, outcome)

    def _stored(self, work: Store, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, StreamsegError):
            self._give_up()
            return [Send(Failure.of(outcome, request_id=work.chunk.request_id))]
        if self.ending:
            return []
        self._upload.stored(work.total_bytes)
        return [Send(Received(type="received", bytes=work.total_bytes))]

    def _processing_ended(self, outcome: Outcome) -> list[Effect]:
        self.ending = True
        if isinstance(outcome, Processed):
            self._processed = outcome
            return []
        error = outcome if isinstance(outcome, StreamsegError) else StreamsegError("the file gave no result")
        return [Send(Failure.of(error, request_id=self.start.request_id))]

    def emit(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame was segmented."""
        if not self.processing:
            return []
        # Frames that are segmented again do not count again.
        self._frames += index > self._newest_told
        self._newest_told = max(self._newest_told, index)
        return [SendResult(self.result(index, time_s, segmented), segmented.attachments)]

    def report(self, progress: Progress) -> list[Effect]:
        """How far it is."""
        return [Send(progress)] if self.processing else []

    def amended(self, request: Edit, outcome: StreamsegError | None) -> list[Effect]:
        """An ``Amend`` was carried out or refused."""
        self._amending = max(self._amending - 1, 0)
        return self._answer(request, outcome)

    def done(self) -> Done:
        done = super().done()
        if self._processed is None:
            return done
        return done.model_copy(update={"files": self._processed.files, "problems": self._processed.problems})
