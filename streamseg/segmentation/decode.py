"""Prompts and a coarse previous mask in, coarse masks out: SAM 2's prompt encoder and mask decoder for one frame.

The logits are those of ``SAM2ImagePredictor``, with two differences: objects with equally many prompts are decoded in
one batch, and the logits stay coarse, so that the work on full-size masks happens outside the model's thread. A model
that answers several clicks better in turn than at once may ask for that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.segmentation.embedding import ImageEmbedding
    from streamseg.segmentation.masks import BoolMask
    from streamseg.segmentation.prompts import Box, Point

Logits: TypeAlias = NDArray[np.float32]

# Decoded at once; bounds the decoder's memory whatever a client asks for.
OBJECTS_PER_BATCH = 32
BOX_LABELS = (2, 3)
# SAM 2 clamps what it feeds back as a mask prompt to this range.
LOGIT_RANGE = 32.0
MASK_PROMPT_LOGIT = 10.0
# Of many clicks only the last ones are given in turn, the others at once: each turn costs a pass of the decoder.
MOST_TURNS = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """One object to decode on one frame. ``prior``: coarse logits (h, w) of a former mask of it, or None."""

    object_id: int
    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None
    prior: Logits | None = None


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The answer after a second look: coarse ``logits`` (h, w) of a part of the frame, outside of which it is not."""

    window_xyxy_px: tuple[int, int, int, int]
    logits: Logits
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Coarse masks of one object: ``logits`` (m, h, w), predicted IoU ``scores`` (m,); ``best`` is the chosen one.

    ``lost``: the object is not in the frame, whatever the logits say. ``second``: what takes the chosen one's place.
    """

    object_id: int
    logits: Logits
    scores: NDArray[np.float32]
    best: int
    lost: bool = False
    second: SecondLook | None = None


def decode(
    model: SAM2Base,
    embedding: ImageEmbedding,
    asks: tuple[Ask, ...],
    frame_size: tuple[int, int],
    *,
    multimask: bool,
    clicks_in_turn: bool = False,
) -> list[Answer]:
    """Masks for all ``asks``, in their order. ``frame_size``: (width, height), to which the prompts refer.

    One click without a prior is decoded with three candidates, as is everything with ``multimask``. ``clicks_in_turn``:
    of an ask without a prior each click corrects the mask of the ones before it, as clicks of a person do.
    """
    if clicks_in_turn:
        asks = _with_former_masks(model, embedding, asks, frame_size)
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    rows = [_tokens(ask, frame_size, model.image_size) for ask in asks]
    for place, (ask, (points, _)) in enumerate(zip(asks, rows, strict=True)):
        groups[len(points), ask.prior is not None].append(place)

    answers: dict[int, Answer] = {}
    for (count, has_prior), places in groups.items():
        several = multimask or (count <= 1 and not has_prior)
        for start in range(0, len(places), OBJECTS_PER_BATCH):
            batch = places[start : start + OBJECTS_PER_BATCH]
            logits, scores = _decode_batch(
                model, embedding, [rows[p] for p in batch], [asks[p].prior for p in batch], several
            )
            for place, one_logits, one_scores in zip(batch, logits, scores, strict=True):
                answers[place] = Answer(asks[place].object_id, one_logits, one_scores, int(one_scores.argmax()))
    return [answers[place] for place in range(len(asks))]


def _with_former_masks(
    model: SAM2Base, embedding: ImageEmbedding, asks: tuple[Ask, ...], frame_size: tuple[int, int], turns: int = 1
) -> tuple[Ask, ...]:
    """The asks, each with the mask of all its clicks but the last one as its prior."""
    former = {
        place: replace(ask, points=ask.points[:-1], labels=ask.labels[:-1])
        for place, ask in enumerate(asks)
        # What only says what the object is not gives no mask to go on from.
        if ask.prior is None and ask.points and (ask.box is not None or 1 in ask.labels[:-1])
    }
    if not former:
        return asks
    shorter = tuple(former.values())
    if turns < MOST_TURNS:
        shorter = _with_former_masks(model, embedding, shorter, frame_size, turns + 1)
    answers = decode(model, embedding, shorter, frame_size, multimask=False)
    priors = dict(zip(former, (as_prior(answer.logits[answer.best]) for answer in answers), strict=True))
    return tuple(replace(ask, prior=priors.get(place, ask.prior)) for place, ask in enumerate(asks))


def _decode_batch(
    model: SAM2Base,
    embedding: ImageEmbedding,
    rows: list[tuple[list[tuple[float, float]], list[int]]],
    priors: list[Logits | None],
    several: bool,
) -> tuple[Logits, NDArray[np.float32]]:
    device = embedding.image_embed.device
    points = torch.tensor([row[0] for row in rows], dtype=torch.float32, device=device)
    labels = torch.tensor([row[1] for row in rows], dtype=torch.int32, device=device)
    known = [prior for prior in priors if prior is not None]
    masks = torch.from_numpy(np.stack(known)).to(device).unsqueeze(1) if known else None
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=masks)
    logits, scores, _, _ = model.sam_mask_decoder(
        image_embeddings=embedding.image_embed,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        repeat_image=len(rows) > 1,
        high_res_features=list(embedding.high_res_feats),
    )
    return logits.float().cpu().numpy(), scores.float().cpu().numpy()


def _tokens(ask: Ask, frame_size: tuple[int, int], image_size: int) -> tuple[list[tuple[float, float]], list[int]]:
    """Points and box corners in the model's pixels, in the predictor's order: the box first."""
    points, labels = list(ask.points), list(ask.labels)
    box = ask.box
    if not points and box is None and ask.prior is not None:
        box = box_of(ask.prior, frame_size)
    if box is not None:
        points = [(box[0], box[1]), (box[2], box[3]), *points]
        labels = [*BOX_LABELS, *labels]
    width, height = frame_size
    return [(x / width * image_size, y / height * image_size) for x, y in points], labels


def box_of(prior: Logits, frame_size: tuple[int, int]) -> Box:
    """The box that a person would draw around the former mask, in pixels of the frame (width, height)."""
    x, y, w, h = cv2.boundingRect((prior > 0).astype(np.uint8))
    rows, columns = prior.shape
    per_x, per_y = frame_size[0] / columns, frame_size[1] / rows
    return x * per_x, y * per_y, (x + w) * per_x, (y + h) * per_y


def as_prior(logits: Logits) -> Logits:
    """Coarse logits in the range in which SAM 2 feeds masks back."""
    return np.clip(logits, -LOGIT_RANGE, LOGIT_RANGE)


def mask_as_prior(mask: BoolMask, mask_input_size: tuple[int, int]) -> Logits:
    """A bool (H, W) mask as coarse logits of the (rows, columns) that the prompt encoder takes."""
    rows, columns = mask_input_size
    share = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    # A part smaller than a cell must not vanish: its cell counts as inside.
    if not (share > 0.5).any():
        share = (share >= share.max()).astype(np.float32)
    return ((2.0 * share - 1.0) * MASK_PROMPT_LOGIT).astype(np.float32)
