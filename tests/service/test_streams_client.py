"""The Python clients looking at shared streams: a real server, a real camera on loopback, the nano model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mjpeg_camera import SIDE, TOP, open_camera
from wire_client import frees_everything

from streamseg import Prompt
from streamseg.client import AsyncClient, Client
from streamseg.errors import AddressRefusedError, BadMessageError, BadStateError, NotFoundError, ObjectTakenError
from streamseg.service.server import Server

ANYWHERE = Prompt(3, box_xyxy_px=(5, TOP, 15 + 2 * SIDE, TOP + SIDE))


@pytest.fixture
def network_server(make_server: Callable[..., Server]) -> Server:
    return make_server(network={"enabled": True, "allow": ["127.0.0.1"]})


def test_one_opens_a_camera_and_another_looks_too(network_server: Server) -> None:
    async def go(url: str) -> None:
        async with (
            AsyncClient(network_server.url) as client,
            await client.look("door", url=url, picture=True) as first,
            await client.look("door") as second,
        ):
            result = await anext(first)
            assert result.picture_jpeg is not None
            assert result.picture_jpeg.startswith(b"\xff\xd8")
            await second.prompt(ANYWHERE)
            for stream in (first, second):
                result = await anext(stream)
                while not result.objects:
                    result = await anext(stream)
                assert result.objects[0].object_id == 3
            assert first.source == ("live", "")
            with pytest.raises(BadStateError):
                await first.undo()
            with pytest.raises(ObjectTakenError):
                await first.prompt(ANYWHERE, own=True)
            assert [one.object_id for one in (await anext(first)).objects] == [3]
            await second.prompt(ANYWHERE, own=True)
            with pytest.raises(BadStateError):
                await second.segment(result.picture_jpeg or b"x")
            await first.close()
            # Whoever opened it has left: what is there still comes, then the iteration ends.
            async for result in second:
                assert result.picture_jpeg is None
            assert second.source is not None
            assert second.source[0] == "ended"

    with open_camera() as camera:
        asyncio.run(go(camera.url))
    assert frees_everything(network_server)


def test_a_blocking_program_looks_too(network_server: Server) -> None:
    with open_camera() as camera, Client(network_server.url) as client:
        stream: Any = client.look(url=camera.url, prompts=[ANYWHERE], overlay=True)
        with stream:
            seen = []
            for result in stream:
                seen.append(result)
                assert result.objects[0].object_id == 3
                assert result.overlay_rgb().shape == (result.height, result.width, 3)
                if len(seen) == 3:
                    stream.stop()
            assert len(seen) >= 3
            assert stream.source[0] == "live"


def test_what_cannot_be_looked_at_is_an_error(network_server: Server) -> None:
    with Client(network_server.url) as client:
        with pytest.raises(NotFoundError):
            client.look("nothing")
        with pytest.raises(AddressRefusedError):
            client.look(url="http://169.254.169.254/latest")
        with pytest.raises(BadMessageError):
            client.look()
