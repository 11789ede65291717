"""A source through the pipeline: order, prompts on their frames, holding, back-pressure, endings (embedded nano)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from streamseg.engine import Engine
from streamseg.errors import UnsupportedMediaError
from streamseg.media.frame import Frame
from streamseg.media.sampling import Choice
from streamseg.models.build import LoadedModel
from streamseg.pipeline import Pipeline
from streamseg.segmentation.prompts import Prompt
from streamseg.streaming import FRAMES_AHEAD, FRAMES_IN_WORK, segment_stream


def scene(index: int) -> Frame:
    rgb = np.full((80, 120, 3), 90, dtype=np.uint8)
    rgb[25:55, 20 + 2 * index : 50 + 2 * index] = (220, 40, 30)
    return Frame(rgb, index, index / 10)


def chosen(count: int, choice: Choice = Choice.SEGMENT) -> Iterator[tuple[Frame, Choice]]:
    for index in range(count):
        yield scene(index), choice


def box(object_id: int, frame: int) -> Prompt:
    x = 20 + 2 * frame
    return Prompt(object_id, frame, box_xyxy_px=(x, 25, x + 30, 55))


def threads() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith(("streamseg-decode", "streamseg-finish"))}


def test_results_come_in_order_with_their_frames(pipeline: Pipeline) -> None:
    results = list(segment_stream(pipeline, chosen(9), [box(1, 0)]))
    assert [(frame.index, result.index) for frame, result in results] == [(index, index) for index in range(9)]
    assert [result.time_s for _, result in results] == [index / 10 for index in range(9)]
    assert all(result.objects[0].state == "tracked" for _, result in results)
    assert threads() == set()


def test_it_gives_what_frame_by_frame_gives(engine: Engine, pipeline: Pipeline) -> None:
    one_by_one = Pipeline(engine)
    one_by_one.add_prompt(box(1, 0))
    for frame, result in segment_stream(pipeline, chosen(6), [box(1, 0)]):
        assert np.array_equal(result.objects[0].mask, one_by_one.process(frame).objects[0].mask)


def test_each_prompt_counts_from_its_own_frame_and_all_objects_are_always_listed(pipeline: Pipeline) -> None:
    results = [result for _, result in segment_stream(pipeline, chosen(8), [box(7, 5), box(2, 0)])]
    assert all([one.object_id for one in result.objects] == [7, 2] for result in results)
    states = [[one.state for one in result.objects] for result in results]
    assert states[:5] == [["lost", "tracked"]] * 5
    assert states[5:] == [["tracked", "tracked"]] * 3


def test_a_prompt_whose_frame_was_left_out_counts_from_the_next_one(pipeline: Pipeline) -> None:
    frames = ((scene(index), Choice.SEGMENT) for index in (0, 4, 8))
    states = [result.objects[0].state for _, result in segment_stream(pipeline, frames, [box(1, 3)])]
    assert states == ["lost", "tracked", "tracked"]


def test_held_frames_have_the_last_masks_and_are_marked(pipeline: Pipeline) -> None:
    choices = [Choice.HOLD, Choice.SEGMENT, Choice.HOLD, Choice.HOLD, Choice.SEGMENT]
    frames = ((scene(index), choice) for index, choice in enumerate(choices))
    results = [result for _, result in segment_stream(pipeline, frames, [box(1, 1)])]
    assert [result.held for result in results] == [True, False, True, True, False]
    assert [result.index for result in results] == list(range(5))
    assert results[0].objects[0].state == "lost"
    assert results[3].objects == results[1].objects
    assert results[3].to_json()["held"] is True
    assert "held" not in results[4].to_json()


def test_a_source_that_fails_ends_the_stream_after_what_it_gave(pipeline: Pipeline) -> None:
    def broken() -> Iterator[tuple[Frame, Choice]]:
        yield from chosen(5)
        raise UnsupportedMediaError("damaged")

    stream = segment_stream(pipeline, broken(), [box(1, 0)])
    assert next(stream)[1].index == 0
    with pytest.raises(UnsupportedMediaError, match="damaged"):
        list(stream)
    assert threads() == set()


def test_a_slow_reader_slows_the_source_down(pipeline: Pipeline) -> None:
    given: list[int] = []

    def counted() -> Iterator[tuple[Frame, Choice]]:
        for pair in chosen(40):
            given.append(pair[0].index)
            yield pair

    stream = segment_stream(pipeline, counted(), [box(1, 0)])
    next(stream)
    time.sleep(0.5)
    # One more is held by the thread, and one by the loop.
    assert len(given) <= 1 + FRAMES_AHEAD + FRAMES_IN_WORK + 2
    stream.close()


def test_a_live_source_is_asked_for_a_frame_only_when_the_one_before_is_done(pipeline: Pipeline) -> None:
    given: list[int] = []

    def counted() -> Iterator[tuple[Frame, Choice]]:
        for pair in chosen(6):
            given.append(pair[0].index)
            yield pair

    stream = segment_stream(pipeline, counted(), [box(1, 0)], live=True)
    for index in range(6):
        assert next(stream)[1].index == index
        assert given == list(range(index + 1))
    assert list(stream) == []
    assert threads() == set()


def test_closing_early_ends_the_threads_and_closes_the_source(pipeline: Pipeline) -> None:
    closed = threading.Event()

    def watched() -> Iterator[tuple[Frame, Choice]]:
        try:
            yield from chosen(1000)
        finally:
            closed.set()

    stream = segment_stream(pipeline, watched(), [box(1, 0)])
    next(stream)
    stream.close()
    assert closed.is_set()
    assert threads() == set()


def test_a_full_engine_queue_is_waited_for(model: LoadedModel) -> None:
    engine = Engine(model, queue_length=1)
    pipelines = [Pipeline(engine) for _ in range(3)]
    counts: list[int] = []

    def run(pipeline: Pipeline) -> None:
        counts.append(len(list(segment_stream(pipeline, chosen(6), [box(1, 0)]))))

    workers = [threading.Thread(target=run, args=(pipeline,)) for pipeline in pipelines]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    engine.close()
    assert counts == [6, 6, 6]
