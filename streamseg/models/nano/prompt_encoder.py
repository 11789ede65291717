"""SAM's prompt encoder with a dense map of the prompts beside the tokens.

A small model learns slowly where a click is from a positional token alone. Drawing the clicks and
the box into a map that is added to the image embedding, as interactive segmentation networks do
(Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation",
RITM, ICIP 2022), gives it the place directly.
"""

from __future__ import annotations

import torch
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from torch import Tensor, nn

_MAP_CHANNELS = 4
_CLICK_SIGMA_CELLS = 2.5
_WIDE_CLICK_SIGMA_CELLS = 10.0
_BOX_EDGE_STEEPNESS = 2.0


class DensePromptEncoder(PromptEncoder):  # type: ignore[misc]  # sam2 ships no types
    """`PromptEncoder` whose dense embedding also carries the points and the box.

    A drop-in for `sam2`'s encoder: `SAM2ImagePredictor` and `SAM2VideoPredictor` call it unchanged.

    Args:
        embed_dim: channels of every embedding.
        image_embedding_size: (height, width) of the image embedding, in cells.
        input_image_size: (height, width) of the model's input, in pixels.
        mask_in_chans: hidden channels of the mask branch.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
    ) -> None:
        super().__init__(embed_dim, image_embedding_size, input_image_size, mask_in_chans)
        self.prior = nn.Sequential(
            nn.Conv2d(_MAP_CHANNELS, embed_dim // 4, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(embed_dim // 4, embed_dim // 2, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(embed_dim // 2, embed_dim, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv2d(embed_dim, embed_dim, kernel_size=1),
        )

    def draw(self, points_xy_px: Tensor, labels: Tensor) -> Tensor:
        """Draw prompts at a quarter of the input's resolution.

        Args:
            points_xy_px: float (B, P, 2), in pixels of the model's input.
            labels: (B, P); 1 foreground, 0 background, 2 and 3 the box's top-left and bottom-right
                corner, -1 nothing.

        Returns:
            float (B, 4, H, W) in [0, 1]: narrow foreground clicks, wide foreground clicks, narrow
            background clicks, box interior; each map is the maximum over its points.
        """
        height_cells, width_cells = self.mask_input_size
        height_px, width_px = self.input_image_size
        scale = points_xy_px.new_tensor([width_cells / width_px, height_cells / height_px])
        points = points_xy_px * scale
        x_cells = torch.arange(width_cells, device=points.device, dtype=points.dtype) + 0.5
        y_cells = torch.arange(height_cells, device=points.device, dtype=points.dtype) + 0.5
        squared_x = (x_cells - points[..., 0:1]) ** 2
        squared_y = (y_cells - points[..., 1:2]) ** 2

        def clicks(label: int, sigma_cells: float) -> Tensor:
            chosen = (labels == label).to(points.dtype)
            # A Gaussian is the product of its two axes, so each point costs W + H exponentials.
            along_x = torch.exp(-squared_x / (2 * sigma_cells**2))
            along_y = torch.exp(-squared_y / (2 * sigma_cells**2)) * chosen[..., None]
            return (along_y[..., :, None] * along_x[..., None, :]).amax(dim=1)

        def interior(axis: int, cells: Tensor) -> Tensor:
            low = (points[..., axis] * (labels == 2)).sum(dim=1)[:, None]
            high = (points[..., axis] * (labels == 3)).sum(dim=1)[:, None]
            rising = torch.sigmoid(_BOX_EDGE_STEEPNESS * (cells - low))
            return rising * torch.sigmoid(_BOX_EDGE_STEEPNESS * (high - cells))

        has_box = (labels == 3).any(dim=1).to(points.dtype)[:, None, None]
        box = interior(1, y_cells)[:, :, None] * interior(0, x_cells)[:, None, :] * has_box
        return torch.stack(
            [
                clicks(1, _CLICK_SIGMA_CELLS),
                clicks(1, _WIDE_CLICK_SIGMA_CELLS),
                clicks(0, _CLICK_SIGMA_CELLS),
                box,
            ],
            dim=1,
        )

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts.

        Args:
            points: coordinates (B, P, 2) in pixels of the model's input and labels (B, P) as in
                `draw`; boxes belong here, as points labelled 2 and 3.
            boxes: (B, 4) through SAM's own path; not drawn. Neither predictor of `sam2` uses it.
            masks: logits (B, 1, H, W) at a quarter of the input's resolution.

        Returns:
            Sparse embeddings (B, tokens, C) and dense embeddings (B, C, h, w).
        """
        sparse, dense = super().forward(points=points, boxes=boxes, masks=masks)
        if points is not None:
            dense = dense + self.prior(self.draw(points[0].to(dense.dtype), points[1]))
        return sparse, dense
