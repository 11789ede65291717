"""One frame of SAM 2's video model for many objects at once.

The parts of ``SAM2Base.track_step``, taken apart so that objects share what they can: mask decoder and memory encoder
run once for all of them, memory attention once for all that remember equally many frames, whenever they joined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_utils import get_1d_sine_pe

from streamseg.segmentation.decode import LOGIT_RANGE, OBJECTS_PER_BATCH
from streamseg.segmentation.memory import Attended, Memory
from streamseg.segmentation.memory_attention import Projected, can_project, fuse, project

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.segmentation.embedding import FrameFeatures


@dataclass(frozen=True, slots=True)
class Said:
    """Prompts of one object on one frame, as the model takes them.

    ``points_xy``: in pixels of the model's square input; ``labels``: 1, 0, or 2 and 3 for the corners of a box, which
    come first. ``mask``: bool (S, S) instead of points.
    """

    points_xy: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    mask: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Heads:
    """What the mask decoder gave for a batch: (B, 1, 4h, 4w), (B, 1, S, S), (B, C), (B, 1), (B,)."""

    logits: torch.Tensor
    full_logits: torch.Tensor
    pointers: torch.Tensor
    object_scores: torch.Tensor
    scores: torch.Tensor


def track(model: SAM2Base, features: FrameFeatures, attended: Sequence[Attended], exact: bool = False) -> list[Memory]:
    """The outcome of a frame for objects that were not prompted on it, each with what it attends to.

    ``exact``: one object after the other, and memories as they are, so that every number is made as ``sam2`` makes it.
    """
    memories: list[Memory] = []
    most = 1 if exact else OBJECTS_PER_BATCH
    for start in range(0, len(attended), most):
        memories += _track_batch(model, features, attended[start : start + most], exact)
    return memories


def begin(model: SAM2Base, features: FrameFeatures, said: Said, former: Memory | None, exact: bool = False) -> Memory:
    """The outcome of a prompt on a frame of which the object remembers nothing but what was prompted there before."""
    image = _map(features.vision + model.no_mem_embed, features)
    return _prompted(model, features, image, said, former, first=True, exact=exact)


def correct(
    model: SAM2Base, features: FrameFeatures, said: Said, former: Memory, attended: Attended, exact: bool = False
) -> Memory:
    """The outcome of a prompt on a frame that was tracked; ``former``: its outcome so far."""
    image = _map(features.vision, features) if said.mask is not None else _attend(model, features, [attended])
    return _prompted(model, features, image, said, former, first=False, exact=exact)


def restored(model: SAM2Base, memory: Memory, device: torch.device, exact: bool = False) -> Memory:
    """A memory that was saved, on the model's device and ready to be attended to."""
    memory = replace(memory, pointer=memory.pointer.to(device))
    if memory.features is None:
        return memory
    features = memory.features.to(device)
    projected = None
    if not exact and can_project(model, features):
        (projected,) = project(model, features, _mask_position(model, features))
    return replace(memory, features=features, projected=projected)


def _prompted(
    model: SAM2Base,
    features: FrameFeatures,
    image: torch.Tensor,
    said: Said,
    former: Memory | None,
    *,
    first: bool,
    exact: bool,
) -> Memory:
    device = image.device
    if said.mask is not None:
        mask = said.mask.to(device)[None, None].float()
        # The reference makes the pointer of a mask from the frame as it is, without "nothing is remembered".
        heads = _heads(model._use_mask_as_output(_map(features.vision, features), list(features.high_res), mask))
    else:
        points = {
            "point_coords": torch.tensor([said.points_xy], dtype=torch.float32, device=device),
            "point_labels": torch.tensor([said.labels], dtype=torch.int32, device=device),
        }
        prior = None
        if former is not None:
            assert former.logits is not None
            prior = former.logits.clamp(-LOGIT_RANGE, LOGIT_RANGE)
        heads = _heads(
            model._forward_sam_heads(
                backbone_features=image,
                point_inputs=points,
                mask_inputs=prior,
                high_res_features=list(features.high_res),
                multimask_output=model._use_multimask(first, points),
            )
        )
    # The reference encodes what was prompted from the coarse mask, cut at zero.
    size = (model.image_size, model.image_size)
    full = F.interpolate(heads.logits, size=size, mode="bilinear", align_corners=False)
    return _memories(model, features, heads, full, prompted=True, exact=exact)[0]


def _track_batch(model: SAM2Base, features: FrameFeatures, attended: Sequence[Attended], exact: bool) -> list[Memory]:
    groups: dict[tuple[tuple[int, ...], int], list[int]] = defaultdict(list)
    for place, one in enumerate(attended):
        groups[one.shape].append(place)
    images = [_attend(model, features, [attended[place] for place in places]) for places in groups.values()]
    order = [place for places in groups.values() for place in places]
    image = images[0] if len(images) == 1 else torch.cat(images)
    count = len(attended)
    heads = _heads(
        model._forward_sam_heads(
            backbone_features=image,
            high_res_features=[level.expand(count, -1, -1, -1) for level in features.high_res],
            multimask_output=model._use_multimask(False, None),
        )
    )
    memories = _memories(model, features, heads, heads.full_logits, prompted=False, exact=exact)
    found = dict(zip(order, memories, strict=True))
    return [found[place] for place in range(count)]


