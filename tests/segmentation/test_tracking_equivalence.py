"""The tracker's masks are those of ``sam2``'s ``SAM2VideoPredictor`` driven causally.

With the embedded nano on small pictures, and with a randomly initialised ``sam2.1-hiera-tiny``: its own weights would
have to be downloaded. ``benchmarks/tracking_equivalence.py`` compares on a recording and at nano's full size.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Logits
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.tracking import Tracker
from tests.benchmark_module import load_benchmark
from tests.segmentation.moving import (
    APART,
    BLUE,
    GREEN,
    RED,
    again,
    blue_xy,
    box_red,
    click,
    click_blue,
    difference,
    follow,
    green_xy,
    mask_green,
    scene,
    step,
)

LIMIT = 1e-3
FRAMES = 26


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return load_benchmark("reference_tracker")


def prompts() -> list[Prompt]:
    """Three objects that join at different frames and are prompted again, in two ways on one frame too."""
    x, y = blue_xy(13)
    return [
        box_red(0),
        click(RED, 0, 60, 60),
        click_blue(3),
        click(BLUE, 3, 100, 30, label=0),
        mask_green(5),
        click(GREEN, 5, *green_xy(5)),
        Prompt(RED, 9, points_xy_px=[(60, 40), (200, 120)], labels=[1, 0]),
        Prompt(BLUE, 13, box_xyxy_px=(x - 28, y - 28, x + 28, y + 28)),
    ]


def corrections() -> list[Prompt]:
    """Of frames that were tracked already: by click inside and outside the object, and by a mask."""
    return [
        click(GREEN, 10, *green_xy(10)),
        Prompt(RED, 15, points_xy_px=[(80, 40), (30, 120)], labels=[1, 0]),
        mask_green(17),
        click(BLUE, 19, 20, 20, label=0),
    ]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("which", ["small", "random_tiny"])
def test_masks_are_those_of_the_reference(
    which: str,
    keep: bool,
    reference: ModuleType,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: LoadedModel = request.getfixturevalue(which)
    monkeypatch.setattr(model.predictor, "add_all_frames_to_correct_as_cond", keep)
    frames = [scene(number) for number in range(FRAMES)]
    with model.inference():
        wanted = [found for _, found in reference.CausalReference(model, frames).run(prompts(), corrections())]

    tracker = Tracker(model.image_size, TrackOptions(keep_corrections=keep))
    got: list[dict[int, Logits]] = []
    for frame in frames:
        answers = step(tracker, model, frame, [one for one in prompts() if one.frame == frame.index])
        due = [one for one in corrections() if one.frame == frame.index]
        for correction in due:
            tracker.add_prompt(correction)
        if due:
            answers = step(tracker, model, frame)
        got.append({name: one.logits[0] for name, one in answers.items()})
    assert tracker.take_rejected() == []
    assert list(got[-1]) == [RED, BLUE, GREEN]
    assert difference(got, [{name: one.numpy() for name, one in frame.items()} for frame in wanted]) <= LIMIT


def test_a_correction_that_is_not_kept_makes_other_masks_later(small: LoadedModel) -> None:
    """Were both values of ``keep_corrections`` the same, equivalence in both would prove nothing."""
    runs = []
    for keep in (True, False):
        tracker = Tracker(small.image_size, TrackOptions(keep_corrections=keep))
        follow(tracker, small, range(4), [box_red(0)])
        tracker.add_prompt(click(RED, 3, 30, 120, label=0))
        runs.append(follow(tracker, small, range(4, 6)))
    assert difference(*runs) > APART


def test_a_correction_of_a_conditioning_frame_is_kept_either_way(small: LoadedModel) -> None:
    """The reference forgets it where ``add_all_frames_to_correct_as_cond`` is off."""
    plain = Tracker(small.image_size, TrackOptions(keep_corrections=False))
    corrected = Tracker(small.image_size, TrackOptions(keep_corrections=False))
    for tracker in (plain, corrected):
        follow(tracker, small, range(1), [box_red(0)])
    corrected.add_prompt(click(RED, 0, 60, 60, label=0))
    without = follow(plain, small, range(1, 12))
    with_it = follow(corrected, small, range(1, 12))
    # After so many frames nothing but a conditioning frame is attended to from frame 0.
    assert difference(without[8:], with_it[8:]) > APART


def test_a_correction_together_with_its_frame_or_after_it_is_the_same(small: LoadedModel) -> None:
    """Only what does not belong: a prompt that cannot stand for itself waits until its frame was tracked."""
    runs = []
    outside = click(RED, 3, 30, 120, label=0)
    for together in (True, False):
        tracker = Tracker(small.image_size)
        found = follow(tracker, small, range(4), [box_red(0), outside] if together else [box_red(0)])
        if not together:
            tracker.add_prompt(outside)
            found[3] = again(tracker, small)
        runs.append(found + follow(tracker, small, range(4, 7)))
    assert difference(*runs) == 0
    plain = follow(Tracker(small.image_size), small, range(4), [box_red(0)])
    assert not np.array_equal(runs[0][3][RED], plain[3][RED])
