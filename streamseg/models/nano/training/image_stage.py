"""One training step on still images: clicks, boxes and masks, with corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from streamseg.models.nano.training.losses import DecoderOutput, prediction_loss, soft_targets
from streamseg.models.nano.training.prompts import (
    box_xyxy,
    correction_click,
    jittered_box_xyxy,
    random_click_xy,
    worn_mask,
)
from streamseg.models.nano.training.scenes import Scene

_STRIDE = 4
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_ROUND_SHARES = {"click": (0.25, 0.25, 0.35, 0.15), "box": (0.6, 0.25, 0.15), "mask": (0.6, 0.4)}
_FEED_BACK_SHARE = 0.75
_MASK_LOGIT = 10.0
# A click shall find what people mostly mean; a box or a mask says what is meant, parts as well as wholes.
_CLEAR_PROMPT_FLATTENING = 0.4
_CLAMPED_LOGIT = 32.0


@dataclass(frozen=True)
class _Questions:
    """Prompts of one kind, which share their number of points.

    Attributes:
        scene_indices: (P,), the image of each.
        masks_nhw: uint8 (P, S, S), what is wanted.
    """

    kind: str
    scene_indices: NDArray[np.int64]
    masks_nhw: NDArray[np.uint8]


def normalised_nchw(rgbs: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """RGB images (H, W, 3) of one size as the model's float input (N, 3, H, W)."""
    batch = torch.from_numpy(np.stack(rgbs)).to(device).permute(0, 3, 1, 2).float() / 255
    mean = batch.new_tensor(_MEAN).view(1, 3, 1, 1)
    deviation = batch.new_tensor(_DEVIATION).view(1, 3, 1, 1)
    return (batch - mean) / deviation


def image_loss(model: SAM2VideoPredictor, scenes: Sequence[Scene], rng: Generator) -> Tensor:
    """Ask for objects of every image, correct the answers, and mark all of them.

    Each image is encoded once for all of its prompts.

    Args:
        model: the model, on its device.
        scenes: images of the model's size.
        rng: chooses the prompts.

    Returns:
        A scalar loss with its graph.
    """
    features = model.forward_image(normalised_nchw([scene.rgb for scene in scenes], model.device))["backbone_fpn"]
    embeddings = features[-1] + model.no_mem_embed.view(1, -1, 1, 1)
    losses: list[Tensor] = []
    for questions in _ask(scenes, rng):
        losses += _rounds(model, embeddings, features[:2], questions, rng)
    return torch.stack(losses).mean()


def _ask(scenes: Sequence[Scene], rng: Generator) -> list[_Questions]:
    second = "mask" if rng.random() < 0.25 else "box"
    questions = []
    for kind, single, several, flattening in (("click", 2, 4, 1.0), (second, 2, 3, _CLEAR_PROMPT_FLATTENING)):
        indices, masks = [], []
        for index, scene in enumerate(scenes):
            count = single if len(scene.weights) == 1 else several
            shares = scene.weights**flattening
            chosen = rng.choice(len(shares), size=count, p=shares / shares.sum())
            indices += [index] * count
            masks += [scene.masks_nhw[i] for i in chosen]
        questions.append(_Questions(kind, np.array(indices), np.stack(masks)))
    return questions


def _rounds(
    model: SAM2VideoPredictor, embeddings: Tensor, high_res: list[Tensor], questions: _Questions, rng: Generator
) -> list[Tensor]:
    device = embeddings.device
    picked = torch.from_numpy(questions.scene_indices).to(device)
    image = embeddings[picked]
    details = [level[picked] for level in high_res]
    targets = soft_targets(torch.from_numpy(questions.masks_nhw).to(device), _STRIDE)
    wanted_nhw = (targets > 0.5).cpu().numpy()
    points, labels, mask_logits = _first_prompts(questions, targets, rng)
    shares = _ROUND_SHARES[questions.kind]
    count = 1 + int(rng.choice(len(shares), p=shares))
    # streamseg feeds the mask back, the stateless interface gives all clicks at once without one: learn both ways.
    feeds_back = rng.random() < _FEED_BACK_SHARE
    present = torch.ones(len(wanted_nhw), dtype=torch.bool, device=device)
    losses: list[Tensor] = []
    for index in range(count):
        prompts = None
        if points.shape[1]:
            prompts = (torch.from_numpy(points).to(device), torch.from_numpy(labels).to(device))
        sparse, dense = model.sam_prompt_encoder(points=prompts, boxes=None, masks=mask_logits)
        masks, ious, _, object_logits = model.sam_mask_decoder.predict_masks(
            image_embeddings=image,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=details,
        )
        output = DecoderOutput(masks, ious, object_logits)
        ambiguous = points.shape[1] == 1 and mask_logits is None
        losses.append(prediction_loss(output, targets, present, ambiguous))
        if index + 1 < count:
            shown = _shown(output, ambiguous)
            if feeds_back:
                mask_logits = shown.clamp(-_CLAMPED_LOGIT, _CLAMPED_LOGIT)[:, None]
            points, labels = _corrected(points, labels, (shown > 0).cpu().numpy(), wanted_nhw, rng)
    return losses


def _shown(output: DecoderOutput, ambiguous: bool) -> Tensor:
    """The masks (P, h, w) that a user would be given."""
    logits = output.logits.detach()
    if not ambiguous:
        return logits[:, 0]
    best = 1 + output.ious[:, 1:].argmax(dim=1)
    return logits[torch.arange(len(best), device=best.device), best]


def _first_prompts(
    questions: _Questions, targets: Tensor, rng: Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32], Tensor | None]:
    """Points (P, n, 2) in input pixels, labels (P, n) and mask logits (P, 1, h, w) or None."""
    count = len(questions.masks_nhw)
    masks = questions.masks_nhw.astype(bool)
    if questions.kind == "box":
        boxes = np.stack([jittered_box_xyxy(mask, rng) for mask in masks]).reshape(count, 2, 2)
        return boxes.astype(np.float32), np.tile(np.array([2, 3], np.int32), (count, 1)), None
    clicks = np.array([random_click_xy(mask, rng) for mask in masks], np.float32)[:, None]
    labels = np.ones((count, 1), np.int32)
    if questions.kind == "click":
        return clicks, labels, None
    worn = np.stack([worn_mask(mask, rng) for mask in masks]).astype(np.uint8)
    logits = (2 * soft_targets(torch.from_numpy(worn).to(targets.device), _STRIDE) - 1)[:, None] * _MASK_LOGIT
    # A carried mask comes alone, with its own box (which is then worn too), or with a new click.
    company = rng.choice(["none", "box", "click"], p=[0.25, 0.5, 0.25])
    if company == "click":
        return clicks, labels, logits
    if company == "none":
        return clicks[:, :0], labels[:, :0], logits
    boxes = np.array([box_xyxy(w if w.any() else m) for w, m in zip(worn, masks, strict=True)])
    return boxes.reshape(count, 2, 2).astype(np.float32), np.tile(np.array([2, 3], np.int32), (count, 1)), logits


def _corrected(
    points: NDArray[np.float32],
    labels: NDArray[np.int32],
    shown_nhw: NDArray[np.bool_],
    wanted_nhw: NDArray[np.bool_],
    rng: Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    clicks = np.array([correction_click(s, w, rng) for s, w in zip(shown_nhw, wanted_nhw, strict=True)])
    added = (clicks[:, None, :2] * _STRIDE + _STRIDE / 2).astype(np.float32)
    return np.concatenate([points, added], axis=1), np.concatenate([labels, clicks[:, 2:].astype(np.int32)], axis=1)
