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

from streamseg.models.nano.training.dataset import Mask
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
class Questions:
    """Prompts of one kind, which share their number of points.

    Attributes:
        kind: ``click``, ``box`` or ``mask``.
        scene_indices: int64 (P,), the image of each.
        covers_nhw: uint8 (P, S/4, S/4), how many of the 16 pixels of each cell of the decoder's grid are wanted.
        points_xy_px: float32 (P, n, 2); a box is two points.
        labels: int32 (P, n).
        worn_nhw: for ``mask`` a mask of a moment ago, as `covers_nhw`; else None.
    """

    kind: str
    scene_indices: Tensor
    covers_nhw: Tensor
    points_xy_px: Tensor
    labels: Tensor
    worn_nhw: Tensor | None


@dataclass(frozen=True)
class Stills:
    """The images of one step and what is asked of them.

    Attributes:
        rgbs_nhwc: uint8 (N, S, S, 3).
        questions: by kind.
    """

    rgbs_nhwc: Tensor
    questions: tuple[Questions, ...]


def normalised_nchw(rgbs_nhwc: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """RGB images (N, H, W, 3), uint8, as the model's float input (N, 3, H, W)."""
    batch = torch.as_tensor(rgbs_nhwc).to(device).permute(0, 3, 1, 2).float() / 255
    mean = batch.new_tensor(_MEAN).view(1, 3, 1, 1)
    deviation = batch.new_tensor(_DEVIATION).view(1, 3, 1, 1)
    return (batch - mean) / deviation


def ask(scenes: Sequence[Scene], rng: Generator) -> Stills:
    """Choose objects of every image and prompts for them.

    Args:
        scenes: images of one size, its side divisible by 32.
        rng: the source of chance.
    """
    second = "mask" if rng.random() < 0.25 else "box"
    questions = []
    # As many for every image: a GPU's convolutions are slow whenever a step has a size of its own.
    for kind, count, flattening in (("click", 4, 1.0), (second, 3, _CLEAR_PROMPT_FLATTENING)):
        indices: list[int] = []
        masks: list[Mask] = []
        for index, scene in enumerate(scenes):
            shares = scene.weights**flattening
            chosen = rng.choice(len(shares), size=count, p=shares / shares.sum())
            indices += [index] * count
            masks += [scene.masks_nhw[i].astype(bool) for i in chosen]
        points, labels, worn = _first_prompts(kind, masks, rng)
        questions.append(
            Questions(
                kind,
                torch.tensor(indices),
                _covers(masks),
                torch.from_numpy(points),
                torch.from_numpy(labels),
                None if worn is None else _covers(worn),
            )
        )
    return Stills(torch.from_numpy(np.stack([scene.rgb for scene in scenes])), tuple(questions))


def image_loss(model: SAM2VideoPredictor, stills: Stills, rng: Generator) -> Tensor:
    """Answer what is asked about every image, correct the answers, and mark all of them.

    Each image is encoded once for all of its prompts.

    Args:
        model: the model, on its device.
        stills: images of the model's size with the first prompts.
        rng: chooses how often to correct, where, and whether masks are fed back.

    Returns:
        A scalar loss with its graph.
    """
    features = model.forward_image(normalised_nchw(stills.rgbs_nhwc, model.device))["backbone_fpn"]
    embeddings = features[-1] + model.no_mem_embed.view(1, -1, 1, 1)
    losses: list[Tensor] = []
    for questions in stills.questions:
        losses += _rounds(model, embeddings, features[:2], questions, rng)
    return torch.stack(losses).mean()


def _rounds(
    model: SAM2VideoPredictor, embeddings: Tensor, high_res: list[Tensor], questions: Questions, rng: Generator
) -> list[Tensor]:
    device = embeddings.device
    picked = questions.scene_indices.to(device)
    image = embeddings[picked]
    details = [level[picked] for level in high_res]
    targets = _shares(questions.covers_nhw, device)
    wanted_nhw = (questions.covers_nhw > _STRIDE**2 / 2).numpy()
    points, labels = questions.points_xy_px.numpy(), questions.labels.numpy()
    mask_logits = None
    if questions.worn_nhw is not None:
        mask_logits = (2 * _shares(questions.worn_nhw, device) - 1)[:, None] * _MASK_LOGIT
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


def _covers(masks: Sequence[Mask]) -> Tensor:
    # One by one, and as bytes: what the loaders hold and send is many times the images otherwise.
    shares = [soft_targets(torch.from_numpy(mask)[None], _STRIDE) for mask in masks]
    return torch.cat([(share * _STRIDE**2).to(torch.uint8) for share in shares])


def _shares(covers_nhw: Tensor, device: torch.device) -> Tensor:
    """What `soft_targets` gave, from what `_covers` made of it."""
    return covers_nhw.to(device).float() / _STRIDE**2


def _first_prompts(
    kind: str, masks: Sequence[Mask], rng: Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32], list[Mask] | None]:
    """Points (P, n, 2) in input pixels, labels (P, n), and worn masks where the prompt is a mask."""
    count = len(masks)
    box_labels = np.tile(np.array([2, 3], np.int32), (count, 1))
    if kind == "box":
        boxes = np.stack([jittered_box_xyxy(mask, rng) for mask in masks]).reshape(count, 2, 2)
        return boxes.astype(np.float32), box_labels, None
    clicks = np.array([random_click_xy(mask, rng) for mask in masks], np.float32)[:, None]
    labels = np.ones((count, 1), np.int32)
    if kind == "click":
        return clicks, labels, None
    worn = [worn_mask(mask, rng) for mask in masks]
    # A carried mask comes alone, with its own box (which is then worn too), or with a new click.
    company = rng.choice(["none", "box", "click"], p=[0.25, 0.5, 0.25])
    if company == "click":
        return clicks, labels, worn
    if company == "none":
        return clicks[:, :0], labels[:, :0], worn
    boxes = np.array([box_xyxy(w if w.any() else m) for w, m in zip(worn, masks, strict=True)])
    return boxes.reshape(count, 2, 2).astype(np.float32), box_labels, worn


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
