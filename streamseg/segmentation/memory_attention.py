"""SAM 2's memory attention with each memory projected once, not anew on every frame that attends to it.

A memory's keys and values change from frame to frame only by the encoding of its age, which a linear projection and the
rotary encoding pass on as a sum: keys = rotate(W memory) + rotate(W age). On a CPU that saves a third of a tracked
frame; what all objects of a frame have in common is computed once besides. Equal to ``MemoryAttention.forward`` but for
the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.segmentation.embedding import FrameFeatures

# Larger projections cost more memory than they save time; the accelerators that run such models are fast at these.
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Projected:
    """A memory as each layer's ``keys`` (rotated, without its age) and ``values``, (heads, h w, C / heads) each."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]


def can_project(model: SAM2Base, memories: torch.Tensor) -> bool:
    """Whether mask memories (B, D, h, w) may be kept projected: on a CPU, in float32, small, attended as in SAM 2."""
    layers: Any = model.memory_attention.layers
    height, width = memories.shape[-2:]
    size = 2 * len(layers) * height * width * model.hidden_dim * torch.float32.itemsize
    return (
        memories.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and size <= MOST_BYTES
        and all(
            isinstance(layer.cross_attn_image, RoPEAttention)
            and layer.pos_enc_at_cross_attn_keys
            and not layer.pos_enc_at_cross_attn_queries
            and not layer.pos_enc_at_attn
            for layer in layers
        )
    )


def project(model: SAM2Base, memories: torch.Tensor, where: torch.Tensor) -> list[Projected]:
    """Project mask memories (B, D, h, w); ``where``: their spatial encoding (h w, 1, D)."""
    tokens = memories.flatten(2).transpose(1, 2).float()
    placed = tokens + where.transpose(0, 1)
    keys, values = [], []
    for layer in model.memory_attention.layers:
        cross = layer.cross_attn_image
        keys.append(_rotated(cross, cross.k_proj(placed)))
        values.append(cross._separate_heads(cross.v_proj(tokens), cross.num_heads).contiguous())
    return [
        Projected(tuple(key[place].clone() for key in keys), tuple(value[place].clone() for value in values))
        for place in range(len(memories))
    ]


def fuse(
    model: SAM2Base,
    features: FrameFeatures,
    places: Sequence[int],
    memories: Sequence[Sequence[Projected]],
    pointers: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """The frame in the light of what each object remembers, (h w, B, C).

    ``places``: temporal places of the memories, alike for all objects; ``memories``: by object; ``pointers``: tokens
    (n, B, D) and their encoding.
    """
    attention = model.memory_attention
    ages = _ages(model)
    seen = features.vision.transpose(0, 1)
    if attention.pos_enc_at_input:
        seen = seen + 0.1 * features.position.transpose(0, 1)
    tokens = pointers[0].transpose(0, 1)
    placed = tokens + pointers[1].transpose(0, 1)
    for number, layer in enumerate(attention.layers):
        # Up to the first look at the memories all objects see the same.
        normed = layer.norm1(seen)
        seen = seen + layer.self_attn(normed, normed, v=normed)
        cross = layer.cross_attn_image
        queries = _rotated(cross, cross.q_proj(layer.norm2(seen)))
        keys, values = _assembled(cross, number, ages, places, memories, tokens, placed)
        looked = F.scaled_dot_product_attention(queries.expand(len(memories), -1, -1, -1), keys, values)
        seen = seen + cross.out_proj(cross._recombine_heads(looked))
        seen = seen + layer.linear2(layer.activation(layer.linear1(layer.norm3(seen))))
    fused: torch.Tensor = attention.norm(seen).transpose(0, 1)
    return fused


def _assembled(
    cross: RoPEAttention,
    number: int,
    ages: tuple[tuple[torch.Tensor, ...], ...],
    places: Sequence[int],
    memories: Sequence[Sequence[Projected]],
    tokens: torch.Tensor,
    placed: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of layer ``number`` for all objects, (B, heads, n, C / heads)."""
    pointer_keys = cross._separate_heads(cross.k_proj(placed), cross.num_heads)
    pointer_values = cross._separate_heads(cross.v_proj(tokens), cross.num_heads)
    heads, cells, width = memories[0][0].keys[number].shape
    masks = len(places) * cells
    shape = (len(memories), heads, masks + pointer_keys.shape[2], width)
    keys, values = pointer_keys.new_empty(shape), pointer_keys.new_empty(shape)
    keys[:, :, masks:] = pointer_keys
    values[:, :, masks:] = pointer_values
    for one, remembered in enumerate(memories):
        for slot, (place, memory) in enumerate(zip(places, remembered, strict=True)):
            rows = slice(slot * cells, (slot + 1) * cells)
            torch.add(memory.keys[number], ages[number][place], out=keys[one, :, rows])
            values[one, :, rows] = memory.values[number]
    return keys, values


def _rotated(attention: RoPEAttention, tokens: torch.Tensor) -> torch.Tensor:
    """(B, h w, C) in heads and rotated by place, (B, heads, h w, C / heads)."""
    split = attention._separate_heads(tokens, attention.num_heads)
    cells = split.shape[-2]
    if attention.freqs_cis.shape[0] != cells:
        side = int(cells**0.5)
        attention.freqs_cis = attention.compute_cis(end_x=side, end_y=side)
    rotated: torch.Tensor = apply_rotary_enc(split, split[:, :, :0], attention.freqs_cis.to(split.device))[0]
    return rotated


_AGES: WeakKeyDictionary[Any, tuple[tuple[torch.Tensor, ...], ...]] = WeakKeyDictionary()


def _ages(model: SAM2Base) -> tuple[tuple[torch.Tensor, ...], ...]:
    """What each temporal place adds to the keys of each layer, (heads, h w, C / heads)."""
    known = _AGES.get(model)
    if known is None:
        cells = (model.image_size // model.backbone_stride) ** 2
        known = tuple(
            tuple(
                _age(layer.cross_attn_image, model.maskmem_tpos_enc[model.num_maskmem - place - 1], cells)
                for place in range(model.num_maskmem)
            )
            for layer in model.memory_attention.layers
        )
        _AGES[model] = known
    return known


def _age(cross: RoPEAttention, encoding: torch.Tensor, cells: int) -> torch.Tensor:
    added = F.linear(encoding.reshape(1, 1, -1), cross.k_proj.weight)
    return _rotated(cross, added.expand(1, cells, -1))[0]
