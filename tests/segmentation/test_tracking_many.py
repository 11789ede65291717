"""Many objects in one batch, for long, in bounded memory (embedded nano)."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass

import pytest
import torch

from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Logits
from streamseg.segmentation.memory import MemoryRule
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import (
    BLUE,
    RED,
    ROUNDING,
    again,
    blue_xy,
    box_red,
    click,
    click_blue,
    difference,
    follow,
    green_xy,
    mask_green,
    only,
    red_box,
    scene,
    step,
)


def everything(number: int) -> list[Prompt]:
    """Seven objects by box, click and mask that join on different frames; three are prompted again later.

    What is alike in what it remembers is not side by side: the first and the third, with the second in between.
    """
    prompts = [
        box_red(0),
        click_blue(0),
        click(4, 0, 40, 40),
        mask_green(2),
        Prompt(5, 3, box_xyxy_px=(150, 80, 230, 150)),
        click(6, 5, *green_xy(5)),
        Prompt(7, 5, box_xyxy_px=(20, 5, 90, 70)),
        Prompt(BLUE, 4, points_xy_px=[blue_xy(4), (20, 20)], labels=[1, 0]),
        Prompt(RED, 6, box_xyxy_px=red_box(6)),
        Prompt(4, 7, box_xyxy_px=red_box(7)),
    ]
    return [one for one in prompts if one.frame == number]


def follow_all(model: LoadedModel, wanted: Collection[int]) -> list[dict[int, Logits]]:
    tracker = Tracker(model.image_size)
    prompts = [one for number in range(9) for one in everything(number) if one.object_id in wanted]
    found = follow(tracker, model, range(9), prompts)
    assert tracker.take_rejected() == []
    return found


@pytest.fixture(scope="module")
def alone(small: LoadedModel) -> dict[int, list[dict[int, Logits]]]:
    """Every object with a tracker of its own."""
    return {name: follow_all(small, [name]) for name in range(1, 8)}


@pytest.mark.parametrize("batch", [32, 2])
def test_a_batch_gives_what_each_object_gets_on_its_own(
    small: LoadedModel, batch: int, alone: dict[int, list[dict[int, Logits]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one and two conditioning frames in one step; ``batch``: most objects in one call of the model."""
    monkeypatch.setattr("streamseg.segmentation.track_step.OBJECTS_PER_BATCH", batch)
    together = follow_all(small, range(1, 8))
    assert sorted(together[-1]) == sorted(alone)
    for name, expected in alone.items():
        assert difference(expected, only(together, name)) <= ROUNDING


def tensors(thing: object) -> Iterator[torch.Tensor]:
    """All that a memory holds, however deep."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, tuple | list):
        for part in thing:
            yield from tensors(part)
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from tensors(getattr(thing, field.name))


def kept(tracker: Tracker) -> dict[int, list[torch.Tensor]]:
    """The tensors that each object remembers."""
    return {
        name: list(tensors([*one.bank.conditioning.values(), *one.bank.recent.values()]))
        for name, one in tracker._objects.items()
    }


def alive() -> int:
    gc.collect()
    return sum(type(one) is torch.Tensor for one in gc.get_objects())


@pytest.mark.parametrize("select", [False, True])
def test_what_is_remembered_does_not_grow(small: LoadedModel, select: bool) -> None:
    """With a correction now and then and one that is taken back."""
    options = TrackOptions(max_conditioning_frames=3, correction_window_frames=4, select_memories=select)
    tracker = Tracker(small.image_size, options)
    counts = []
    for number in range(61):
        # The clip runs back and forth, so that the objects stay in the picture.
        place = 15 - abs(15 - number % 30)
        frame = scene(place, index=number)
        step(tracker, small, frame, [one for one in (box_red(0), click_blue(3)) if one.frame == number])
        if number % 10 == 8:
            x1, y1, x2, y2 = red_box(place)
            tracker.add_prompt(click(RED, number, (x1 + x2) / 2, (y1 + y2) / 2))
            again(tracker, small)
            tracker.add_prompt(click(BLUE, number - 1, 20, 150, label=0))
            tracker.undo()
            tracker.add_prompt(click(BLUE, number - 1, 20, 150, label=0))
            again(tracker, small)
            tracker.undo()
        if number in (40, 50, 60):
            memories = kept(tracker)
            assert list(memories) == [RED, BLUE]
            told = sum(len(spoken.told) for one in tracker._objects.values() for spoken in one.spoken.values())
            counts.append((len(tracker._window), {name: len(found) for name, found in memories.items()}, told, alive()))
    assert counts[0][0] == 4
    assert counts[0] == counts[1] == counts[2]


def test_a_memory_does_not_keep_the_whole_batch_alive(small: LoadedModel) -> None:
    """Each is a tensor of its own: a slice would hold what other objects have long forgotten."""
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(4), [box_red(0), click_blue(0), mask_green(1)])
    memories = kept(tracker)
    assert [len(found) >= 9 for found in memories.values()] == [True] * 3
    for tensor in (one for found in memories.values() for one in found):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_conditioning_frames_are_capped_and_the_first_and_the_newest_stay(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size, TrackOptions(max_conditioning_frames=3))
    seen = []
    for number in range(12):
        prompts = [Prompt(RED, number, box_xyxy_px=red_box(number))] if number % 2 == 0 else []
        step(tracker, small, scene(number), prompts)
        seen.append(list(tracker._objects[RED].bank.conditioning))
    assert seen[4] == [0, 2, 4]
    assert seen[6] == [0, 4, 6]
    assert seen[-1] == [0, 8, 10]
    assert max(len(one) for one in seen) == 3
    # One that had to leave is a frame like any other.
    assert {1, 2, 3, 4, 5, 6, 7} <= set(tracker._objects[RED].bank.recent)


def test_to_select_memories_changes_nothing_while_all_are_good(small: LoadedModel) -> None:
    plain = Tracker(small.image_size)
    choosy = Tracker(small.image_size, TrackOptions(select_memories=True))
    expected = follow(plain, small, range(12), [box_red(0), click_blue(0)])
    found = follow(choosy, small, range(12), [box_red(0), click_blue(0)])
    assert all(one.reliable for thing in choosy._objects.values() for one in thing.bank.recent.values())
    assert difference(expected, found) <= ROUNDING


def test_to_select_memories_passes_over_frames_without_the_object(model: LoadedModel) -> None:
    """After frames on which it was away, the plain tracker remembers little but these."""
    trackers = [Tracker(model.image_size, TrackOptions(select_memories=select)) for select in (False, True)]
    attended = []
    for tracker in trackers:
        follow(tracker, model, range(8), [box_red(0)])
        for number in range(8, 12):
            answers = step(tracker, model, scene(number, without=[RED]))
        assert answers[RED].lost
        bank = tracker._objects[RED].bank
        places = {id(memory): number for number, memory in bank.recent.items()}
        rule = MemoryRule.of(model.predictor, tracker is trackers[1])
        attended.append([places[id(memory)] for place, memory in bank.attended(12, rule).masks if place > 0])
    assert attended == [[6, 7, 8, 9, 10, 11], [3, 4, 5, 6, 7, 11]]
    back = [follow(tracker, model, range(12, 15)) for tracker in trackers]
    assert difference(*back) > 0
