"""Reading and writing the embedded model's weights: fp16 safetensors, nothing executable."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS_PATH = Path(__file__).parent / "weights" / "nano.safetensors"
"""The weights that ship with the package."""


def read_weights(path: Path = WEIGHTS_PATH) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: a safetensors file.

    Returns:
        The state dict on the CPU, floating-point tensors as float32.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights of the embedded model at {path}")
    state: dict[str, Tensor] = load_file(path)
    return as_float32(state)


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same state dict, floating-point tensors as float32 and counters as they are."""
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict, floating-point tensors as fp16.

    Args:
        state: a state dict of `build_nano()`, not folded.
        path: the file to write; replaced in one step, so that no reader sees half a file.

    Raises:
        ValueError: a value does not fit fp16.
    """
    halved: dict[str, Tensor] = {}
    for key, value in state.items():
        tensor = value.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.half()
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{key} does not fit fp16")
        halved[key] = tensor.contiguous().clone()
    partial = path.with_suffix(".partial")
    save_file(halved, partial, metadata={"format": "pt"})
    # The library writes for the owner alone; an installed package is read by other users too.
    partial.chmod(0o644)
    partial.replace(path)


def load_into(model: nn.Module, path: Path = WEIGHTS_PATH) -> None:
    """Load a weights file into a model, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: keys or shapes do not match the model.
    """
    model.load_state_dict(read_weights(path), strict=True)
