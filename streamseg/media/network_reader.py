"""A network stream for whoever is slower than it: always the newest picture."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from threading import Event
from typing import Final

from streamseg.closable import Closable
from streamseg.errors import CancelledWorkError, UnsupportedMediaError
from streamseg.media.addresses import AddressRule
from streamseg.media.frame import Frame
from streamseg.media.network import Connected, LivePicture, Lost, NetworkOptions, NetworkStream, Retrying, StreamEvent
from streamseg.media.sampling import Choice, Chooser, Sampling
from streamseg.media.video import VideoInfo

_logger = logging.getLogger(__name__)

# How often it is looked whether somebody wants an end.
_LOOK_S: Final = 0.1


class NetworkReader(Closable):
    """What ``VideoReader`` is for files: opens a stream, waits for its first picture, then gives frames.

    A thread reads the stream, and what is not fetched in time is replaced by what came after it. ``url``, ``rule``,
    ``options`` and errors are those of ``NetworkStream``. ``cancelled``: when set, frames end. ``on_event``: is told of
    losses and tries, on the thread that reads; without it they are logged. ``info``: of the first picture; there is no
    duration and no sound.
    """

    def __init__(
        self,
        url: str,
        *,
        rule: AddressRule | None = None,
        options: NetworkOptions | None = None,
        cancelled: Event | None = None,
        on_event: Callable[[StreamEvent], None] | None = None,
    ) -> None:
        self._stream = NetworkStream(url, rule=rule, options=options)
        self._cancelled = cancelled or Event()
        self._tell = on_event or self._log
        self._stop = Event()
        self._changed = threading.Condition()
        self._newest: tuple[LivePicture, Choice] | None = None
        self._choose: Chooser | None = None
        self._end_s: float | None = None
        self._connected: Connected | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="streamseg-network", daemon=True)
        self._thread.start()
        try:
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    @property
    def problems(self) -> list[str]:
        return self._stream.problems

    def close(self) -> None:
        """Ends the connection and waits for that, about as long as a stream is waited for at most."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """The newest picture, as soon as there is one that was not read yet; None: it is over, or none came in time."""
        item = self._take(timeout_s)
        return None if item is None else item[0].frame()

    def frames(self, sampling: Sampling | None = None, always: Collection[int] = ()) -> Iterator[tuple[Frame, Choice]]:
        """Of the frames that ``sampling`` wants the newest each time; ends as ``end_s`` says, also while none come.

        ``always``: indices wanted for SEGMENT in any case, if they are not replaced. A frame to be held does not
        replace one to be segmented.
        """
        rule = sampling or Sampling()
        with self._changed:
            self._choose = rule.sampler(always)
            self._end_s = rule.end_s
            held, self._newest = self._newest, None
            if held is not None:
                self._offer(held[0])
        return self._frames()

    def _frames(self) -> Iterator[tuple[Frame, Choice]]:
        while (item := self._take(None)) is not None:
            yield item[0].frame(), item[1]

    def _describe(self) -> VideoInfo:
        with self._changed:
            while self._connected is None and self._thread.is_alive() and not self._cancelled.is_set():
                self._changed.wait(_LOOK_S)
            first = self._connected
        if first is None:
            self._stop.set()
            self._thread.join()
            if self._cancelled.is_set():
                raise CancelledWorkError("the stream was closed before its first picture")
            raise self._failure or UnsupportedMediaError("the stream ended before its first picture")
        return VideoInfo(
            width=first.width,
            height=first.height,
            duration_s=None,
            frame_count=None,
            fps=first.fps,
            codec=first.codec,
            container=first.container,
            has_audio=False,
            rotation_deg=0,
        )

    def _take(self, timeout_s: float | None) -> tuple[LivePicture, Choice] | None:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._newest is None:
                if self._failure is not None:
                    raise self._failure
                if self._stop.is_set() or self._cancelled.is_set() or not self._thread.is_alive():
                    return None
                if until_s is not None and time.monotonic() >= until_s:
                    return None
                self._changed.wait(_LOOK_S)
            item, self._newest = self._newest, None
            return item

    def _run(self) -> None:
        try:
            self._stream.run(self._on_picture, self._on_event, self._stop)
        except BaseException as error:
            self._failure = error
        with self._changed:
            self._changed.notify_all()

    def _on_picture(self, picture: LivePicture) -> None:
        with self._changed:
            self._offer(picture)
            self._changed.notify_all()

    def _offer(self, picture: LivePicture) -> None:
        choice = Choice.SEGMENT if self._choose is None else self._choose(picture.index, picture.time_s)
        if choice is Choice.STOP:
            self._stop.set()
        elif choice is Choice.SEGMENT or (
            choice is Choice.HOLD and (self._newest is None or self._newest[1] is Choice.HOLD)
        ):
            self._newest = picture, choice

    def _on_event(self, event: StreamEvent) -> None:
        with self._changed:
            if isinstance(event, Connected):
                self._connected = self._connected or event
            elif self._end_s is not None and self._stream.elapsed_s >= self._end_s:
                self._stop.set()
            self._changed.notify_all()
        self._tell(event)

    def _log(self, event: StreamEvent) -> None:
        if isinstance(event, Lost):
            _logger.warning("%s: lost: %s", self._stream.name, event.reason)
        elif isinstance(event, Retrying):
            _logger.info("%s: trying again in %.1f s", self._stream.name, event.in_s)
        elif isinstance(event, Connected) and event.reconnects:
            _logger.warning("%s: connected again", self._stream.name)
