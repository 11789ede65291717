"""Turning a training checkpoint or a pickled state dict into the package's weights file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from streamseg.models.nano.architecture import build_nano
from streamseg.models.nano.weights_file import WEIGHTS_PATH, as_float32, load_into, write_weights


def convert(checkpoint: Path, destination: Path = WEIGHTS_PATH) -> None:
    """Write the package's weights file from a checkpoint.

    Args:
        checkpoint: a checkpoint of this training (its averaged weights are taken) or a bare state
            dict; only tensors are unpickled.
        destination: the safetensors file to write.

    Raises:
        RuntimeError: keys or shapes do not match the architecture.
        ValueError: a value does not fit fp16.
    """
    model = build_nano()
    load_checkpoint_into(model, checkpoint)
    write_weights(model.state_dict(), destination)


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
