"""The engine: order, turns, limits, cancelling and failures. The work is arithmetic, the threads are real."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from streamseg.engine import Engine
from streamseg.errors import CancelledWorkError, OutOfMemoryError, OverloadedError


class Call:
    """A work that calls a function."""

    def __init__(self, function) -> None:
        self.function = function

    def run(self, model):
        return self.function(model)


@pytest.fixture
def make_engine() -> Iterator:
    engines = []

    def make(queue_length: int = 8) -> Engine:
        model = SimpleNamespace(device=torch.device("cpu"), inference=contextlib.nullcontext)
        engines.append(Engine(model, queue_length))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@contextlib.contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The engine busy until the block ends."""
    started, go_on = threading.Event(), threading.Event()

    def wait(model) -> None:
        started.set()
        assert go_on.wait(10)

    running = engine.submit(Call(wait), "holder")
    assert started.wait(10)
    try:
        yield
    finally:
        go_on.set()
    running.result(10)


def test_a_work_takes_at_least_as_long_as_on_the_machine_that_is_imitated() -> None:
    model = SimpleNamespace(device=torch.device("cpu"), inference=contextlib.nullcontext)
    engine = Engine(model, min_work_ms=60.0)
    try:
        done = engine.submit(Call(lambda model: 1), "session").result(10)
    finally:
        engine.close()
    assert done.value == 1
    assert done.run_ms >= 60.0


def test_work_runs_on_the_one_inference_thread_with_the_model(make_engine) -> None:
    engine = make_engine()
    done = [engine.submit(Call(lambda model: (threading.get_ident(), model)), n).result(10) for n in range(3)]
    assert len({one.value[0] for one in done}) == 1
    assert done[0].value[0] != threading.get_ident()
    assert done[0].value[1] is engine.model
    assert all(one.queue_ms >= 0 and one.run_ms >= 0 for one in done)


def test_sessions_take_turns(make_engine) -> None:
    engine = make_engine()
    order: list[str] = []
    with held(engine):
        futures = [
            engine.submit(Call(lambda _, name=name: order.append(name)), name[0])
            for name in ("a1", "a2", "a3", "b1", "c1")
        ]
    for future in futures:
        future.result(10)
    assert order == ["a1", "b1", "c1", "a2", "a3"]


def test_a_full_queue_refuses_at_the_door(make_engine) -> None:
    engine = make_engine(queue_length=2)
    with held(engine):
        futures = [engine.submit(Call(lambda _: 1), "a") for _ in range(2)]
        assert engine.depth == 2
        with pytest.raises(OverloadedError) as refused:
            engine.submit(Call(lambda _: 1), "b")
        assert refused.value.retry_after_s == 1.0
    assert [future.result(10).value for future in futures] == [1, 1]
    assert engine.depth == 0


def test_cancelling_a_session_drops_its_waiting_work_only(make_engine) -> None:
    engine = make_engine()
    with held(engine):
        mine = engine.submit(Call(lambda _: 1), "a")
        other = engine.submit(Call(lambda _: 2), "b")
        engine.cancel("a")
    with pytest.raises(CancelledWorkError):
        mine.result(10)
    assert other.result(10).value == 2


def test_a_failing_work_fails_alone(make_engine) -> None:
    engine = make_engine()
    with pytest.raises(ZeroDivisionError):
        engine.submit(Call(lambda _: 1 // 0), "a").result(10)
    assert engine.submit(Call(lambda _: 3), "a").result(10).value == 3


def test_running_out_of_memory_is_named(make_engine) -> None:
    def exhaust(model):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemoryError, match="fewer objects"):
        make_engine().submit(Call(exhaust), "a").result(10)


def test_closing_cancels_what_waits_and_ends_the_thread(make_engine) -> None:
    engine = make_engine()
    with held(engine):
        waiting = engine.submit(Call(lambda _: 1), "a")
        closer = threading.Thread(target=engine.close)
        closer.start()
        with pytest.raises(CancelledWorkError):
            waiting.result(10)
    closer.join(10)
    assert not engine.alive
    with pytest.raises(CancelledWorkError):
        engine.submit(Call(lambda _: 1), "a")


def test_a_future_that_was_given_up_is_skipped(make_engine) -> None:
    engine = make_engine()
    ran: list[int] = []
    with held(engine):
        future = engine.submit(Call(lambda _: ran.append(1)), "a")
        assert future.cancel()
    engine.submit(Call(lambda _: None), "a").result(10)
    assert ran == []
