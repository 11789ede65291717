"""The line for files that wait to be processed."""

from __future__ import annotations

import asyncio

import pytest

from streamseg.service import line as line_module
from streamseg.service.line import Line


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "TELL_EVERY_S", 0.02)


def test_those_who_come_first_are_served_first() -> None:
    async def go() -> None:
        line, order, told = Line(1), [], []
        free = asyncio.Event()

        async def visit(name: int) -> None:
            async with line.turn(lambda place: told.append((name, place))):
                order.append(name)
                await free.wait()

        visits = [asyncio.create_task(visit(name)) for name in range(3)]
        await asyncio.sleep(0.05)
        assert (order, line.waiting) == ([0], 2)
        assert set(told) == {(1, 1), (2, 2)}
        free.set()
        await asyncio.gather(*visits)
        assert (order, line.waiting) == ([0, 1, 2], 0)

    asyncio.run(go())


def test_whoever_leaves_the_line_holds_up_nobody() -> None:
    async def go() -> None:
        line = Line(1)
        leave = asyncio.Event()
        served = []

        async def first() -> None:
            async with line.turn(lambda _: None):
                await leave.wait()

        async def visit(name: str) -> None:
            async with line.turn(lambda _: None):
                served.append(name)

        one = asyncio.create_task(first())
        await asyncio.sleep(0)
        second, third = asyncio.create_task(visit("second")), asyncio.create_task(visit("third"))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert line.waiting == 1
        leave.set()
        await asyncio.gather(one, third)
        assert served == ["third"]

    asyncio.run(go())


def test_a_turn_that_is_given_to_somebody_who_has_just_left_goes_on() -> None:
    async def go() -> None:
        line = Line(1)
        first = line.turn(lambda _: None)
        await first.__aenter__()

        async def visit() -> str:
            async with line.turn(lambda _: None):
                return "served"

        second, third = asyncio.create_task(visit()), asyncio.create_task(visit())
        await asyncio.sleep(0.01)
        await first.__aexit__(None, None, None)
        second.cancel()
        assert await third == "served"

    asyncio.run(go())
