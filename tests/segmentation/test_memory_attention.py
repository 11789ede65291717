"""Memories projected once give what SAM 2's own memory attention gives (nano at 160 px, and a random hiera-tiny)."""

from __future__ import annotations

import pytest
import torch

from streamseg.models.build import LoadedModel
from streamseg.segmentation import track_step
from streamseg.segmentation.memory_attention import can_project
from streamseg.segmentation.tracking import Tracker
from tests.segmentation.moving import box_red, click_blue, difference, follow


@pytest.mark.parametrize("name", ["small", "random_tiny"])
def test_projected_memories_give_the_masks_of_the_plain_ones(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: LoadedModel = request.getfixturevalue(name)
    prompts = [box_red(0), click_blue(1), box_red(6)]
    projected = follow(Tracker(model.image_size), model, range(12), prompts)
    monkeypatch.setattr(track_step, "can_project", lambda *_: False)
    plain = follow(Tracker(model.image_size), model, range(12), prompts)
    assert 0 < difference(projected, plain) < 1e-3


def test_large_memories_and_reduced_precision_are_left_to_the_model(small: LoadedModel) -> None:
    predictor = small.predictor
    memories = torch.zeros(1, 64, 10, 10)
    assert can_project(predictor, memories)
    assert not can_project(predictor, torch.zeros(1, 64, 64, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_project(predictor, memories)
