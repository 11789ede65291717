"""Training with batch-norm statistics frozen, at the speed of the folded model.

With the statistics frozen a normalisation is an affine map, so the convolution before it can do its
work: the same gradients for a third of the time, and the state dict keeps its keys.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn

from streamseg.models.nano.optimise import normalised_convolutions
from streamseg.models.nano.trunk import EfficientNetLiteTrunk


def freeze_statistics(trunk: EfficientNetLiteTrunk) -> None:
    """Make a trunk compute with frozen statistics, in place; on the CPU in channels-last order, too.

    To be called once the trunk is on its device.
    """
    for conv, norm in list(normalised_convolutions(trunk)):
        conv.forward = partial(_normalised_convolution, conv, norm)  # type: ignore[method-assign]
        norm.forward = norm.act.forward  # type: ignore[method-assign]
    # CUDA's depthwise convolutions are the fast ones in the usual order only.
    if next(trunk.parameters()).device.type == "cpu":
        trunk.to(memory_format=torch.channels_last)
        trunk.channels_last = True


def _normalised_convolution(conv: nn.Conv2d, norm: BatchNormAct2d, x: Tensor) -> Tensor:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    if isinstance(conv, Conv2dSame):
        x = pad_same(x, conv.kernel_size, conv.stride, conv.dilation)  # type: ignore[arg-type]
        return F.conv2d(x, weight, bias, conv.stride, 0, conv.dilation, conv.groups)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
