"""Which frames of a file are shown at which times."""

from __future__ import annotations

import threading
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.errors import BadPromptError, CancelledWorkError
from streamseg.media.sampling import Sampling
from streamseg.media.untrusted import UntrustedVideo

if TYPE_CHECKING:
    from streamseg.media.video import VideoLimits

# A time is looked up among the frames of this long before it; only a longer gap costs another look from the start on.
LOOK_BACK_S = 1.0
# Browsers and containers round the times of frames.
ROUNDING_S = 0.0015


def frames_at(path: Path, times_s: list[float], limits: VideoLimits, cancelled: threading.Event) -> dict[float, int]:
    """The frame for each of these times, which are in order; beyond the end it is the last one.

    Raises BadPromptError where a time has none, UnsupportedMediaError, or CancelledWorkError.
    """
    end_s = times_s[-1] + ROUNDING_S
    if end_s <= 2 * ROUNDING_S:
        return dict.fromkeys(times_s, 0)
    for from_s in sorted({max(times_s[0] - LOOK_BACK_S, 0.0), 0.0}, reverse=True):
        shown_s, indices = _times(path, Sampling(start_s=from_s, end_s=end_s), limits, cancelled)
        places = {time_s: bisect_right(shown_s, time_s + ROUNDING_S) - 1 for time_s in times_s}
        if all(place >= 0 for place in places.values()):
            return {time_s: indices[place] for time_s, place in places.items()}
    raise BadPromptError(f"no frame is shown at {times_s[0]:g} s")


def _times(
    path: Path, sampling: Sampling, limits: VideoLimits, cancelled: threading.Event
) -> tuple[list[float], list[int]]:
    shown_s: list[float] = []
    indices: list[int] = []
    with UntrustedVideo(path, limits=limits, cancelled=cancelled) as reader:
        for frame, _ in reader.frames(sampling):
            if cancelled.is_set():
                raise CancelledWorkError("the client ended this")
            shown_s.append(frame.time_s)
            indices.append(frame.index)
    return shown_s, indices
