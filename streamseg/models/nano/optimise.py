"""Making the embedded model's trunk fast on a CPU without changing what it computes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from streamseg.models.nano.trunk import EfficientNetLiteTrunk

# Which convolution feeds which normalisation in timm's EfficientNet blocks, by block class.
_NORMALISED_BY = {
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def optimise_for_cpu(model: SAM2VideoPredictor) -> SAM2VideoPredictor:
    """Fold the trunk's batch norm into its convolutions; run it and the memory encoder in channels-last order.

    Works in place; the outputs stay equal within rounding. The folded model cannot be trained
    further in the same way nor saved under the same keys: keep the unfolded one for that.

    Args:
        model: an embedded model in eval mode.

    Returns:
        The same object.

    Raises:
        ValueError: the model is in training mode, where batch norm is no constant map.
        TypeError: the model's trunk is not the embedded model's.
    """
    trunk = model.image_encoder.trunk
    if not isinstance(trunk, EfficientNetLiteTrunk):
        raise TypeError(f"expected the embedded model's trunk, not {type(trunk).__name__}")
    if model.training:
        raise ValueError("batch norm can be folded in eval mode only: call model.eval() first")
    for conv, norm in list(normalised_convolutions(trunk)):
        _replace(trunk, conv, fuse_conv_bn_eval(conv, norm))
        _replace(trunk, norm, norm.act)
    trunk.to(memory_format=torch.channels_last)
    trunk.channels_last = True
    # One input channel at the full resolution: by far the slowest convolution of a tracked frame in any other order.
    model.memory_encoder.to(memory_format=torch.channels_last)
    return model


def normalised_convolutions(trunk: EfficientNetLiteTrunk) -> Iterator[tuple[nn.Conv2d, BatchNormAct2d]]:
    """The trunk's convolutions with the batch norm that follows each; nothing once it is folded."""
    pairs = [(trunk.stem[0], trunk.stem[1])]
    for block in trunk.modules():
        names = _NORMALISED_BY.get(type(block).__name__, ())
        pairs += [(getattr(block, conv), getattr(block, norm)) for conv, norm in names]
    for conv, norm in pairs:
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
            yield conv, norm


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in root.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
                return
