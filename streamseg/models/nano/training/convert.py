"""Turning a training checkpoint or a pickled state dict into the package's weights file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from streamseg.models.nano.architecture import build_nano
from streamseg.models.nano.training.trainer import MEMORY
from streamseg.models.nano.weights_file import WEIGHTS_PATH, as_float32, load_into, write_weights

_OBJECT_SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def convert(
    shares: Mapping[Path, float],
    destination: Path = WEIGHTS_PATH,
    object_score_shift: float = 0.0,
    memory_of: Path | None = None,
) -> None:
    """Write the package's weights file from a checkpoint, or from the mean of several.

    The mean of weights that began alike often does better than each of them: of runs that saw other data (Wortsman et
    al., "Model soups", ICML 2022), and of the weights before and after further training on what that training did
    not show (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        shares: checkpoints of this training (their averaged weights are taken), weights files or bare state dicts, and
            how much of the mean each is; only tensors are unpickled.
        destination: the safetensors file to write.
        object_score_shift: added to every object score, so that 0 parts frames with the object from those without it;
            to be chosen on clips that were held out.
        memory_of: one of the files; its memory parts (``trainer.MEMORY``) are taken as they are instead of the mean.

    Raises:
        RuntimeError: keys or shapes do not match the architecture.
        ValueError: the shares do not sum to 1, ``memory_of`` is none of the files, or a value does not fit fp16.
    """
    if not math.isclose(sum(shares.values()), 1.0):
        raise ValueError(f"the shares of a mean sum to 1, not to {sum(shares.values()):g}")
    if memory_of is not None and memory_of not in shares:
        raise ValueError(f"the memory parts are to be those of {memory_of}, which is none of the files")
    mean: dict[str, Tensor] = {}
    model = build_nano()
    for path, share in shares.items():
        load_checkpoint_into(model, path)
        for key, value in model.state_dict().items():
            part = float(path == memory_of) if memory_of is not None and key.startswith(MEMORY) else share
            # What is no floating-point value is a counter, of no use to the model.
            mean[key] = mean.get(key, 0) + part * value if value.is_floating_point() else value
    mean[_OBJECT_SCORE_BIAS] = mean[_OBJECT_SCORE_BIAS] + object_score_shift
    write_weights(mean, destination)


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
