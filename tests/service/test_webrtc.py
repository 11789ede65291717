"""Whole sessions over WebRTC on loopback: a real server, a real aiortc client, real DTLS and packets."""

from __future__ import annotations

import asyncio

import pytest
from peer_client import CLICK, HEIGHT, LOOPBACK, WIDTH, open_peer
from wire_client import frees_everything

from streamseg.models.build import LoadedModel
from streamseg.service.server import Server
from streamseg.service.webrtc_rules import MAX_PART_BYTES


@pytest.fixture(scope="module")
def live(model: LoadedModel):
    from wire_client import settings_for_tests

    with Server(settings_for_tests(webrtc=LOOPBACK), model) as running:
        yield running


def test_masks_come_back_over_the_data_channel(live: Server) -> None:
    async def go() -> None:
        async with open_peer(live) as client:
            ready = await client.start()
            assert ready["ice_servers"] == []
            await client.connect()
            results = await client.some_results(5)
            assert all(len(message) <= MAX_PART_BYTES for message in client.messages)
            for result in results:
                assert (result["type"], result["width"], result["height"]) == ("result", WIDTH, HEIGHT)
                assert result["attachments"] == 0
                assert 0 <= result["rtp_timestamp"] < 2**32
            (one,) = results[-1]["objects"]
            assert one["state"] == "tracked"
            assert one["polygons"]
            assert "rle" not in one
            assert 0.7 < one["area_px"] / (80 * 80) < 1.4
            await client.wire.text(type="stop", request_id="e")
            done = (await client.wire.until("done"))[-1]
            assert done["frames"] >= 5

    asyncio.run(go())
    assert frees_everything(live)
