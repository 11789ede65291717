"""Keeping what the trunk knew of ImageNet's thousand classes while it learns from a few thousand images.

The training sets show what stands out in tidy photos; a trunk that is trained on them for long forgets the rest of the
world. So its coarsest features must still tell what those of the frozen ImageNet trunk say of the same image, as in
Li & Hoiem, "Learning without Forgetting" (ECCV 2016), here by a linear map of features instead of class scores.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamseg.models.nano.trunk import EfficientNetLiteTrunk


class Retention(nn.Module):
    """Compares the features of a trunk in training with those of a frozen one.

    Args:
        trunk: in training; what it gave last, where gradients flow, is remembered until it is asked for.
        teacher: a trunk with the weights to keep to, for instance those of `load_imagenet`; it is not trained.
    """

    def __init__(self, trunk: EfficientNetLiteTrunk, teacher: EfficientNetLiteTrunk) -> None:
        super().__init__()
        # Unregistered: it does not belong into a checkpoint.
        self._teacher = (teacher.eval().requires_grad_(False),)
        channels = trunk.channel_list[0]
        self.told = nn.Conv2d(channels, channels, 1)
        nn.init.dirac_(self.told.weight)
        nn.init.zeros_(self.told.bias)  # type: ignore[arg-type]
        self._seen: Tensor | None = None
        trunk.register_forward_hook(self._remember)

    def _remember(self, _trunk: nn.Module, _inputs: Any, features: list[Tensor]) -> None:
        # Clips run through the trunk without gradients, and would teach it nothing here either.
        if features[-1].requires_grad:
            self._seen = features[-1]

    def forward(self, rgbs_nhwc: Tensor) -> Tensor:
        """How little the trunk's last output tells of the frozen trunk's: 0 for all of it, about 1 for nothing.

        Args:
            rgbs_nhwc: uint8 (N, S, S, 3), the images that the trunk has just seen.

        Raises:
            RuntimeError: the trunk has seen nothing with gradients since the last call.
        """
        if self._seen is None:
            raise RuntimeError("the trunk has seen no images since the last call")
        (teacher,) = self._teacher
        device = self._seen.device
        with torch.no_grad():
            # The Lite networks were trained on values in [-1, 1].
            images = rgbs_nhwc.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            wanted = teacher.to(device)(images)[-1]
        told, self._seen = self.told(self._seen), None
        return 1 - F.cosine_similarity(_normalised(told), _normalised(wanted), dim=-1).mean()


def _normalised(features_nchw: Tensor) -> Tensor:
    """Features (N, H, W, C) of mean 0 and deviation 1 in every place."""
    return F.layer_norm(features_nchw.movedim(1, -1), features_nchw.shape[1:2])
