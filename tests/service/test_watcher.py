"""Players of one stream share the work of drawing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import av
import numpy as np

from streamseg.media.frame import Frame
from streamseg.segmentation.masks import FrameResult, MaskRegion, ObjectResult
from streamseg.service.shared_stream import SharedStream
from streamseg.service.watcher import SharedOverlay, Watcher
from streamseg.service.webrtc_peer import Peer


class Screen:
    """A peer as far as a watcher looks at it."""

    connected = True

    def __init__(self) -> None:
        self.overlay = self
        self.shown: list[av.VideoFrame] = []

    def show(self, picture: av.VideoFrame) -> None:
        self.shown.append(picture)


def segmented(index: int, width: int = 33, height: int = 21) -> tuple[Frame, FrameResult]:
    mask = np.zeros((height, width), dtype=bool)
    mask[:, : width // 2] = True
    one = ObjectResult(1, MaskRegion.from_mask(mask), 0.9, "tracked", ())
    rgb = np.full((height, width, 3), 128, dtype=np.uint8)
    return Frame(rgb, index, index / 10), FrameResult(index, index / 10, width, height, (one,), {})


def watcher(overlay: SharedOverlay) -> tuple[Watcher, Screen]:
    screen = Screen()
    return Watcher(cast(SharedStream, None), cast(Peer, screen), overlay, lambda: None), screen


def test_an_overlay_is_drawn_once_for_all_who_watch() -> None:
    overlay = SharedOverlay()
    (first, one), (second, two) = watcher(overlay), watcher(overlay)
    shown: list[Any] = [each.encode(*segmented(3)) for each in (first, second)]
    assert shown[0] is shown[1]
    first.show(3, 0.3, shown[0])
    second.show(3, 0.3, shown[1])
    # Each has a frame of its own, whose kind of picture its encoder may set.
    assert one.shown[0] is not two.shown[0]
    rgb = one.shown[0].to_ndarray(format="rgb24")
    assert rgb.shape == (20, 32, 3)
    assert abs(rgb[10, 28].astype(int) - 128).max() < 8
    assert abs(rgb[10, 6].astype(int) - 128).max() > 30
    assert first.encode(*segmented(4)) is not shown[0]


def test_time_goes_on_when_a_source_begins_anew() -> None:
    one, screen = watcher(SharedOverlay())
    picture = one.encode(*segmented(0))
    for time_s in (7.0, 7.1, 0.0, 0.1, 0.1):
        one.show(0, time_s, picture)
    times_s = [float(each.pts * each.time_base) for each in screen.shown]
    assert times_s[0] == 0.0
    assert all(later > former for former, later in pairwise(times_s))
    assert times_s[-1] < 0.4
