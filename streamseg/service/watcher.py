"""A player of a shared stream; its overlay is drawn once for all players of the stream."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np

from streamseg.render import draw_overlay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamseg.errors import StreamsegError
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.service.shared_stream import SharedStream, SourceState
    from streamseg.service.webrtc_peer import Peer

CLOCK_RATE = 90_000
# Between two pictures where the clock of the source went back.
STEP_S = 0.04


class SharedOverlay:
    """The overlay of the newest frame of a stream."""

    def __init__(self) -> None:
        self._index = -1
        self._yuv: NDArray[np.uint8] = np.empty((0, 0), dtype=np.uint8)

    def draw(self, frame: Frame, result: FrameResult) -> NDArray[np.uint8]:
        """Planes of YUV 4:2:0 below each other, uint8 (H * 3 / 2, W), sides made even. One frame at a time."""
        if result.index != self._index:
            height, width = frame.height // 2 * 2, frame.width // 2 * 2
            rgb = np.ascontiguousarray(draw_overlay(frame, result)[:height, :width])
            self._yuv = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
            self._index = result.index
        return self._yuv


class Watcher:
    """Shows ``stream`` to ``peer``; ``on_end`` is called when the stream is over."""

    def __init__(self, stream: SharedStream, peer: Peer, overlay: SharedOverlay, on_end: Callable[[], object]) -> None:
        self.stream = stream
        self.peer = peer
        self._overlay = overlay
        self._on_end = on_end
        self._shift_s: float | None = None
        self._last_s = 0.0

    @property
    def has_room(self) -> bool:
        return self.peer.connected

    def encode(self, frame: Frame, result: FrameResult) -> NDArray[np.uint8]:
        return self._overlay.draw(frame, result)

    def show(self, frame_index: int, time_s: float, shown: NDArray[np.uint8]) -> None:  # noqa: ARG002
        # A frame of its own on the same pixels: an encoder writes into it whether it is to be a key frame.
        picture = av.VideoFrame.from_numpy_buffer(shown, format="yuv420p")
        picture.pts, picture.time_base = round(self._time_s(time_s) * CLOCK_RATE), Fraction(1, CLOCK_RATE)
        self.peer.overlay.show(picture)

    def _time_s(self, time_s: float) -> float:
        if self._shift_s is None:
            self._shift_s = -time_s
        elif time_s + self._shift_s <= self._last_s:
            self._shift_s = self._last_s + STEP_S - time_s
        self._last_s = time_s + self._shift_s
        return self._last_s

    def rejected(self, tag: str | None, error: StreamsegError, frame_index: int) -> None:
        """Nothing: a player prompts nothing."""

    def failed(self, error: StreamsegError, frame_index: int) -> None:
        """Nothing: a player has no way to hear of it."""

    def source_changed(self, state: SourceState, why: str) -> None:  # noqa: ARG002
        if state == "ended":
            self._on_end()
