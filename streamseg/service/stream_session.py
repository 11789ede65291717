"""One client that looks at a shared stream, and says something about its objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamseg.service.edits import check_mask_pixels
from streamseg.service.effects import Change, Segmented
from streamseg.service.encoding import encode_result
from streamseg.service.protocol.client_messages import Start
from streamseg.service.protocol.server_messages import Failure

if TYPE_CHECKING:
    from streamseg.errors import StreamsegError
    from streamseg.media.frame import Frame
    from streamseg.pipeline import StreamOptions
    from streamseg.segmentation.masks import FrameResult
    from streamseg.service.shared_stream import SharedStream, SourceState
    from streamseg.service.streams import Streams
    from streamseg.settings import Limits


class StreamSession:
    """What a session of the source ``stream`` or ``url`` works with; the viewer of a stream. ``close`` is owed to it.

    ``has_room``: whether the client takes a result now. ``on_result``, ``on_source`` and ``on_failure`` are called on
    the event loop, the first time after ``open`` has returned.
    """

    def __init__(
        self,
        start: Start,
        limits: Limits,
        options: StreamOptions,
        streams: Streams,
        has_room: Callable[[], bool],
        on_result: Callable[[int, float, Segmented], None],
        on_source: Callable[[SourceState, str], None],
        on_failure: Callable[[Failure], None],
    ) -> None:
        self._start = start
        self._limits = limits
        self._options = options
        self._streams = streams
        self._has_room = has_room
        self._on_result = on_result
        self._on_source = on_source
        self._on_failure = on_failure
        self._stream: SharedStream | None = None

    async def open(self) -> None:
        """Find the stream, or open it; raises StreamsegError."""
        start = self._start
        check_mask_pixels(start.prompts, self._limits.max_mask_pixels)
        if start.url is not None:
            self._stream = await self._streams.open_url(start.url, start.name, self._options, self._limits)
        else:
            self._stream = await self._streams.look(start.name or "")
        for prompt in start.prompts:
            await self._stream.prompt(self, prompt, start.request_id)
        # The client is to hear that it is in before it hears of the stream.
        asyncio.get_running_loop().call_soon(self._enter)

    def _enter(self) -> None:
        if self._stream is not None:
            self._stream.enter(self)

    @property
    def object_ids(self) -> tuple[int, ...]:
        return () if self._stream is None else self._stream.object_ids

    def tell_source(self) -> None:
        """Tell once more how the source is, and why frames fail if they do."""
        if self._stream is not None:
            self._stream.describe(self)

    async def change(self, change: Change) -> None:
        """Carry out a prompt, an undo, a removal or a reset."""
        if self._stream is None:
            raise RuntimeError("the session machine gave work without a stream")
        await self._stream.change(self, change.request, change.newest_frame)

    async def close(self) -> None:
        """Look no more; a stream that was opened for this client ends."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.leave(self)
            if self._start.url is not None:
                await self._streams.close_url(stream)

    # What the stream tells

    @property
    def has_room(self) -> bool:
        return self._has_room()

    def encode(self, frame: Frame, result: FrameResult) -> Segmented:
        return encode_result(frame, result, self._start)

    def show(self, frame_index: int, time_s: float, shown: Segmented) -> None:
        self._on_result(frame_index, time_s, shown)

    def rejected(self, tag: str | None, error: StreamsegError, frame_index: int) -> None:
        self._on_failure(Failure.of(error, request_id=tag, index=frame_index))

    def failed(self, error: StreamsegError, frame_index: int) -> None:
        self._on_failure(Failure.of(error, index=frame_index))

    def source_changed(self, state: SourceState, why: str) -> None:
        self._on_source(state, why)
