"""What was said and can be taken back, by each author by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_UNDO = 256


class History(Generic[T]):
    """In the order in which it was said. Of more than ``MAX_UNDO`` the oldest of the author of most is forgotten."""

    def __init__(self) -> None:
        self._entries: list[tuple[Hashable, T]] = []

    def add(self, author: Hashable, said: T) -> None:
        self._entries.append((author, said))
        if len(self._entries) > MAX_UNDO:
            [(loudest, _)] = Counter(who for who, _ in self._entries).most_common(1)
            del self._entries[next(place for place, (who, _) in enumerate(self._entries) if who == loudest)]

    def take(self, author: Hashable) -> tuple[T, list[T]] | None:
        """Take out the newest of ``author``; also what others said after it. None: there is nothing."""
        for place in reversed(range(len(self._entries))):
            if self._entries[place][0] == author:
                _, said = self._entries.pop(place)
                return said, [other for _, other in self._entries[place:]]
        return None

    def drop(self, is_void: Callable[[T], bool]) -> None:
        self._entries = [(author, said) for author, said in self._entries if not is_void(said)]

    def clear(self) -> None:
        self._entries = []
