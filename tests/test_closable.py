"""What can be closed is closed at the end of its block, whatever happens in it."""

from __future__ import annotations

import asyncio

import pytest

from streamseg.closable import AsyncClosable, Closable


class Thing(Closable):
    closed = False

    def close(self) -> None:
        self.closed = True


class AsyncThing(AsyncClosable):
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("fails", [False, True])
def test_a_block_gives_the_thing_itself_and_closes_it(fails: bool) -> None:
    thing = Thing()
    try:
        with thing as given:
            assert given is thing
            assert not thing.closed
            if fails:
                raise RuntimeError("meant")
    except RuntimeError:
        assert fails
    assert thing.closed


@pytest.mark.parametrize("fails", [False, True])
def test_an_asynchronous_block_likewise(fails: bool) -> None:
    thing = AsyncThing()

    async def go() -> None:
        async with thing as given:
            assert given is thing
            assert not thing.closed
            if fails:
                raise RuntimeError("meant")

    if fails:
        with pytest.raises(RuntimeError, match="meant"):
            asyncio.run(go())
    else:
        asyncio.run(go())
    assert thing.closed
