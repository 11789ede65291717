"""Whole sessions over a real websocket: pictures, kept pictures with clicks, live frames."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image
from wire_client import CLICK, HEIGHT, WIDTH, check, frees_everything, metric, open_wire, picture

from streamseg.segmentation.masks import MaskRegion
from streamseg.service.server import Server

STAGES = {"decode", "queue", "segment", "refine", "encode"}


def test_an_image_is_segmented(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            assert wire.socket.subprotocol == "streamseg.v1"
            await wire.start(prompts=[CLICK], request_id="s")
            await wire.frame(request_id="f", timestamp_ms=17.5, index=4, time_s=2.5)
            ready, result, done = [await wire.next() for _ in range(3)]
            for message in (ready, result, done):
                check(message)
            assert (ready["type"], ready["request_id"], ready["version"]) == ("ready", "s", 1)
            assert ready["model"]["name"] == "nano"
            assert ready["limits"]["max_objects"] == 64
            assert (result["type"], result["request_id"], result["timestamp_ms"]) == ("result", "f", 17.5)
            assert (result["index"], result["time_s"], result["dropped"], result["attachments"]) == (4, 2.5, 0, 0)
            assert (result["width"], result["height"]) == (WIDTH, HEIGHT)
            assert set(result["timings_ms"]) == STAGES
            (one,) = result["objects"]
            region = MaskRegion.from_rle(one["rle"])
            assert region.full()[HEIGHT // 2, WIDTH // 2]
            assert not region.full()[0, 0]
            assert one["area_px"] == region.area_px
            assert tuple(one["box_xyxy_px"]) == region.box_xyxy_px
            assert (one["state"], "candidates" in one) == ("tracked", False)
            assert (done["type"], done["frames"], done["dropped"]) == ("done", 1, 0)
            await wire.segment()

    asyncio.run(go())
    assert frees_everything(server)


def test_masks_come_as_asked(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            region = MaskRegion.from_rle((await wire.segment())["objects"][0]["rle"])

            (one,) = (await wire.segment(masks="none"))["objects"]
            assert not {"rle", "polygons"} & set(one)
            assert one["area_px"] == region.area_px

            (one,) = (await wire.segment(masks="polygons"))["objects"]
            assert all(len(line) >= 6 and len(line) % 2 == 0 for line in one["polygons"])

            await wire.start(prompts=[CLICK, CLICK | {"object_id": 7}], masks="png", overlay=True, overlay_quality=60)
            await wire.frame(index=3)
            ready, result, first, second, overlay, done = [await wire.next() for _ in range(6)]
            for message in (ready, result, first, second, overlay, done):
                check(message)
            assert result["attachments"] == 3
            assert "rle" not in result["objects"][0]
            assert [one.get("object_id") for one in (first, second, overlay)] == [1, 7, None]
            assert [one["index"] for one in (first, second, overlay)] == [3, 3, 3]
            mask = np.array(Image.open(io.BytesIO(first["payload"])))
            assert mask.dtype == np.uint8
            assert ((mask == 255) == region.full()).all()
            drawn = Image.open(io.BytesIO(overlay["payload"]))
            assert (drawn.format, drawn.size) == ("JPEG", (WIDTH, HEIGHT))
            assert done["type"] == "done"

    asyncio.run(go())


@pytest.mark.parametrize("masks", ["rle", "png", "polygons"])
def test_an_ambiguous_click_has_candidates(server: Server, masks: str) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(prompts=[CLICK], multimask=True, masks=masks)
            await wire.frame()
            got = await wire.until("done")
            for message in got:
                check(message)
            (one,) = got[1]["objects"]
            others = one["candidates"]
            assert len(others) == 2
            if masks == "png":
                assert [each.get("candidate") for each in got[2:-1]] == [None, 0, 1]
            else:
                assert all(masks in each for each in others)

    asyncio.run(go())


def test_options_of_a_start_reach_the_pipeline(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            (one,) = (await wire.segment(score_threshold=1.0))["objects"]
            assert (one["state"], one["area_px"], one["box_xyxy_px"]) == ("low_score", 0, None)
            whole = (await wire.segment(refine={"min_area_px": 0, "max_hole_px": 0, "smooth_px": 0}))["objects"][0]
            closed = (await wire.segment(refine={"close_px": 9, "largest_only": True}))["objects"][0]
            assert whole["rle"] != closed["rle"]

            deep = np.full((HEIGHT, WIDTH), 1000, dtype=np.uint16)
            deep[12:36, 16:48] = 3000
            buffer = io.BytesIO()
            Image.fromarray(deep).save(buffer, "PNG")
            await wire.start(prompts=[CLICK], window=[900, 3100], overlay=True)
            await wire.frame(buffer.getvalue())
            got = await wire.until("done")
            drawn = np.array(Image.open(io.BytesIO(got[2]["payload"])))
            assert drawn[0, 0].max() < 60

    asyncio.run(go())


def test_a_kept_picture_takes_clicks_until_stop(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(keep=True, overlay=True)
            await wire.expect("ready")
            await wire.frame(request_id="f")
            assert (await wire.expect("result"))["objects"] == []
            await wire.expect("overlay")
            await wire.text(type="prompt", request_id="p1", **CLICK)
            assert await wire.expect("ok") == {"type": "ok", "of": "prompt", "request_id": "p1"}
            first = await wire.expect("result")
            await wire.expect("overlay")
            assert (first["request_id"], len(first["objects"])) == ("p1", 1)
            await wire.text(type="prompt", request_id="p2", object_id=9, box_xyxy_px=[10, 8, 40, 40])
            await wire.expect("ok")
            second = await wire.expect("result")
            await wire.expect("overlay")
            assert [one["object_id"] for one in second["objects"]] == [1, 9]
            assert second["objects"][0]["rle"] == first["objects"][0]["rle"]
            await wire.text(type="remove", object_id=1, request_id="r")
            assert (await wire.expect("ok"))["of"] == "remove"
            await wire.text(type="remove", object_id=1, request_id="r2")
            assert (await wire.expect("error", "not_found"))["request_id"] == "r2"
            await wire.text(type="reset")
            assert (await wire.expect("ok"))["of"] == "reset"
            mask = MaskRegion.from_mask(np.ones((HEIGHT, WIDTH), dtype=bool)).to_rle()
            await wire.text(type="prompt", request_id="p3", object_id=2, mask=mask)
            await wire.expect("ok")
            assert [one["object_id"] for one in (await wire.expect("result"))["objects"]] == [2]
            await wire.expect("overlay")
            await wire.text(type="stop", request_id="e")
            done = await wire.expect("done")
            assert (done["request_id"], done["frames"]) == ("e", 1)

    asyncio.run(go())
    assert frees_everything(server)


def test_the_newest_of_live_frames_wins(server: Server) -> None:
    async def go() -> None:
        sent = 30
        async with open_wire(server) as wire:
            await wire.start("frames", prompts=[CLICK])
            await wire.expect("ready")
            for index in range(sent):
                await wire.frame(timestamp_ms=index)
            await wire.text(type="stop", request_id="e")
            got = await wire.until("done")
            results, done = got[:-1], got[-1]
            for message in got:
                check(message)
            indices = [one["index"] for one in results]
            assert indices == sorted(set(indices))
            assert indices[-1] == sent - 1
            assert [one["timestamp_ms"] for one in results] == indices
            assert done["frames"] == len(results) < sent
            assert done["frames"] + done["dropped"] == sent
            assert results[-1]["dropped"] == done["dropped"]

    asyncio.run(go())


def test_a_live_object_is_added_and_removed_on_the_way(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start("frames")
            await wire.expect("ready")
            await wire.frame()
            assert (await wire.expect("result"))["objects"] == []
            await wire.text(type="prompt", frame=0, **CLICK)
            await wire.expect("ok")
            for _ in range(3):
                await wire.frame()
                assert [one["object_id"] for one in (await wire.expect("result"))["objects"]] == [1]
            await wire.text(type="remove", object_id=1)
            await wire.expect("ok")
            await wire.frame()
            assert (await wire.expect("result"))["objects"] == []
            await wire.text(type="stop")
            assert (await wire.expect("done"))["frames"] == 5

    asyncio.run(go())


def test_a_client_may_send_a_whole_session_without_waiting(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.start(keep=True, prompts=[CLICK])
            await wire.frame(request_id="f")
            await wire.text(type="prompt", request_id="p", **CLICK)
            await wire.text(type="stop", request_id="e")
            got = await wire.until("done")
            assert [(one["type"], one.get("request_id")) for one in got] == [
                ("ready", None),
                ("result", "f"),
                ("ok", "p"),
                ("result", "p"),
                ("done", "e"),
            ]

    asyncio.run(go())


def test_sessions_of_several_clients_run_side_by_side(server: Server) -> None:
    async def one(number: int) -> list[int]:
        async with open_wire(server) as wire:
            results = []
            for _ in range(3):
                await wire.start(prompts=[CLICK | {"object_id": number}])
                await wire.frame(picture(WIDTH + number, HEIGHT))
                result = (await wire.until("done"))[1]
                results += [result["width"], result["objects"][0]["object_id"]]
            return results

    async def go() -> list[list[int]]:
        return list(await asyncio.gather(*(one(number) for number in range(4))))

    assert asyncio.run(go()) == [[WIDTH + number, number] * 3 for number in range(4)]
    assert frees_everything(server)


def test_frames_and_errors_are_counted(server: Server) -> None:
    before = metric(server, "frames_total"), metric(server, "errors_total", code="bad_state")

    async def go() -> None:
        async with open_wire(server) as wire:
            await wire.segment()
            await wire.text(type="stop")
            await wire.expect("error", "bad_state")

    asyncio.run(go())
    after = metric(server, "frames_total"), metric(server, "errors_total", code="bad_state")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert metric(server, "stage_seconds_count", stage="encode") > 0


def test_a_client_without_subprotocols_is_taken(server: Server) -> None:
    async def go() -> None:
        async with open_wire(server, subprotocols=None) as wire:
            assert wire.socket.subprotocol is None
            await wire.segment()

    asyncio.run(go())
