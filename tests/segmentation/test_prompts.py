"""Prompts: what is accepted, and that every impossible one is refused in words that help."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.errors import BadPromptError
from streamseg.segmentation.prompts import Prompt, PromptLimits


def test_numpy_is_as_welcome_as_lists() -> None:
    prompt = Prompt(
        object_id=np.int64(7),
        frame=np.int32(2),
        points_xy_px=np.array([[1.5, 2]], dtype=np.float32),
        labels=np.array([1], dtype=np.uint8),
        box_xyxy_px=np.array([0, 0, 4, 5]),
    )
    assert (prompt.object_id, prompt.frame) == (7, 2)
    assert prompt.points == ((1.5, 2.0),)
    assert prompt.point_labels == (1,)
    assert prompt.box == (0.0, 0.0, 4.0, 5.0)


def test_bool_labels_of_an_array_are_refused_like_any_bool() -> None:
    with pytest.raises(BadPromptError, match="must be a number"):
        Prompt(points_xy_px=[(1, 1)], labels=[True])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "empty prompt"),
        ({"points_xy_px": [(1, 1)]}, "1 points but 0 labels"),
        ({"labels": [1]}, "0 points but 1 labels"),
        ({"points_xy_px": [(1, 1, 1)], "labels": [1]}, r"\(x, y\)"),
        ({"points_xy_px": [1, 1], "labels": [1, 1]}, r"\(x, y\)"),
        ({"points_xy_px": "12", "labels": [1]}, "list of"),
        ({"points_xy_px": 5, "labels": [1]}, "list of"),
        ({"points_xy_px": [(float("nan"), 1)], "labels": [1]}, "finite"),
        ({"points_xy_px": [(1, float("inf"))], "labels": [1]}, "finite"),
        ({"points_xy_px": [("1", 1)], "labels": [1]}, "must be a number"),
        ({"points_xy_px": [(True, 1)], "labels": [1]}, "must be a number"),
        ({"points_xy_px": [(1, 1)], "labels": [2]}, "1 \\(object\\) or 0"),
        ({"points_xy_px": [(1, 1)], "labels": [0.5]}, "1 \\(object\\) or 0"),
        ({"points_xy_px": [(1, 1)], "labels": [10**400]}, "double"),
        ({"points_xy_px": [(10**400, 1)], "labels": [1]}, "double"),
        ({"object_id": 10**5000, "box_xyxy_px": [0, 0, 1, 1]}, "thousands of digits"),
        ({"box_xyxy_px": [1, 2, 3]}, "not 3 numbers"),
        ({"box_xyxy_px": [3, 0, 1, 5]}, "no area"),
        ({"box_xyxy_px": [0, 0, float("inf"), 5]}, "finite"),
        ({"mask": np.zeros((4, 4), bool)}, "empty"),
        ({"mask": np.ones((4, 4, 3), bool)}, "bool array"),
        ({"mask": np.ones((4, 4), np.float32)}, "bool array"),
        ({"text": "the dog"}, "text prompts"),
        ({"object_id": -1, "box_xyxy_px": [0, 0, 1, 1]}, "object_id"),
        ({"object_id": 1.0, "box_xyxy_px": [0, 0, 1, 1]}, "object_id"),
        ({"object_id": True, "box_xyxy_px": [0, 0, 1, 1]}, "object_id"),
        ({"frame": -1, "box_xyxy_px": [0, 0, 1, 1]}, "frame"),
    ],
)
def test_what_could_not_be_meant_is_refused(fields: dict, says: str) -> None:
    with pytest.raises(BadPromptError, match=says):
        Prompt(**fields)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"points_xy_px": [(0, 0)], "labels": [1]}, True),
        ({"points_xy_px": [(9.99, 4.99)], "labels": [0]}, True),
        ({"points_xy_px": [(10, 0)], "labels": [1]}, False),
        ({"points_xy_px": [(0, 5)], "labels": [1]}, False),
        ({"points_xy_px": [(-0.1, 0)], "labels": [1]}, False),
        ({"box_xyxy_px": (0, 0, 10, 5)}, True),
        ({"box_xyxy_px": (0, 0, 10.1, 5)}, False),
        ({"box_xyxy_px": (-1, 0, 3, 5)}, False),
        ({"mask": np.ones((5, 10), bool)}, True),
        ({"mask": np.ones((10, 5), bool)}, False),
        ({"points_xy_px": [(1, 1)] * 3, "labels": [1] * 3}, False),
    ],
)
def test_a_prompt_must_fit_its_frame(fields: dict, fits: bool) -> None:
    """The frame is 10 x 5 pixels, and two points are allowed."""
    prompt = Prompt(**fields)
    if fits:
        prompt.check(10, 5, PromptLimits(max_points=2))
    else:
        with pytest.raises(BadPromptError):
            prompt.check(10, 5, PromptLimits(max_points=2))


def test_a_hair_outside_is_said_as_such() -> None:
    with pytest.raises(BadPromptError, match=r"1800\.001"):
        Prompt(box_xyxy_px=(0, 0, 1800.001, 1200)).check(1800, 1200)
