"""What a session has to do: one work under way, and those that wait. No I/O."""

from __future__ import annotations

from collections import deque

from streamseg.errors import OverloadedError
from streamseg.service.effects import Open, Process, Segment, Work

# Prompts, removals and resets that may wait while a frame is in work.
MAX_WAITING = 64


class WorkQueue:
    """``newest_wins``: a frame that waits gives way to a newer one."""

    def __init__(self, *, newest_wins: bool) -> None:
        self._newest_wins = newest_wins
        self._under_way: Work | None = None
        self._waiting: deque[Work] = deque()

    @property
    def under_way(self) -> Work | None:
        return self._under_way

    @property
    def waiting(self) -> tuple[Work, ...]:
        """In their order."""
        return tuple(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a work is under way or waits to be taken."""
        return self._under_way is not None or bool(self._waiting)

    def take(self) -> Work | None:
        """The next work, if there is any and none is under way."""
        if self._under_way is not None or not self._waiting:
            return None
        self._under_way = self._waiting.popleft()
        return self._under_way

    def end(self) -> Work | None:
        """The work under way has ended; which one it was."""
        work, self._under_way = self._under_way, None
        return work

    def check_room(self) -> None:
        """Raise OverloadedError where too much waits for one more request."""
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} requests are waiting for the frame in work; send them more slowly")

    def put(self, work: Work) -> None:
        self._waiting.append(work)

    def put_first(self, work: Work) -> None:
        self._waiting.appendleft(work)

    def put_early(self, work: Work) -> None:
        """Ahead of what should show it already: the frame that is segmented next, or the whole file."""
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, Process) or (self._newest_wins and isinstance(last, Segment)):
            self._waiting.insert(len(self._waiting) - 1, work)
        else:
            self._waiting.append(work)

    def put_frame(self, frame: Segment) -> Segment | None:
        """The one that gave way to ``frame``, if one did."""
        former = self._waiting[-1] if self._newest_wins and self._waiting else None
        if not isinstance(former, Segment):
            self._waiting.append(frame)
            return None
        self._waiting[-1] = frame
        return former

    def give_up(self) -> None:
        """What waits is not done, but for what answers the start."""
        self._waiting = deque(work for work in self._waiting if isinstance(work, Open))