def _heads(outputs: tuple[torch.Tensor, ...]) -> _Heads:
    _, _, scores, logits, full_logits, pointers, object_scores = outputs
    # `logits` is the candidate with the highest predicted IoU.
    return _Heads(logits, full_logits, pointers, object_scores, scores.amax(dim=1))


def _memories(
    model: SAM2Base, features: FrameFeatures, heads: _Heads, full_logits: torch.Tensor, *, prompted: bool, exact: bool
) -> list[Memory]:
    count = len(heads.pointers)
    encoded, _ = model._encode_new_memory(
        current_vision_feats=[features.vision.expand(-1, count, -1)],
        feat_sizes=[features.cells_hw],
        pred_masks_high_res=full_logits,
        object_score_logits=heads.object_scores,
        is_mask_from_pts=prompted,
    )
    encoded = encoded.to(torch.bfloat16)
    projected: Sequence[Projected | None] = [None] * count
    if not exact and can_project(model, encoded):
        projected = project(model, encoded, _mask_position(model, encoded))
    scores = heads.scores.tolist()
    object_scores = heads.object_scores[:, 0].tolist()
    # Slices of a batch would keep the whole of it alive for as long as one object is remembered.
    return [
        Memory(
            heads.logits[place : place + 1].clone(),
            heads.pointers[place : place + 1].clone(),
            encoded[place : place + 1].clone(),
            object_scores[place],
            scores[place],
            projected[place],
        )
        for place in range(count)
    ]


def _attend(model: SAM2Base, features: FrameFeatures, attended: Sequence[Attended]) -> torch.Tensor:
    """The frame in the light of what is remembered, (B, C, h, w); all of ``attended`` have one shape."""
    device = features.vision.device
    count = len(attended)
    known = [[memory.projected for _, memory in one.masks] for one in attended]
    ready = [[memory for memory in one if memory is not None] for one in known]
    if attended[0].pointers and all(len(one) == len(masks) for one, masks in zip(ready, known, strict=True)):
        places = [place for place, _ in attended[0].masks]
        return _map(fuse(model, features, places, ready, _pointer_tokens(model, attended, device)), features)
    tokens: list[torch.Tensor] = []
    positions: list[torch.Tensor] = []
    where: torch.Tensor | None = None
    for slot, (place, _) in enumerate(attended[0].masks):
        stored = [one.masks[slot][1].features for one in attended]
        stacked = torch.cat([memory for memory in stored if memory is not None])
        tokens.append(stacked.flatten(2).permute(2, 0, 1))
        where = _mask_position(model, stacked) if where is None else where
        position = where + model.maskmem_tpos_enc[model.num_maskmem - place - 1]
        positions.append(position.expand(-1, count, -1))
    pointer_tokens = 0
    if attended[0].pointers:
        pointers, position = _pointer_tokens(model, attended, device)
        tokens.append(pointers)
        positions.append(position)
        pointer_tokens = len(pointers)
    fused = model.memory_attention(
        curr=[features.vision.expand(-1, count, -1)],
        curr_pos=[features.position.expand(-1, count, -1)],
        memory=torch.cat(tokens),
        memory_pos=torch.cat(positions),
        num_obj_ptr_tokens=pointer_tokens,
    )
    return _map(fused, features)


def _pointer_tokens(
    model: SAM2Base, attended: Sequence[Attended], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pointers split into tokens of the memory's width, (n, B, D), and their temporal encoding."""
    width, split = model.mem_dim, model.hidden_dim // model.mem_dim
    pointers = torch.stack([torch.cat([memory.pointer for _, memory in one.pointers]) for one in attended], dim=1)
    count = len(attended[0].pointers)
    if model.add_tpos_enc_to_obj_ptrs:
        back = torch.tensor([[frames for frames, _ in one.pointers] for one in attended], device=device).T
        wide = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else width
        position = get_1d_sine_pe(back / (model.max_obj_ptrs_in_encoder - 1), dim=wide)
        position = model.obj_ptr_tpos_proj(position)
    else:
        position = pointers.new_zeros(count, len(attended), width)
    pointers = pointers.reshape(count, len(attended), split, width).permute(0, 2, 1, 3).flatten(0, 1)
    return pointers, position.repeat_interleave(split, dim=0)


def _mask_position(model: SAM2Base, memories: torch.Tensor) -> torch.Tensor:
    """The spatial encoding of mask memories (B, D, h, w), (h w, 1, D)."""
    position: torch.Tensor = model.memory_encoder.position_encoding(memories[:1])
    return position.flatten(2).permute(2, 0, 1)


def _map(tokens: torch.Tensor, features: FrameFeatures) -> torch.Tensor:
    return tokens.permute(1, 2, 0).reshape(tokens.shape[1], -1, *features.cells_hw)
