"""A frame -> what the model sees of it. Shared by every mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.media.frame import RgbImage

# The statistics of ImageNet, with which every SAM 2 model was trained.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """Features of one frame.

    ``image_embed``: (1, C, f, f) with f = image size / 16; ``high_res_feats``: (1, C/8, 4f, 4f) and (1, C/4, 2f, 2f).
    """

    image_embed: torch.Tensor
    high_res_feats: tuple[torch.Tensor, ...]


def to_model_input(rgb: RgbImage, image_size: int, device: torch.device) -> torch.Tensor:
    """uint8 (H, W, 3) -> normalised float32 (1, 3, S, S), as ``SAM2Transforms`` does it, within one grey level.

    On a CPU the resize runs on bytes, where it costs a tenth of the reference's resize of floats.
    """
    # A frame may be read-only (decoded elsewhere); torch warns about that although nothing here writes.
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).permute(2, 0, 1).unsqueeze(0)
    if device.type != "cpu":
        pixels = pixels.to(device, non_blocking=True).float()
    if pixels.shape[-2:] != (image_size, image_size):
        size = (image_size, image_size)
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255.0
    return (pixels.float() - mean) / std


def embed(model: SAM2Base, model_input: torch.Tensor) -> ImageEmbedding:
    """Run the image encoder, as ``SAM2ImagePredictor.set_image`` does it but for any input size."""
    backbone_out = model.forward_image(model_input)
    _, vision_feats, _, feat_sizes = model._prepare_backbone_features(backbone_out)
    if model.directly_add_no_mem_embed:
        vision_feats[-1] = vision_feats[-1] + model.no_mem_embed
    maps = [feat.permute(1, 2, 0).reshape(1, -1, *size) for feat, size in zip(vision_feats, feat_sizes, strict=True)]
    return ImageEmbedding(maps[-1], tuple(maps[:-1]))
