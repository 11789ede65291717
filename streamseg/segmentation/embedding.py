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


def shrink(rgb: RgbImage, image_size: int) -> RgbImage:
    """uint8 (H, W, 3) -> (S, S, 3) as ``to_model_input`` does it on a CPU, for keeping frames in little memory."""
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).permute(2, 0, 1).unsqueeze(0)
    small: RgbImage = _resized(pixels, image_size)[0].permute(1, 2, 0).contiguous().numpy()
    return small


def _resized(pixels: torch.Tensor, image_size: int) -> torch.Tensor:
    size = (image_size, image_size)
    if pixels.shape[-2:] == size:
        return pixels
    return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)


def to_model_input(rgb: RgbImage, image_size: int, device: torch.device) -> torch.Tensor:
    """uint8 (H, W, 3) -> normalised float32 (1, 3, S, S), as ``SAM2Transforms`` does it, within one grey level.

    On a CPU the resize runs on bytes, where it costs a tenth of the reference's resize of floats.
    """
    # A frame may be read-only (decoded elsewhere); torch warns about that although nothing here writes.
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).permute(2, 0, 1).unsqueeze(0)
    if device.type != "cpu":
        pixels = pixels.to(device, non_blocking=True).float()
    pixels = _resized(pixels, image_size)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255.0
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255.0
    return (pixels.float() - mean) / std


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """What the image encoder made of one frame, before anything is known of objects.

    ``vision``, ``position``: (h w, 1, C), features and position encoding at stride 16; ``high_res``: maps
    (1, C/8, 4h, 4w) and (1, C/4, 2h, 2w); ``cells_hw``: (h, w).
    """

    vision: torch.Tensor
    position: torch.Tensor
    high_res: tuple[torch.Tensor, ...]
    cells_hw: tuple[int, int]


def encode(model: SAM2Base, model_input: torch.Tensor) -> FrameFeatures:
    """Run the image encoder on one frame, float (1, 3, S, S)."""
    backbone_out = model.forward_image(model_input)
    _, vision_feats, position, feat_sizes = model._prepare_backbone_features(backbone_out)
    maps = [
        feat.permute(1, 2, 0).reshape(1, -1, *size)
        for feat, size in zip(vision_feats[:-1], feat_sizes[:-1], strict=True)
    ]
    return FrameFeatures(vision_feats[-1], position[-1], tuple(maps), feat_sizes[-1])


def embed(model: SAM2Base, model_input: torch.Tensor) -> ImageEmbedding:
    """Features of a frame by itself, as ``SAM2ImagePredictor.set_image`` makes them, for any input size."""
    features = encode(model, model_input)
    vision = features.vision
    if model.directly_add_no_mem_embed:
        vision = vision + model.no_mem_embed
    return ImageEmbedding(vision.permute(1, 2, 0).reshape(1, -1, *features.cells_hw), features.high_res)
