"""Models that the tests of tracking share."""

from __future__ import annotations

import pytest
import torch

from streamseg.models.build import LoadedModel, load_model
from streamseg.models.catalog import find_model
from streamseg.models.configs import build_architecture


@pytest.fixture(scope="session")
def small() -> LoadedModel:
    """The embedded nano with pictures of 160 px, which is faster and still follows what is large and plain."""
    return load_model("nano", device="cpu", precision="fp32", image_size=160, warm_up=False)


@pytest.fixture(scope="session")
def random_tiny() -> LoadedModel:
    """A ``sam2.1-hiera-tiny`` with random weights for pictures of 96 px, which sees something everywhere."""
    spec = find_model("sam2.1-hiera-tiny")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = build_architecture(spec, 96).eval()
    with torch.no_grad():
        predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 20.0
    return LoadedModel(spec.name, predictor, torch.device("cpu"), "fp32", "", "", 96)
