"""What a prediction is marked on: masks, their predicted IoU, and whether there is an object.

The best of several masks is pulled towards the target, as in SAM (Kirillov et al., 2023), with the
focal loss of Lin et al. (2017) in its form for soft targets (Li et al., "Generalized Focal Loss",
2020) and the dice loss of Milletari et al. (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_FOCAL_WEIGHT = 10.0
_DICE_WEIGHT = 1.0
_IOU_WEIGHT = 4.0
_OBJECT_WEIGHT = 0.5
# A share for the masks that are not the best keeps every candidate alive.
_OTHERS_SHARE = 0.05


@dataclass(frozen=True)
class DecoderOutput:
    """All that the mask decoder said, before any choice among it.

    Attributes:
        logits: (P, 4, h, w); mask 0 is the single answer, 1 to 3 are the candidates.
        ious: (P, 4), predicted.
        object_logits: (P, 1).
    """

    logits: Tensor
    ious: Tensor
    object_logits: Tensor


def soft_targets(masks_nhw: Tensor, stride: int = 4) -> Tensor:
    """Masks (N, H, W) as the share of object in each cell of the decoder's grid, (N, h, w)."""
    return F.avg_pool2d(masks_nhw[:, None].float(), stride)[:, 0]


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal plus dice loss of every candidate.

    Args:
        logits: (P, M, h, w).
        targets: (P, h, w) in [0, 1].

    Returns:
        (P, M).
    """
    wanted = targets[:, None].expand_as(logits)
    probability = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = ((wanted - probability).square() * cross_entropy).mean(dim=(-2, -1))
    overlap = (probability * wanted).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + wanted.sum(dim=(-2, -1))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return _FOCAL_WEIGHT * focal + _DICE_WEIGHT * dice


@torch.no_grad()
def true_ious(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU (P, M) of thresholded masks (P, M, h, w) with soft targets (P, h, w)."""
    predicted = logits > 0
    wanted = (targets > 0.5)[:, None]
    union = (predicted | wanted).sum(dim=(-2, -1))
    return (predicted & wanted).sum(dim=(-2, -1)) / union.clamp(min=1)


def prediction_loss(output: DecoderOutput, targets: Tensor, present: Tensor, ambiguous: bool) -> Tensor:
    """The loss of one round of predictions.

    Args:
        output: what the decoder said.
        targets: (P, h, w) in [0, 1].
        present: bool (P,), whether the object is in the picture; where it is not, only the object
            score is marked.
        ambiguous: the prompt leaves open what is meant (one click, or tracking), so that the
            candidates are what the user gets; otherwise the single mask is.

    Returns:
        A scalar: the mean over the predictions.
    """
    losses = mask_losses(output.logits, targets)
    single, candidates = losses[:, 0], losses[:, 1:]
    best = (1 - _OTHERS_SHARE) * candidates.min(dim=1).values + _OTHERS_SHARE * candidates.mean(dim=1)
    # The side that is not shown to the user now is the fallback in other cases.
    mask_loss = best + 0.3 * single if ambiguous else single + 0.3 * best
    iou_loss = _IOU_WEIGHT * (output.ious - true_ious(output.logits, targets)).square().mean(dim=1)
    shown = present.to(losses.dtype)
    object_loss = F.binary_cross_entropy_with_logits(output.object_logits[:, 0], shown)
    count = shown.sum().clamp(min=1)
    return ((mask_loss + iou_loss) * shown).sum() / count + _OBJECT_WEIGHT * object_loss
