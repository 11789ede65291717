"""Times of frames that can be relied on, out of what containers give."""

from __future__ import annotations

from fractions import Fraction

# Beyond this, a step back is a new beginning (joined recordings), not two frames in the wrong order.
_RESTART_S = 0.3
# In formats that are made to be cut and joined, so is a jump forward of more than this.
_GAP_S = 10.0


class Clock:
    """Turns stored timestamps into seconds that start at 0 and strictly increase.

    Missing times are filled from the frame before and the duration of a frame; times that do not increase are nudged
    behind the frame before; where they start anew, the new part continues where the old one ended. ``missing`` and
    ``disordered`` count the frames concerned, ``restarts`` the new beginnings.
    """

    def __init__(self, nominal_s: float, *, joins: bool = False) -> None:
        """``nominal_s``: how long a frame lasts where it says nothing. ``joins``: large jumps forward are joints."""
        self.missing = 0
        self.disordered = 0
        self.restarts = 0
        self.start_s: float | None = None
        """The stored time of the first frame, which all times count from; None before it, and where it had none."""
        self._nominal_s = nominal_s
        self._joins = joins
        self._first_s: float | None = None
        self._offset_s = 0.0
        self._last_s: float | None = None
        self._last_duration_s = nominal_s
        self._in_disorder = False

    def next(self, stored_s: float | Fraction | None, duration_s: float | None = None) -> float:
        """The time of the next frame in order of presentation, from its stored time and duration."""
        time_s = self._place(None if stored_s is None else float(stored_s))
        self._last_s = time_s
        self._last_duration_s = duration_s if duration_s is not None and 0.0 < duration_s < _GAP_S else self._nominal_s
        return time_s

    @property
    def end_s(self) -> float:
        """When the last frame stops being shown."""
        return 0.0 if self._last_s is None else self._last_s + self._last_duration_s

    def _place(self, stored_s: float | None) -> float:
        last_s = self._last_s
        if stored_s is None:
            self.missing += 1
            return self.end_s
        if self._first_s is None:
            # After frames without a time, the first one that has a time continues them.
            self.start_s = stored_s - self.end_s
            self._first_s = stored_s
            self._offset_s = self.end_s - stored_s
            return self.end_s
        assert last_s is not None
        time_s = stored_s + self._offset_s
        jumped_back = time_s < last_s - _RESTART_S
        if jumped_back or (self._joins and time_s > self.end_s + _GAP_S):
            self.restarts += 1
            self._offset_s = self.end_s - stored_s
            time_s = self.end_s
        if time_s > last_s:
            self._in_disorder = False
            return time_s
        self.disordered += 1
        # One frame out of order goes between its neighbours; in a run of them the frame rate is all that is left.
        step_s = self._last_duration_s if self._in_disorder else self._last_duration_s / 2
        self._in_disorder = True
        return last_s + step_s
