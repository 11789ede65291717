"""How far a run has come, on stderr: a bar where a person watches, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from streamseg.cli.console import note

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Display:
    """The progress over ``count`` inputs; within a video, over its frames. A context manager."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._bars = _Bars(count) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def advance(self) -> None:
        """One input is done with."""
        if self._bars is not None:
            self._bars.advance()

    def video(self, name: str) -> VideoProgress:
        """The progress of one video; ``close`` it when the video is done with."""
        return VideoProgress(name, self._bars, self._clock)


class VideoProgress:
    """Frames of one video, by any thread."""

    def __init__(self, name: str, bars: _Bars | None, clock: Callable[[], float]) -> None:
        self._name = name
        self._bars = bars
        self._clock = clock
        self._said_s = clock()
        self._task = None if bars is None else bars.add(name)

    def update(self, frames: int, total: int | None, fps: float, eta_s: float | None) -> None:
        """``frames`` of about ``total`` are done, at ``fps`` frames a second; ``eta_s`` seconds are left."""
        self._show(frames, total, describe(frames, total, fps, eta_s))

    def upload(self, sent_bytes: int, size_bytes: int) -> None:
        """So much of the file is at the server."""
        self._show(sent_bytes, size_bytes, f"{sent_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB sent")

    def backwards(self, frames: int) -> None:
        """So many frames were tracked backwards."""
        self._show(0, None, f"backwards, {frames} frames")

    def wait(self, place: int) -> None:
        """The file is number ``place`` in the server's line."""
        self._show(0, None, f"number {place} in the server's line")

    def _show(self, done: int, total: int | None, rest: str) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, done, total, rest)
            return
        now_s = self._clock()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            note(f"{self._name}: {rest}")

    def close(self) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.remove(self._task)


def describe(frames: int, total: int | None, fps: float, eta_s: float | None) -> str:
    """``120 of 300 frames, 4.2 frames/s, 0:43 left``."""
    # The total is the container's word, and some containers lie.
    so_far = f"{frames} frames" if total is None or total < frames else f"{frames} of {total} frames"
    left = "" if eta_s is None else f", {clock_time(eta_s)} left"
    return f"{so_far}, {fps:.1f} frames/s{left}"


def clock_time(seconds: float) -> str:
    """Seconds as ``0:43`` or ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class _Bars:
    """The bars on a terminal: one over the inputs where there are several, one for the video in work."""

    def __init__(self, count: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # Lines on stdout are moved above the bars on a terminal; into a pipe they must go as they are.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rest]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._count = count
        self._done = 0
        self._all: TaskID | None = None
        if count > 1:
            self._all = self._progress.add_task("", total=count, rest=f"0 of {count}")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def advance(self) -> None:
        self._done += 1
        if self._all is not None:
            self._progress.update(self._all, completed=self._done, rest=f"{self._done} of {self._count}")

    def add(self, name: str) -> TaskID:
        return self._progress.add_task(name, total=None, rest="")

    def update(self, task: TaskID, done: int, total: int | None, rest: str) -> None:
        self._progress.update(task, completed=done, total=None if total is None else max(total, done), rest=rest)

    def remove(self, task: TaskID) -> None:
        self._progress.remove_task(task)
