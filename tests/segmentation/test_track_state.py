"""Saving what a tracker remembers and going on from it (nano at 160 px, and a random hiera-tiny)."""

from __future__ import annotations

import pytest

from streamseg.errors import BadStateError
from streamseg.models.build import LoadedModel
from streamseg.segmentation.track_state import from_bytes
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import ROUNDING, box_red, click_blue, difference, follow, mask_green

PROMPTS = [box_red(0), click_blue(2), mask_green(4)]


@pytest.mark.parametrize("name", ["small", "random_tiny"])
def test_a_restored_tracker_gives_the_masks_that_the_saved_one_goes_on_to_give(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: LoadedModel = request.getfixturevalue(name)
    tracker, other = Tracker(model.image_size), Tracker(model.image_size)
    follow(tracker, model, range(9), PROMPTS)
    other.restore(model, tracker.save(model))
    assert other.object_ids == tracker.object_ids == (1, 2, 3)
    assert difference(follow(other, model, range(9, 16)), follow(tracker, model, range(9, 16))) < ROUNDING


def test_objects_can_be_added_after_restoring(small: LoadedModel) -> None:
    tracker, other = Tracker(small.image_size), Tracker(small.image_size)
    follow(tracker, small, range(4), [box_red(0)])
    other.restore(small, tracker.save(small))
    frames = follow(other, small, range(4, 8), [click_blue(5)])
    assert [sorted(frame) for frame in frames] == [[1], [1, 2], [1, 2], [1, 2]]


def test_the_state_does_not_grow_with_the_stream(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(26), [box_red(0)])
    size = len(tracker.save(small))
    follow(tracker, small, [*range(26, 30), *range(29, 10, -1)])
    assert abs(len(tracker.save(small)) - size) < 200


def test_a_tracker_without_objects_can_be_saved(small: LoadedModel) -> None:
    other = Tracker(small.image_size)
    other.restore(small, Tracker(small.image_size).save(small))
    assert other.object_ids == ()


def test_a_state_of_another_model_is_refused_and_changes_nothing(small: LoadedModel, random_tiny: LoadedModel) -> None:
    tracker, other = Tracker(small.image_size), Tracker(random_tiny.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    follow(other, random_tiny, range(2), [box_red(0)])
    with pytest.raises(BadStateError, match=r"saved with nano at 160 px; this is sam2\.1-hiera-tiny at 96 px"):
        other.restore(random_tiny, tracker.save(small))
    assert other.object_ids == (1,)


def test_what_is_no_state_is_refused(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    follow(tracker, small, range(2), [box_red(0)])
    whole = tracker.save(small)
    for data in (b"", b"x" * 100, b"\xff" * 40, whole[: len(whole) // 2], whole[:20], whole[8:]):
        with pytest.raises(BadStateError):
            from_bytes(data)
