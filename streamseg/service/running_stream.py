"""A session of the source ``stream`` or ``url``, whose frames the client looks at. No I/O."""

from __future__ import annotations

from streamseg.errors import BadStateError
from streamseg.service.effects import Effect, Segmented, SendResult
from streamseg.service.protocol.client_messages import FrameMessage, PromptRequest, Start
from streamseg.service.protocol.server_messages import SessionLimits
from streamseg.service.running import Running


class RunningStream(Running):
    def __init__(self, start: Start, limits: SessionLimits) -> None:
        super().__init__(start, limits)
        self._newest_told = -1

    @property
    def newest(self) -> int:
        return max(self._newest_told, 0)

    def frame(self, message: FrameMessage) -> list[Effect]:  # noqa: ARG002
        raise BadStateError(f'frames of the source "{self.start.source}" come from the stream itself')

    def check_moment(self, prompt: PromptRequest) -> None:
        super().check_moment(prompt)
        if prompt.frame is not None:
            self._check_received(prompt.frame)

    def viewed(self, index: int, time_s: float, segmented: Segmented) -> list[Effect]:
        """A frame of the stream was segmented."""
        if self.ending:
            return []
        if self._frames:
            self._dropped += index - self._newest_told - 1
        self._frames += 1
        self._newest_told = index
        return [SendResult(self.result(index, round(time_s, 6), segmented), segmented.attachments)]
