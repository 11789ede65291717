"""The per-frame mode's bookkeeping: what counts on which frame (embedded nano model)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamseg.errors import BadPromptError, BadStateError, NotFoundError, TooLargeError
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Answer
from streamseg.segmentation.embedding import ImageEmbedding, embed
from streamseg.segmentation.image import ImageSegmenter, _Object, _remember, _Said
from streamseg.segmentation.prompts import Prompt, PromptLimits

# Rows and columns of nano's coarse masks.
SIZE = (96, 96)


def scene(x: int, index: int = 0) -> Frame:
    """A red square of 60 pixels at column ``x`` before a grey background."""
    rgb = np.full((160, 240, 3), 90, dtype=np.uint8)
    rgb[50:110, x : x + 60] = (220, 40, 30)
    return Frame(rgb, index)


def click(x: float, y: float, object_id: int = 1, label: int = 1) -> Prompt:
    return Prompt(object_id, points_xy_px=[(x, y)], labels=[label])


def step(segmenter: ImageSegmenter, model: LoadedModel, frame: Frame) -> dict[int, np.ndarray]:
    with model.inference():
        return {one.object_id: one.logits[one.best] for one in segmenter.step(model, frame)}


def test_a_carried_object_is_found_where_it_moved_to(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE, carry=True)
    segmenter.add_prompt(Prompt(1, box_xyxy_px=(40, 50, 100, 110)))
    columns = []
    for index in range(8):
        logits = step(segmenter, model, scene(40 + 6 * index, index))[1]
        columns.append(float(np.nonzero(logits > 0)[1].mean()))
    assert columns[-1] - columns[0] > 0.5 * 42 / 240 * 96


def test_without_carry_the_same_prompt_counts_on_every_frame(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE, carry=False)
    segmenter.add_prompt(Prompt(1, box_xyxy_px=(40, 50, 100, 110)))
    first = step(segmenter, model, scene(40, 0))[1]
    step(segmenter, model, scene(140, 1))
    again = step(segmenter, model, scene(40, 2))[1]
    np.testing.assert_allclose(first, again, atol=1e-4)


def test_a_correction_of_one_object_leaves_the_others_as_they_were(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(click(70, 80, object_id=1))
    segmenter.add_prompt(click(200, 20, object_id=2))
    frame = scene(40)
    before = step(segmenter, model, frame)
    segmenter.add_prompt(click(10, 10, object_id=1, label=0))
    after = step(segmenter, model, frame)
    assert before[2] is after[2] or np.array_equal(before[2], after[2])
    assert not np.array_equal(before[1], after[1])


def test_answers_come_in_the_order_of_the_first_prompts(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    for object_id in (8, 3, 5):
        segmenter.add_prompt(click(70, 80, object_id))
    assert list(step(segmenter, model, scene(40))) == [8, 3, 5]


def test_removed_and_reset_objects_are_gone(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    for object_id in (1, 2, 3):
        segmenter.add_prompt(click(70, 80, object_id))
    segmenter.remove(2)
    assert list(step(segmenter, model, scene(40))) == [1, 3]
    with pytest.raises(NotFoundError, match="no object 2"):
        segmenter.remove(2)
    segmenter.reset()
    assert step(segmenter, model, scene(40)) == {}


def test_replace_starts_the_object_anew(model: LoadedModel) -> None:
    fresh, replaced = ImageSegmenter(SIZE), ImageSegmenter(SIZE)
    frame = scene(40)
    fresh.add_prompt(click(70, 80))
    replaced.add_prompt(click(200, 20))
    step(replaced, model, frame)
    replaced.add_prompt(click(70, 80), replace=True)
    np.testing.assert_allclose(step(fresh, model, frame)[1], step(replaced, model, frame)[1], atol=1e-4)


def test_a_prompt_given_before_the_first_frame_is_reported_if_it_does_not_fit(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(click(5000, 5), tag="the first")
    segmenter.add_prompt(click(70, 80, object_id=2))
    assert list(step(segmenter, model, scene(40))) == [2]
    (rejected,) = segmenter.take_rejected()
    assert (rejected.object_id, rejected.tag) == (1, "the first")
    assert "outside the 240 x 160 frame" in rejected.error.message
    assert segmenter.take_rejected() == []


def test_a_prompt_that_does_not_fit_a_known_frame_changes_nothing(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    step(segmenter, model, scene(40))
    with pytest.raises(BadPromptError, match="outside"):
        segmenter.add_prompt(click(240, 5))
    assert segmenter.object_ids == ()


def test_objects_and_points_are_limited() -> None:
    segmenter = ImageSegmenter(SIZE, limits=PromptLimits(max_objects=1, max_points=2))
    segmenter.add_prompt(click(1, 1))
    segmenter.add_prompt(click(2, 2))
    with pytest.raises(BadPromptError, match="3 points"):
        segmenter.add_prompt(click(3, 3))
    with pytest.raises(BadPromptError, match="1 objects are the limit"):
        segmenter.add_prompt(click(3, 3, object_id=2))


def test_a_mask_prompt_starts_an_object(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    mask = np.zeros((160, 240), dtype=bool)
    mask[50:110, 40:100] = True
    segmenter.add_prompt(Prompt(1, mask=mask))
    logits = step(segmenter, model, scene(40))[1]
    inside = logits[31:65, 17:39] > 0
    assert inside.mean() > 0.6


def test_a_new_box_or_mask_takes_the_former_one_s_place_and_nothing_piles_up(model: LoadedModel) -> None:
    """Without any frame in between: a client could otherwise fill the memory with masks."""
    repeated, once = ImageSegmenter(SIZE), ImageSegmenter(SIZE)
    mask = np.zeros((160, 240), dtype=bool)
    mask[50:110, 40:100] = True
    for _ in range(50):
        repeated.add_prompt(Prompt(1, box_xyxy_px=(0, 0, 20, 20)))
        repeated.add_prompt(Prompt(1, mask=~mask))
    for segmenter in (repeated, once):
        segmenter.add_prompt(Prompt(1, mask=mask))
        segmenter.add_prompt(Prompt(1, box_xyxy_px=(40, 50, 100, 110)))
    assert len(repeated._objects[1].said) == 2
    np.testing.assert_allclose(step(repeated, model, scene(40))[1], step(once, model, scene(40))[1], atol=1e-4)


def test_a_mask_of_another_size_is_refused(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(Prompt(1, mask=np.ones((10, 10), dtype=bool)))
    assert step(segmenter, model, scene(40)) == {}
    assert "must be (160, 240)" in segmenter.take_rejected()[0].error.message


def answer(area_cells: int, score: float) -> Answer:
    logits = np.full((1, 96, 96), -5.0, dtype=np.float32)
    logits.reshape(-1)[:area_cells] = 5.0
    return Answer(1, logits, np.array([score], dtype=np.float32), 0)


@pytest.mark.parametrize(
    ("area_cells", "score", "lost"),
    [
        (110, 0.8, False),
        (290, 0.8, False),
        (310, 0.8, True),
        (30, 0.8, False),
        (20, 0.8, True),
        (0, 0.8, True),
        (100, 0.59, True),
        (100, 0.61, False),
    ],
)
def test_a_carried_mask_that_jumps_or_loses_its_score_is_lost_and_the_former_one_kept(
    area_cells: int, score: float, lost: bool
) -> None:
    """The object was prompted with 100 cells and a score of 0.8; what the model says of the next frame is given."""
    known, frame, later = _Object(1), scene(40, 0), scene(40, 1)
    _remember(known, [_Said((), (), (0, 0, 9, 9), None, None, None)], answer(100, 0.8), frame)
    _remember(known, [], answer(area_cells, score), later)
    assert known.answer is not None
    assert known.answer.lost == lost
    assert known.prior_frame is (frame if lost else later)


def test_a_lost_object_is_picked_up_when_it_is_as_it_was() -> None:
    known = _Object(1)
    _remember(known, [_Said((), (), (0, 0, 9, 9), None, None, None)], answer(100, 0.8), scene(40, 0))
    states = []
    for index, area_cells in enumerate((100, 4, 2000, 110), start=1):
        _remember(known, [], answer(area_cells, 0.8), scene(40, index))
        assert known.answer is not None
        states.append(known.answer.lost)
    assert states == [False, True, True, False]


def test_a_box_that_comes_during_the_work_counts_on_the_next_step(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(Prompt(1, box_xyxy_px=(40, 50, 100, 110)))
    frame = scene(40)
    expected = step(segmenter, model, frame)[1]

    late = ImageSegmenter(SIZE)
    late.add_prompt(Prompt(1, box_xyxy_px=(40, 50, 100, 110)))

    def embed_while_someone_draws(*given: Any) -> ImageEmbedding:
        late.add_prompt(Prompt(1, box_xyxy_px=(150, 10, 200, 40)))
        return embed(*given)

    monkeypatch.setattr("streamseg.segmentation.image.embed", embed_while_someone_draws)
    assert np.allclose(step(late, model, frame)[1], expected, atol=1e-4)
    assert not np.allclose(step(late, model, frame)[1], expected, atol=1e-1)


def test_many_objects_on_a_large_frame_are_refused_before_they_fill_the_memory(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE, limits=PromptLimits(max_mask_pixels=2 * 160 * 240))
    for object_id in (1, 2, 3):
        segmenter.add_prompt(click(70, 80, object_id))
    with pytest.raises(TooLargeError, match="3 objects on a 240 x 160 frame"):
        step(segmenter, model, scene(40))
    segmenter.remove(2)
    assert list(step(segmenter, model, scene(40))) == [1, 3]


def box(object_id: int = 1) -> Prompt:
    """Around the square of ``scene(40)``."""
    return Prompt(object_id, box_xyxy_px=(40, 50, 100, 110))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum())


def test_without_prompts_there_is_nothing_to_take_back(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    with pytest.raises(BadStateError, match="no prompt left"):
        segmenter.undo()
    segmenter.add_prompt(box())
    segmenter.reset()
    with pytest.raises(BadStateError):
        segmenter.undo()


def test_a_prompt_that_waits_is_taken_back(model: LoadedModel) -> None:
    plain, undone = ImageSegmenter(SIZE), ImageSegmenter(SIZE)
    for segmenter in (plain, undone):
        segmenter.add_prompt(box())
    undone.add_prompt(click(70, 60, label=0))
    assert undone.undo() == 1
    for index in range(2):
        frame = scene(40 + 6 * index, index)
        np.testing.assert_array_equal(step(plain, model, frame)[1], step(undone, model, frame)[1])


def test_a_carried_object_goes_on_from_the_mask_before_the_prompt_that_was_taken_back(model: LoadedModel) -> None:
    plain, undone = ImageSegmenter(SIZE), ImageSegmenter(SIZE)
    for segmenter in (plain, undone):
        segmenter.add_prompt(box())
        step(segmenter, model, scene(40, 0))
    frame = scene(46, 1)
    before = step(plain, model, frame)[1]
    step(undone, model, frame)
    undone.add_prompt(click(70, 60, label=0))
    assert iou(step(undone, model, frame)[1], before) < 0.95
    assert undone.undo() == 1
    expected = step(plain, model, scene(52, 2))[1]
    np.testing.assert_allclose(step(undone, model, scene(52, 2))[1], expected, atol=1e-4)


def test_on_the_same_frame_the_mask_is_again_what_it_was_before_the_prompt(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(box())
    step(segmenter, model, scene(40, 0))
    frame = scene(46, 1)
    before = step(segmenter, model, frame)[1]
    segmenter.add_prompt(click(70, 60, label=0))
    assert iou(step(segmenter, model, frame)[1], before) < 0.95
    assert segmenter.undo() == 1
    assert iou(step(segmenter, model, frame)[1], before) > 0.97


def test_without_carry_the_prompts_that_are_left_count(model: LoadedModel) -> None:
    plain, undone = ImageSegmenter(SIZE, carry=False), ImageSegmenter(SIZE, carry=False)
    for segmenter in (plain, undone):
        segmenter.add_prompt(click(70, 80))
        step(segmenter, model, scene(40, 0))
    undone.add_prompt(click(200, 80))
    step(undone, model, scene(40, 1))
    assert undone.undo() == 1
    expected = step(plain, model, scene(40, 2))[1]
    np.testing.assert_allclose(step(undone, model, scene(40, 2))[1], expected, atol=1e-4)


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("seen", [True, False])
def test_a_box_that_took_the_former_one_s_place_gives_it_back(model: LoadedModel, seen: bool, carry: bool) -> None:
    """``seen``: there were frames after each of the boxes."""
    segmenter = ImageSegmenter(SIZE, carry=carry)
    segmenter.add_prompt(box())
    if seen:
        step(segmenter, model, scene(40, 0))
    segmenter.add_prompt(Prompt(1, box_xyxy_px=(150, 10, 220, 40)))
    if seen:
        step(segmenter, model, scene(40, 1))
    assert segmenter.undo() == 1
    fresh = ImageSegmenter(SIZE)
    fresh.add_prompt(box())
    found = step(segmenter, model, scene(40, 2))
    assert list(found) == [1]
    assert iou(found[1], step(fresh, model, scene(40, 2))[1]) > 0.9


def test_an_object_whose_first_prompt_is_taken_back_is_gone(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(box(1))
    segmenter.add_prompt(click(200, 20, object_id=2))
    frame = scene(40)
    before = step(segmenter, model, frame)
    assert segmenter.undo() == 2
    assert segmenter.object_ids == (1,)
    after = step(segmenter, model, frame)
    assert list(after) == [1]
    np.testing.assert_array_equal(after[1], before[1])
    assert segmenter.undo() == 1
    assert step(segmenter, model, frame) == {}
    with pytest.raises(BadStateError):
        segmenter.undo()


def test_prompts_of_removed_and_replaced_objects_are_passed_over(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    for object_id in (1, 2, 3):
        segmenter.add_prompt(box(object_id))
    segmenter.remove(3)
    segmenter.add_prompt(click(70, 80, object_id=1), replace=True)
    assert list(step(segmenter, model, scene(40))) == [1, 2]
    assert [segmenter.undo(), segmenter.undo()] == [1, 2]
    with pytest.raises(BadStateError):
        segmenter.undo()
