"""Network cameras and other streams at an address: decoded picture by picture, connected again when they are lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

from streamseg.errors import AddressRefusedError, BadSettingError, CancelledWorkError, StreamsegError
from streamseg.media.addresses import AddressRule, StreamUrl
from streamseg.media.clock import Clock
from streamseg.media.frame import Frame
from streamseg.media.guarded import Guard
from streamseg.media.libav import LibavPicture
from streamseg.media.live_source import LiveSource, RtspTransport
from streamseg.media.video import VideoLimits, resize

# Waits between tries double from here to the ceiling, each shortened by chance, so that many do not come at once.
FIRST_RETRY_S: Final = 0.5
_LEAST_OF_WAIT: Final = 0.5
# A connection that held so long has worked; one that breaks at once does not start the waits anew.
_HELD_S: Final = 10.0
# Where the stream does not say how long a picture lasts.
_USUAL_S: Final = 1 / 25
_LEAST_STEP_S: Final = 0.001
# A stream in bursts that is later than this has been waiting for its server: that is made good by no hurry.
_LATE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a stream is read.

    ``connect_timeout_s``: for the look-up of the host and the connection together. ``read_timeout_s``: a stream without
    a picture for so long is lost. ``reconnect_max_s``: ceiling of the waits between tries. ``max_pixels``: of each
    picture. ``rtsp_transport``: UDP loses pictures where TCP makes them late. ``patient``: a first connection, too, is
    tried again and again where it fails for a reason that may pass.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    reconnect_max_s: float = 30.0
    max_pixels: int = VideoLimits().max_pixels
    rtsp_transport: RtspTransport = "tcp"
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """The first picture of a connection is there. ``reconnects``: 0 for the first connection."""

    width: int
    height: int
    codec: str
    container: str
    fps: float | None
    reconnects: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost, or could not be had; ``reason`` is fit to be shown."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """The next try, the ``attempt``-th in a row from 1 on, comes after so many seconds."""

    in_s: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What was at the address has an end, and it is reached."""


StreamEvent: TypeAlias = Connected | Lost | Retrying | Ended


class LivePicture:
    """One decoded picture that becomes RGB only when asked: most pictures of a stream are replaced by newer ones.

    ``index``: from 0, over all connections. ``time_s``: from 0, increasing; by the stream's own clock, and over a gap
    by the time that passed here. ``width``, ``height``: upright; of the first picture of the stream, to whose size all
    are brought.
    """

    __slots__ = ("_picture", "height", "index", "time_s", "width")

    def __init__(self, picture: LibavPicture, index: int, time_s: float, size: tuple[int, int]) -> None:
        self._picture = picture
        self.index = index
        self.time_s = time_s
        self.width, self.height = size

    def frame(self) -> Frame:
        """Raises UnsupportedMediaError for a kind of pixels that cannot be converted."""
        rgb = self._picture.rgb()
        if rgb.shape[1::-1] != (self.width, self.height):
            rgb = resize(rgb, (self.width, self.height))
        return Frame(rgb, self.index, self.time_s)


