"""The path of a frame, blocking and asynchronous (embedded nano model)."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest

from streamseg.engine import Engine
from streamseg.errors import BadStateError, CancelledWorkError, UnsupportedMediaError
from streamseg.media.frame import Frame
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.masks import FrameResult
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.refine import RefineOptions

BOX = Prompt(1, box_xyxy_px=(40, 50, 100, 110))


def scene(index: int = 0) -> Frame:
    rgb = np.full((160, 240, 3), 90, dtype=np.uint8)
    rgb[50:110, 40:100] = (220, 40, 30)
    return Frame(rgb, index, index / 7)


def test_a_frame_comes_out_as_a_result_of_its_size_with_its_time(pipeline: Pipeline) -> None:
    pipeline.add_prompt(BOX)
    result = pipeline.process(scene(3))
    assert (result.index, result.time_s, result.width, result.height) == (3, 3 / 7, 240, 160)
    (one,) = result.objects
    assert one.object_id == 1
    assert one.state == "tracked"
    assert one.mask.shape == (160, 240)
    assert one.mask.dtype == bool
    assert one.area_px == int(one.mask.sum())
    truth = np.zeros((160, 240), dtype=bool)
    truth[50:110, 40:100] = True
    assert (one.mask & truth).sum() / (one.mask | truth).sum() > 0.6
    assert set(result.timings_ms) == {"decode", "queue", "segment", "refine"}


def test_a_frame_without_objects_is_a_result_without_objects(pipeline: Pipeline) -> None:
    assert pipeline.process(scene()).objects == ()


def test_blocking_and_asynchronous_give_the_same(engine: Engine, pipeline: Pipeline) -> None:
    other = Pipeline(engine)
    for one in (pipeline, other):
        one.add_prompt(BOX)
    frame = scene()
    blocking = pipeline.process(frame)
    threads: list[int] = []

    def load() -> Frame:
        threads.append(threading.get_ident())
        return frame

    def finish(given: Frame, result: FrameResult) -> FrameResult:
        assert given is frame
        threads.append(threading.get_ident())
        return result

    result = asyncio.run(other.run(load, finish))
    assert np.array_equal(result.objects[0].mask, blocking.objects[0].mask)
    assert threading.get_ident() not in threads, "decoding and encoding must not hold up the event loop"


def test_a_rerun_takes_new_prompts_and_keeps_the_embedding(pipeline: Pipeline) -> None:
    async def session() -> tuple[FrameResult, FrameResult]:
        first = await pipeline.run(scene, lambda _, result: result)
        pipeline.add_prompt(BOX)
        return first, await pipeline.rerun(lambda _, result: result)

    first, second = asyncio.run(session())
    assert first.objects == ()
    assert [one.object_id for one in second.objects] == [1]
    assert second.index == first.index


def test_a_rerun_before_any_frame_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(BadStateError):
        asyncio.run(pipeline.rerun(lambda _, result: result))


def test_a_frame_that_cannot_be_loaded_fails_by_itself(pipeline: Pipeline) -> None:
    def load() -> Frame:
        raise UnsupportedMediaError("not a picture")

    with pytest.raises(UnsupportedMediaError):
        asyncio.run(pipeline.run(load, lambda _, result: result))
    assert pipeline.process(scene()).index == 0


def test_multimask_gives_the_other_readings_and_the_best_as_the_mask(engine: Engine) -> None:
    pipeline = Pipeline(engine, StreamOptions(multimask=True, refine=RefineOptions.NONE))
    pipeline.add_prompt(Prompt(1, points_xy_px=[(70, 80)], labels=[1]))
    (one,) = pipeline.process(scene()).objects
    assert len(one.candidates) == 2
    assert one.score >= max(candidate.score for candidate in one.candidates)
    assert all(candidate.mask.shape == (160, 240) for candidate in one.candidates)


def test_a_low_score_is_said_and_its_mask_is_empty(engine: Engine) -> None:
    pipeline = Pipeline(engine, StreamOptions(score_threshold=1.0))
    pipeline.add_prompt(BOX)
    (one,) = pipeline.process(scene()).objects
    assert one.state == "low_score"
    assert not one.mask.any()
    assert one.box_xyxy_px is None
    assert 0 < one.score < 1


def test_a_closed_stream_takes_no_frame_and_holds_none(engine: Engine) -> None:
    pipeline = Pipeline(engine)
    pipeline.add_prompt(BOX)
    frame = scene()
    pixels = weakref.ref(frame.rgb)
    pipeline.process(frame)
    pipeline.close()
    with pytest.raises(CancelledWorkError):
        pipeline.process(frame)
    del frame
    gc.collect()
    assert pixels() is None


def test_a_hundred_frames_leave_nothing_behind(engine: Engine, pipeline: Pipeline) -> None:
    """Counts what is alive: frames and tensors of former frames must be gone."""
    import torch

    pipeline.add_prompt(BOX)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    for index in range(5):
        pipeline.process(scene(index))
    before = tensors()
    for index in range(5, 40):
        pipeline.process(scene(index))
    assert tensors() <= before
