"""The live sessions of a server, for clients whose connection broke and who come back over another one.

A session that has lost its connection is kept for a while, in the place that it had. Its id, which nobody can guess, is
the permission to go on with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Gauge

from streamseg.service.protocol import SUBPROTOCOL
from streamseg.service.protocol.client_messages import Resume

if TYPE_CHECKING:
    from streamseg.service.link import Link
    from streamseg.service.places import Place

SESSION_SUBPROTOCOL = f"{SUBPROTOCOL.partition('.')[0]}.session."


class Resumable(Protocol):
    """A session and what it works with."""

    @property
    def resumable_id(self) -> str | None:
        """Its id; None where it cannot go on over another connection."""

    def rejoin(self, link: Link, request: Resume, place: Place | None) -> None:
        """Go on over ``link``; ``place``: where it was kept, if it was."""

    async def end(self) -> None:
        """Free everything."""


@dataclass(slots=True)
class _Entry:
    session: Resumable
    # While it waits for its client:
    place: Place | None = None
    timer: asyncio.TimerHandle | None = None


class Registry:
    """``resume_s``: how long a session is kept, 0: not at all. ``kept``: counts those that are."""

    def __init__(self, resume_s: float, kept: Gauge) -> None:
        self._resume_s = resume_s
        self._kept = kept
        self._entries: dict[bytes, _Entry] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def add(self, session: Resumable) -> None:
        """Know a session, under its id."""
        if self._resume_s > 0 and session.resumable_id is not None:
            self._entries[_key(session.resumable_id)] = _Entry(session)

    def forget(self, session_id: str) -> None:
        """The session has ended."""
        self._entries.pop(_key(session_id), None)

    def has(self, session_id: str) -> bool:
        """Whether there is such a session that can be resumed."""
        return self._find(session_id) is not None

    def rejoin(self, link: Link, request: Resume) -> bool:
        """Have the session that ``request`` names go on over ``link``; whether there is one."""
        entry = self._find(request.session_id)
        if entry is None:
            return False
        place = entry.place
        if entry.timer is not None:
            entry.timer.cancel()
            self._kept.dec()
        entry.place = entry.timer = None
        entry.session.rejoin(link, request, place)
        return True

    def keep(self, session: Resumable, place: Place) -> bool:
        """Keep a session whose connection broke, in the place that it had; whether it is."""
        session_id = session.resumable_id
        entry = None if session_id is None else self._find(session_id)
        if entry is None or session_id is None or self._closed:
            return False
        entry.place = place.moved()
        entry.timer = asyncio.get_running_loop().call_later(self._resume_s, self._expire, _key(session_id))
        self._kept.inc()
        return True

    async def close(self) -> None:
        """Free the sessions that are kept; no more are."""
        self._closed = True
        for key in [key for key, entry in self._entries.items() if entry.timer is not None]:
            self._expire(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _find(self, session_id: str) -> _Entry | None:
        entry = self._entries.get(_key(session_id))
        return None if entry is None or entry.session.resumable_id is None else entry

    def _expire(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        if entry.timer is not None:
            entry.timer.cancel()
            self._kept.dec()
        self._ending.add(task := asyncio.create_task(_end(entry), name="streamseg-expire"))
        task.add_done_callback(self._ending.discard)


def named_session(subprotocols: Sequence[str]) -> str | None:
    """The session that a handshake says it comes back for."""
    for one in subprotocols:
        if one.startswith(SESSION_SUBPROTOCOL):
            return one.removeprefix(SESSION_SUBPROTOCOL)
    return None


async def _end(entry: _Entry) -> None:
    try:
        await entry.session.end()
    finally:
        if entry.place is not None:
            entry.place.give_back()


def _key(session_id: str) -> bytes:
    # How long a look-up of the id itself takes could tell how much of it was guessed.
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).digest()
