"""How often something may happen."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Lets ``per_s`` through on average and ``burst`` at once."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._left = self._burst
        self._since = clock()

    def take(self, cost: float = 1.0) -> bool:
        """Whether it may happen now; what costs more than a whole burst waits for a whole one."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_s)
        self._since = now
        cost = min(cost, self._burst)
        if self._left < cost:
            return False
        self._left -= cost
        return True
