"""Owns the accelerator: one inference thread for a device, behind a bounded queue.

Sessions submit work and wait for it. Sessions take turns, so that one which submits much cannot starve the others;
a full queue refuses at the door instead of growing; a session that ends takes its waiting work with it.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from streamseg.errors import CancelledWorkError, OutOfMemoryError, OverloadedError

if TYPE_CHECKING:
    from streamseg.models.build import LoadedModel

logger = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """Something to do with the model, on its thread."""

    def run(self, model: LoadedModel) -> T_co:
        """Do it. What it raises reaches whoever waits for the work, and nobody else."""
        ...


@dataclass(slots=True)
class Done(Generic[T]):
    """The outcome of a work with the milliseconds that it waited and ran."""

    value: T
    queue_ms: float
    run_ms: float


@dataclass(slots=True)
class _Waiting:
    work: Work[Any]
    future: Future[Done[Any]] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class Engine:
    """The inference thread of one device.

    ``queue_length``: works that may wait; one more raises OverloadedError. ``min_work_ms``: each work takes at least so
    long, as it would on a slower machine.
    """

    def __init__(self, model: LoadedModel, queue_length: int = 32, min_work_ms: float = 0.0) -> None:
        self.model = model
        self._queue_length = queue_length
        self._min_work_s = 1e-3 * min_work_ms
        self._changed = threading.Condition()
        # One line for each session, in the order of their turns.
        self._lines: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        self._depth = 0
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="streamseg-inference", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Works waiting, without the one that runs."""
        return self._depth

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def submit(self, work: Work[T], session: Hashable) -> Future[Done[T]]:
        """Queue ``work`` for ``session``.

        Raises OverloadedError if the queue is full and CancelledWorkError after ``close``.
        """
        waiting = _Waiting(work)
        with self._changed:
            if self._closing:
                raise CancelledWorkError("the service is shutting down")
            if self._depth >= self._queue_length:
                raise OverloadedError(
                    f"{self._depth} works are waiting for the model, which is the limit; try again in a second"
                )
            self._lines.setdefault(session, deque()).append(waiting)
            self._depth += 1
            self._changed.notify()
        return waiting.future

    def cancel(self, session: Hashable) -> None:
        """Drop what ``session`` has waiting; a work that already runs is finished, its result unused."""
        with self._changed:
            dropped = self._lines.pop(session, deque())
            self._depth -= len(dropped)
        _refuse(dropped, "the session ended before this was done")

    def close(self, timeout_s: float = 30.0) -> None:
        """Cancel what waits and end the thread once the running work is done."""
        with self._changed:
            self._closing = True
            dropped = [waiting for line in self._lines.values() for waiting in line]
            self._lines.clear()
            self._depth = 0
            self._changed.notify()
        _refuse(dropped, "the service is shutting down")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _next(self) -> _Waiting | None:
        with self._changed:
            while not self._lines:
                if self._closing:
                    return None
                self._changed.wait()
            session, line = next(iter(self._lines.items()))
            waiting = line.popleft()
            self._depth -= 1
            if line:
                self._lines.move_to_end(session)
            else:
                del self._lines[session]
            return waiting

    def _serve(self) -> None:
        while (waiting := self._next()) is not None:
            if waiting.future.set_running_or_notify_cancel():
                self._run(waiting)
            # Left bound, it would keep the last session's pictures alive until the next work comes.
            del waiting

    def _run(self, waiting: _Waiting) -> None:
        started = time.perf_counter()
        try:
            with self.model.inference():
                value = waiting.work.run(self.model)
            if (left_s := self._min_work_s - (time.perf_counter() - started)) > 0:
                time.sleep(left_s)
        except torch.OutOfMemoryError:
            logger.exception("out of memory on %s", self.model.device)
            waiting.future.set_exception(
                OutOfMemoryError("the accelerator ran out of memory for this session; use fewer objects")
            )
        except Exception as error:
            waiting.future.set_exception(error)
        else:
            ended = time.perf_counter()
            waiting.future.set_result(Done(value, 1e3 * (started - waiting.since), 1e3 * (ended - started)))
            return
        self._free_memory()

    def _free_memory(self) -> None:
        if self.model.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _refuse(dropped: deque[_Waiting] | list[_Waiting], why: str) -> None:
    for waiting in dropped:
        if waiting.future.set_running_or_notify_cancel():
            waiting.future.set_exception(CancelledWorkError(why))
