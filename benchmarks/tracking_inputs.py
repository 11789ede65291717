"""What the tracking benchmarks run on: the frames of a recording, and a model with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from streamseg.media.frame import Frame
from streamseg.media.sampling import Sampling
from streamseg.media.video import VideoReader
from streamseg.models.build import LoadedModel
from streamseg.models.catalog import find_model
from streamseg.models.configs import build_architecture

# Added to the object score of the random model: an untrained score says "nothing there" about half of the time.
SCORE_BIAS = 20.0


def read(path: Path, most: int) -> list[Frame]:
    """The first ``most`` frames of a recording, or all if it has fewer."""
    with VideoReader(path) as reader:
        frames = []
        for frame, _ in reader.frames(Sampling()):
            frames.append(Frame(frame.rgb.copy(), frame.index, frame.time_s))
            if len(frames) == most:
                break
        return frames


def random_tiny(image_size: int) -> LoadedModel:
    """A ``sam2.1-hiera-tiny`` on the CPU that sees something everywhere; ``image_size``: pixels."""
    spec = find_model("sam2.1-hiera-tiny")
    torch.manual_seed(0)
    predictor = build_architecture(spec, image_size).eval()
    with torch.no_grad():
        predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += SCORE_BIAS
    return LoadedModel(spec.name, predictor, torch.device("cpu"), "fp32", "", "", image_size)
