"""Turning a training checkpoint or a pickled state dict into the package's weights file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from streamseg.models.nano.architecture import build_nano
from streamseg.models.nano.weights_file import WEIGHTS_PATH, as_float32, load_into, read_weights, write_weights

_OBJECT_SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def convert(
    checkpoint: Path,
    destination: Path = WEIGHTS_PATH,
    former: Path | None = None,
    share: float = 1.0,
    object_score_shift: float = 0.0,
) -> None:
    """Write the package's weights file from a checkpoint.

    A mean of the weights before and after further training often does better on what that training did not show than
    either (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        checkpoint: a checkpoint of this training (its averaged weights are taken) or a bare state
            dict; only tensors are unpickled.
        destination: the safetensors file to write.
        former: weights that training went on from, to take the mean with.
        share: how much of the mean is the checkpoint's, 0 to 1.
        object_score_shift: added to every object score, so that 0 parts frames with the object from those without it;
            to be chosen on clips that were held out.

    Raises:
        RuntimeError: keys or shapes do not match the architecture.
        ValueError: a value does not fit fp16.
    """
    model = build_nano()
    load_checkpoint_into(model, checkpoint)
    state = model.state_dict()
    if former is not None:
        for key, value in read_weights(former).items():
            state[key] = torch.lerp(value, state[key], share) if value.is_floating_point() else state[key]
    state[_OBJECT_SCORE_BIAS] = state[_OBJECT_SCORE_BIAS] + object_score_shift
    write_weights(state, destination)


def load_checkpoint_into(model: nn.Module, path: Path) -> None:
    """Load a weights file, a training checkpoint (its averaged weights) or a bare state dict, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: keys or shapes do not match the model.
    """
    if path.suffix == ".safetensors":
        load_into(model, path)
        return
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(as_float32(stored.get("averaged", stored)), strict=True)
