"""Several say something about the objects of one stream: whose is what (embedded nano)."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.errors import BadStateError, ObjectTakenError
from streamseg.models.build import LoadedModel
from streamseg.segmentation.image import ImageSegmenter
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.tracking import Tracker
from tests.segmentation import test_image
from tests.segmentation.moving import (
    BLUE,
    GREEN,
    RED,
    ROUNDING,
    again,
    blue_xy,
    box_red,
    click,
    click_blue,
    difference,
    follow,
    mask_green,
    red_box,
)
from tests.segmentation.test_image import SIZE, box, iou, step
from tests.segmentation.test_image import click as click_square


@pytest.fixture(params=["image", "track"])
def segmenter(request: pytest.FixtureRequest, small: LoadedModel) -> Segmenter:
    return ImageSegmenter(SIZE) if request.param == "image" else Tracker(small.image_size)


def test_nobody_takes_back_what_another_one_said(segmenter: Segmenter) -> None:
    segmenter.add_prompt(box_red(), author="one")
    segmenter.add_prompt(click_blue(), author="other")
    assert segmenter.undo("one") == RED
    assert segmenter.object_ids == (BLUE,)
    for author in ("one", "third", None):
        with pytest.raises(BadStateError, match="no prompt left"):
            segmenter.undo(author)
    assert segmenter.undo("other") == BLUE
    assert segmenter.object_ids == ()


def test_an_object_of_one_s_own_is_new_or_made_by_oneself(segmenter: Segmenter) -> None:
    segmenter.add_prompt(box_red(), author="one", own=True)
    segmenter.add_prompt(click(RED, 0, 30, 30), author="one", own=True)
    with pytest.raises(ObjectTakenError, match="object 1 was made by somebody else"):
        segmenter.add_prompt(click(RED, 0, 100, 100), author="other", own=True)
    segmenter.add_prompt(click(RED, 0, 30, 30), replace=True, author="other")
    segmenter.add_prompt(click(RED, 0, 30, 30), author="one", own=True)
    segmenter.remove(RED)
    segmenter.add_prompt(click(RED, 0, 30, 30), author="other", own=True)
    # Neither a refused prompt nor one for a removed object is there to be taken back.
    assert segmenter.undo("other") == RED
    for author in ("one", "other"):
        with pytest.raises(BadStateError):
            segmenter.undo(author)


@pytest.mark.parametrize("rerun", [True, False])
def test_the_tracker_gives_the_masks_that_would_be_without_what_one_of_two_said(
    small: LoadedModel, rerun: bool
) -> None:
    """On one frame and on two, while both can be corrected."""
    expected = Tracker(small.image_size)
    tracker = Tracker(small.image_size)
    other = click(RED, 4, 50, 20)
    for one in (expected, tracker):
        follow(one, small, range(4), (box_red(0), click_blue(0)))
    tracker.add_prompt(click(RED, 3, *blue_xy(3)), author="one")
    follow(tracker, small, range(4, 5))
    follow(expected, small, range(4, 5))
    for one in (expected, tracker):
        one.add_prompt(other, author="other")
        again(one, small)
    assert tracker.undo("one") == RED
    if rerun:
        again(tracker, small)
    assert difference(follow(expected, small, range(5, 8)), follow(tracker, small, range(5, 8))) <= ROUNDING


def test_what_another_one_began_anew_is_not_for_the_former_to_take_back(small: LoadedModel) -> None:
    tracker = Tracker(small.image_size)
    tracker.add_prompt(box_red(), author="one")
    follow(tracker, small, range(2))
    tracker.add_prompt(Prompt(RED, 1, box_xyxy_px=red_box(1)), replace=True, author="other")
    follow(tracker, small, range(2, 3))
    with pytest.raises(BadStateError):
        tracker.undo("one")
    tracker.add_prompt(mask_green(2), author="one")
    assert tracker.undo("one") == GREEN


def scene(index: int) -> test_image.Frame:
    return test_image.scene(40 + 6 * index, index)


def test_a_carried_object_goes_on_when_one_who_spoke_before_another_takes_that_back(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    segmenter.add_prompt(box(), author="one")
    step(segmenter, model, scene(0))
    segmenter.add_prompt(click_square(76, 80), author="other")
    seen = step(segmenter, model, scene(1))[1]
    assert segmenter.undo("one") == 1
    assert iou(step(segmenter, model, scene(2))[1], seen) > 0.6
    # Nothing is left of it once both are gone.
    assert segmenter.undo("other") == 1
    assert segmenter.object_ids == ()


def test_a_box_that_was_taken_back_does_not_come_back_with_another(model: LoadedModel) -> None:
    segmenter = ImageSegmenter(SIZE)
    far = Prompt(1, box_xyxy_px=(150, 10, 220, 40))
    segmenter.add_prompt(box(), author="first")
    segmenter.add_prompt(far, author="second")
    segmenter.add_prompt(box(), author="third")
    assert segmenter.undo("second") == 1
    assert segmenter.undo("third") == 1
    found = step(segmenter, model, scene(0))[1]
    fresh = ImageSegmenter(SIZE)
    fresh.add_prompt(box())
    np.testing.assert_array_equal(found, step(fresh, model, scene(0))[1])
    assert segmenter.undo("first") == 1
    assert segmenter.object_ids == ()
