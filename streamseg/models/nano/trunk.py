"""The convolutional trunk of the embedded model.

EfficientNet-Lite (Tan & Le, "EfficientNet", ICML 2019; the Lite variant drops squeeze-and-excite
and uses ReLU6 so that it runs well on small processors), taken from timm without its classifier.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

TRUNK_NAME = "tf_efficientnet_lite0"
# The last block of each stride, and how many channels it gives at strides 4, 8, 16, 32.
_TAPPED_BLOCKS = (1, 2, 4, 6)
_TAPPED_CHANNELS = (24, 40, 112, 320)


class EfficientNetLiteTrunk(nn.Module):
    """Image -> four feature maps, finest first, as `sam2`'s `ImageEncoder` expects of a trunk.

    Attributes:
        channel_list: channels of the feature maps, coarsest first (the order in which `FpnNeck`
            lists them).
        channels_last: run in NHWC memory order, which is faster on CPUs; the values stay the same.
    """

    def __init__(self) -> None:
        super().__init__()
        network: Any = timm.create_model(TRUNK_NAME, pretrained=False)
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks: nn.Sequential = network.blocks
        self.channel_list = list(reversed(_TAPPED_CHANNELS))
        self.channels_last = False

    def forward(self, images_nchw: Tensor) -> list[Tensor]:
        """Compute the features of a batch.

        Args:
            images_nchw: float (N, 3, S, S), normalised with the ImageNet mean and deviation;
                S divisible by 32.

        Returns:
            Maps (N, 24, S/4, S/4), (N, 40, S/8, S/8), (N, 112, S/16, S/16), (N, 320, S/32, S/32).
        """
        x = images_nchw
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        features: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPPED_BLOCKS:
                features.append(x)
        return features
