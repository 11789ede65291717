"""Which frames of a recorded video are segmented."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from streamseg.errors import BadSettingError


class Choice(Enum):
    """What happens to one frame of a video."""

    SEGMENT = "segment"
    HOLD = "hold"
    """Shown with the masks of the frame that was segmented last."""
    SKIP = "skip"
    """Left out: decoded, because others may refer to it, but not converted."""
    STOP = "stop"
    """Neither this frame nor any after it is wanted."""


Chooser: TypeAlias = Callable[[int, float], Choice]

# Containers round times, Matroska to whole milliseconds: a frame may be stamped this much before its slot begins.
_ROUNDING_S = 0.001


@dataclass(frozen=True, slots=True)
class Sampling:
    """A rule that picks frames by their number or by their time.

    ``every``: every Nth frame, counted from the first one inside the range. ``fps``: at most this many frames for each
    second, picked by their own time, so that a variable frame rate is sampled evenly; excludes ``every``. ``start_s``,
    ``end_s``: only frames shown at or after the start and before the end, in seconds from the first frame of the
    video. ``hold``: frames between samples are kept and shown with the masks of the last sample, not left out.

    Raises BadSettingError.
    """

    every: int = 1
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    hold: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise BadSettingError(f"every must be a whole number of at least 1, not {self.every!r}")
        if self.fps is not None:
            if not _is_finite(self.fps) or self.fps <= 0:
                raise BadSettingError(f"fps must be a number above 0, not {self.fps!r}")
            if self.every != 1:
                raise BadSettingError("every and fps exclude each other; give one of them")
        for name in ("start_s", "end_s"):
            value = getattr(self, name)
            if value is not None and (not _is_finite(value) or value < 0):
                raise BadSettingError(f"{name} must be a number of seconds of at least 0, not {value!r}")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise BadSettingError(f"end_s ({self.end_s:g}) must be after start_s ({self.start_s or 0.0:g})")
        if not isinstance(self.hold, bool):
            raise BadSettingError(f"hold must be true or false, not {self.hold!r}")

    def sampler(self, always: Collection[int] = ()) -> Chooser:
        """A fresh chooser, to be asked once for every frame in order: (index, time_s) -> Choice.

        ``always``: indices of frames that are segmented wherever the rule would leave them out, as long as they are
        inside the range; frames with prompts are such.
        """
        return _Sampler(self, frozenset(always))


class _Sampler:
    """The state of one run over a video."""

    def __init__(self, rule: Sampling, always: frozenset[int]) -> None:
        self._rule = rule
        self._always = always
        self._first: tuple[int, float] | None = None
        self._last_slot = -1

    def __call__(self, index: int, time_s: float) -> Choice:
        rule = self._rule
        if rule.end_s is not None and time_s >= rule.end_s:
            return Choice.STOP
        if rule.start_s is not None and time_s < rule.start_s:
            return Choice.SKIP
        if self._first is None:
            self._first = index, time_s
        # Asked for every frame even if it is wanted anyway: the slot that a prompted frame falls into is then taken.
        due = self._is_due(index, time_s, *self._first)
        if due or index in self._always:
            return Choice.SEGMENT
        return Choice.HOLD if rule.hold else Choice.SKIP

    def _is_due(self, index: int, time_s: float, first_index: int, first_time_s: float) -> bool:
        if self._rule.fps is None:
            return (index - first_index) % self._rule.every == 0
        slot = math.floor((time_s - first_time_s + _ROUNDING_S) * self._rule.fps)
        if slot <= self._last_slot:
            return False
        self._last_slot = slot
        return True


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