class NetworkStream:
    """A stream at an ``rtsp``, ``rtsps``, ``http`` or ``https`` address.

    HTTP brings MJPEG (``multipart/x-mixed-replace``), HLS, or a file, which is read at its own pace. ``rule``: for
    addresses that strangers give; None: the address is the caller's own. Raises AddressRefusedError and
    BadSettingError.
    """

    def __init__(self, url: str, *, rule: AddressRule | None = None, options: NetworkOptions | None = None) -> None:
        self.options = options or NetworkOptions()
        self.problems: list[str] = []
        self._url = StreamUrl.parse(url)
        self._rule = rule
        if rule is not None:
            rule.check(url)
            if self.options.rtsp_transport != "tcp":
                raise BadSettingError("strangers' streams come over TCP: with UDP they choose where packets are sent")
        self.name = self._url.shown
        self._size: tuple[int, int] | None = None
        self._index = 0
        self._clock = _LiveClock()
        self._reconnects = 0

    def __repr__(self) -> str:
        return f"NetworkStream({self.name!r})"

    def run(
        self,
        on_picture: Callable[[LivePicture], None],
        on_event: Callable[[StreamEvent], None],
        stop: threading.Event,
    ) -> None:
        """Read until ``stop`` is set, or what is at the address is over. Blocks; calls back on the caller's thread.

        Every picture is decoded and told, in order; what is told must be taken quickly, for then no delay grows. A
        connection that is lost is tried again for ever. The first one is not: its failure is raised, unless it may pass
        and ``options.patient`` is set.

        Raises AddressRefusedError (whenever it turns out), and of a first connection StreamUnavailableError,
        UnsupportedMediaError and TooLargeError.
        """
        attempt = 0
        while not stop.is_set():
            began_s = time.monotonic()
            failure = self._read(on_picture, on_event, stop)
            if failure is None:
                return
            if self._size is None and not (self.options.patient and failure.retry_after_s is not None):
                raise failure
            attempt = 1 if time.monotonic() - began_s > _HELD_S else attempt + 1
            on_event(Lost(failure.message))
            wait_s = min(FIRST_RETRY_S * 2 ** min(attempt - 1, 16), self.options.reconnect_max_s)
            wait_s *= random.uniform(_LEAST_OF_WAIT, 1.0)  # noqa: S311
            on_event(Retrying(wait_s, attempt))
            stop.wait(wait_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first picture."""
        return self._clock.now_s()

    def _read(
        self,
        on_picture: Callable[[LivePicture], None],
        on_event: Callable[[StreamEvent], None],
        stop: threading.Event,
    ) -> StreamsegError | None:
        """One connection; what ended it, None if that is no failure."""
        with closing(self._connection(stop)) as steps:
            while True:
                try:
                    step = next(steps, None)
                except CancelledWorkError:
                    return None
                except AddressRefusedError:
                    raise
                except StreamsegError as error:
                    return error
                if step is None:
                    return None
                if isinstance(step, LivePicture):
                    on_picture(step)
                else:
                    on_event(step)

    def _connection(self, stop: threading.Event) -> Generator[LivePicture | StreamEvent, None, None]:
        options = self.options
        source = LiveSource(
            self._url,
            Guard(stop, self._rule, options.connect_timeout_s),
            read_timeout_s=options.read_timeout_s,
            max_pixels=options.max_pixels,
            transport=options.rtsp_transport,
        )
        with closing(source):
            is_first = True
            for picture in source.pictures():
                if is_first:
                    self._clock.begin(1 / source.fps if source.fps else _USUAL_S)
                stored_s = picture.stored_s if source.timed else None
                time_s = self._clock.next(stored_s, picture.duration_s, timed=source.timed)
                size = self._fit(picture)
                if is_first:
                    is_first = False
                    yield Connected(*size, source.codec, source.container, source.fps, self._reconnects)
                    self._reconnects += 1
                if source.bursty and stop.wait(self._clock.early_s(time_s)):
                    return
                yield LivePicture(picture, self._index, time_s, size)
                self._index += 1
                if stop.is_set():
                    return
            yield Ended()

    def _fit(self, picture: LibavPicture) -> tuple[int, int]:
        size = picture.width, picture.height
        if picture.orientation()[0]:
            size = size[1], size[0]
        if self._size is None:
            self._size = size
        elif size != self._size and not self.problems:
            self.problems.append(
                f"the picture changes its size from {self._size[0]} x {self._size[1]} to {size[0]} x {size[1]}; "
                "all frames were scaled to the first size"
            )
        return self._size


class _LiveClock:
    """Times that start at 0 and increase, over all connections; see ``LivePicture``."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._last_s = -_LEAST_STEP_S
        self._base_s = 0.0
        self._ahead_s = 0.0
        self._clock = Clock(_USUAL_S)

    def now_s(self) -> float:
        """Seconds since the first picture; 0 before it."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def begin(self, nominal_s: float) -> None:
        """A connection has its first picture."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        self._base_s = self.now_s() if self._last_s >= 0 else 0.0
        self._ahead_s = 0.0
        self._clock = Clock(min(nominal_s, 1.0), joins=True)

    def next(self, stored_s: Fraction | None, duration_s: float, *, timed: bool) -> float:
        """The time of the next picture; by its own time in the stream, or by now."""
        time_s = self._base_s + self._clock.next(stored_s, duration_s) if timed else self.now_s()
        self._last_s = max(time_s, self._last_s + _LEAST_STEP_S)
        return self._last_s

    def early_s(self, time_s: float) -> float:
        """How long until a picture of that time is to be shown, where pictures come in bursts."""
        early_s = time_s - self._ahead_s - self.now_s()
        if early_s < -_LATE_S:
            self._ahead_s += early_s
        return max(early_s, 0.0)
