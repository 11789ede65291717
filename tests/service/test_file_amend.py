"""Saying more about a file while it is processed: it is done anew from there (embedded nano model)."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from streamseg.segmentation.masks import FrameResult
from streamseg.service import file_session
from streamseg.service.server import Server
from tests.service.test_file_session import clip, urls
from tests.service.wire_client import Wire, open_wire

FRAMES = 60
OTHER = {"object_id": 2, "box_xyxy_px": [13, 11, 47, 37]}
BOX = {"object_id": 1, "box_xyxy_px": [14, 12, 46, 36]}


async def until_frame(wire: Wire, index: int) -> None:
    while True:
        message = await wire.next()
        assert message["type"] in ("progress", "result", "ok"), message
        if message["type"] == "result" and message["index"] >= index:
            return


def masks_of(server: Server, done: dict[str, Any]) -> list[FrameResult]:
    with urllib.request.urlopen(server.url + urls(done)["masks.jsonl"], timeout=10) as answer:
        return [FrameResult.from_json(json.loads(line)) for line in answer.read().splitlines()]


def test_a_prompt_on_a_frame_that_has_passed_begins_the_file_anew_from_there(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 8)
            await wire.text(type="prompt", object_id=2, points_xy_px=[[30, 24]], labels=[1], frame=5)
            got = await wire.until("done")
            results = [one for one in got if one["type"] == "result"]
            (place,) = [n for n, one in enumerate(results) if one["index"] == 5]
            again = results[place:]
            assert [one["index"] for one in again] == list(range(5, FRAMES))
            assert all([o["object_id"] for o in one["objects"]] == [1, 2] for one in again)
            assert [one["of"] for one in got if one["type"] == "ok"] == ["prompt"]
            assert got[-1]["frames"] == FRAMES
            lines = await asyncio.to_thread(masks_of, server, got[-1])
            assert [line.index for line in lines] == list(range(FRAMES))
            assert all([one.object_id for one in line.objects] == [1, 2] for line in lines)
            assert {line.objects[1].state for line in lines[:5]} == {"lost"}

    asyncio.run(go())


def test_undo_and_remove_count_while_the_file_is_processed(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX, OTHER], mode="track", video=None)
            await until_frame(wire, 3)
            await wire.text(type="undo", request_id="u")
            got = await wire.until("done")
            results = [one for one in got if one["type"] == "result"]
            assert [o["object_id"] for o in results[-1]["objects"]] == [1]
            lines = await asyncio.to_thread(masks_of, server, got[-1])
            assert all([one.object_id for one in line.objects] == [1] for line in lines)
            assert len(lines) == FRAMES

    asyncio.run(go())


def test_what_cannot_be_changed_is_said_and_the_file_goes_on(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 2)
            await wire.text(type="remove", object_id=9, request_id="a")
            await wire.text(type="remove", object_id=1, request_id="b")
            await wire.text(type="prompt", object_id=1, labels=[1], request_id="c")
            got = await wire.until("done")
            errors = {one["request_id"]: one["code"] for one in got if one["type"] == "error"}
            assert errors == {"a": "not_found", "b": "bad_state", "c": "bad_prompt"}
            indices = [one["index"] for one in got if one["type"] == "result"]
            assert indices == list(range(3, FRAMES))

    asyncio.run(go())


def test_stop_ends_a_file_that_was_begun_anew(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(600), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 6)
            await wire.text(type="prompt", **BOX, frame=4)
            await wire.text(type="stop")
            got = await wire.until("done")
            assert got[-1]["frames"] < 600
            assert not [one for one in got if one["type"] == "error"]

    asyncio.run(go())


def test_changes_are_carried_out_in_the_order_in_which_they_came(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 3)
            await wire.text(type="prompt", **OTHER, frame=2, request_id="p")
            await wire.text(type="undo", request_id="u")
            got = await wire.until("done")
            assert [one["request_id"] for one in got if one["type"] == "ok"] == ["p", "u"]
            lines = await asyncio.to_thread(masks_of, server, got[-1])
            assert all([one.object_id for one in line.objects] == [1] for line in lines)

    asyncio.run(go())


def test_a_click_outside_the_picture_costs_nothing(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 3)
            await wire.text(type="prompt", object_id=1, points_xy_px=[[5000, 5]], labels=[1], request_id="p")
            got = await wire.until("done")
            assert [(one["code"], one["request_id"]) for one in got if one["type"] == "error"] == [("bad_prompt", "p")]
            assert [one["index"] for one in got if one["type"] == "result"] == list(range(4, FRAMES))

    asyncio.run(go())


def test_a_file_is_not_begun_anew_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_session, "MOST_RUNS", 1)

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.file(clip(FRAMES), prompts=[BOX], mode="track", video=None)
            await until_frame(wire, 3)
            await wire.text(type="prompt", **OTHER, frame=2, request_id="a")
            await until_frame(wire, 3)
            await wire.text(type="undo", request_id="b")
            got = await wire.until("done")
            errors = [(one["code"], one["request_id"]) for one in got if one["type"] == "error"]
            assert errors == [("overloaded", "b")]

    asyncio.run(go())
