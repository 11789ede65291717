"""Whose turn it is to change the objects of a stream."""

from __future__ import annotations

import asyncio

import pytest

from streamseg.errors import OverloadedError
from streamseg.service.turns import Turns


def test_who_says_little_waits_for_one_turn_of_who_says_much() -> None:
    async def go() -> None:
        turns = Turns(1, 1)
        served: list[str] = []

        async def say(who: str, often: int) -> None:
            for _ in range(often):
                await turns.take(moving=True)
                served.append(who)

        async with asyncio.TaskGroup() as group:
            group.create_task(say("loud", 10))
            await asyncio.sleep(0)
            group.create_task(say("quiet", 2))
            for pictures in range(1, 12):
                await asyncio.sleep(0.01)
                assert len(served) == pictures
                turns.next_picture()
        assert served[:5] == ["loud", "loud", "quiet", "loud", "quiet"]

    asyncio.run(go())


def test_where_no_picture_is_awaited_nobody_waits() -> None:
    async def go() -> None:
        turns = Turns(1, 3)
        for _ in range(3):
            await turns.take(moving=False)
        with pytest.raises(OverloadedError, match="the stream has no pictures now"):
            await turns.take(moving=False)
        waiting = asyncio.create_task(turns.take(moving=True))
        await asyncio.sleep(0)
        turns.stand_still()
        with pytest.raises(OverloadedError):
            await waiting
        turns.next_picture()
        await turns.take(moving=False)

    asyncio.run(go())


def test_who_has_left_takes_no_turn() -> None:
    async def go() -> None:
        turns = Turns(1, 1)
        await turns.take(moving=True)
        gone, stays = (asyncio.create_task(turns.take(moving=True)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        turns.next_picture()
        await stays

    asyncio.run(go())
