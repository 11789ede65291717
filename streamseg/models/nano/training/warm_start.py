"""A first guess for memory parts that were never trained.

Attention that starts from nothing learns for long before it finds out that a query should look where
the same place was on the frame before, and that the mask it finds there is what matters. Both can be
written down: a constant in queries and keys makes rotary attention look nearby, and a linear fit
turns a memory into what a mask prompt would have added.
"""

from __future__ import annotations

from typing import Any

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from streamseg.models.nano.training.clips import Clip
from streamseg.models.nano.training.image_stage import normalised_nchw
from streamseg.models.nano.training.losses import soft_targets
from streamseg.models.nano.training.video_stage import encode_frames, frame_arguments, mask_embedding_ends

# The finest eight rotary frequencies of each axis tell cells about two apart.
_LOCAL_FREQUENCIES = 8
_LOCAL_BIAS = 1.8
_KEPT_CONTENT = 0.5
_OTHER_BRANCHES = 0.1
_RIDGE = 1e-3


@torch.no_grad()
def warm_start_heads(model: SAM2VideoPredictor) -> None:
    """First guesses outside the attention, in place.

    A mask becomes the logits that the prompt encoder knows, and objects count as present.
    """
    model.mask_downsample.weight.fill_(20 / model.mask_downsample.weight.numel())
    model.mask_downsample.bias.fill_(-10)
    score = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    score.weight.mul_(0.05)
    score.bias.fill_(4)


@torch.no_grad()
def warm_start_attention(model: SAM2VideoPredictor, clips: list[Clip]) -> None:
    """Make the memory attention look nearby and read the mask there, in place.

    Args:
        model: a model whose still-image parts know mask prompts.
        clips: clips of at least two frames to fit on.
    """
    layers = model.memory_attention.layers
    memories, wanted = _memories(model, clips)
    design = torch.cat([memories, memories.new_ones(len(memories), 1)], dim=1)
    gram = design.T @ design
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    solution = torch.linalg.solve(gram, design.T @ wanted) / len(layers)
    for layer in layers:
        attention = layer.cross_attn_image
        bias = torch.zeros_like(attention.q_proj.bias).view(2, -1, 2)
        bias[:, :_LOCAL_FREQUENCIES] = _LOCAL_BIAS
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.mul_(_KEPT_CONTENT)
            projection.bias.copy_(bias.flatten())
        attention.v_proj.weight.copy_(solution[:-1].T)
        attention.v_proj.bias.copy_(solution[-1])
        attention.out_proj.weight.copy_(torch.eye(len(attention.out_proj.weight)))
        attention.out_proj.bias.zero_()
        # The other branches may only murmur until training finds a use for them.
        for branch in (layer.self_attn.out_proj, layer.linear2):
            branch.weight.mul_(_OTHER_BRANCHES)
            branch.bias.mul_(_OTHER_BRANCHES)
    _fit_norm(model, clips)


def _wanted(model: SAM2VideoPredictor, masks_nhw: Tensor) -> Tensor:
    """What the memory shall add for given masks, (N, C, h, w)."""
    outside, inside = mask_embedding_ends(model)
    covers = soft_targets(masks_nhw, model.backbone_stride)[:, None]
    return outside.view(1, -1, 1, 1) + covers * (inside - outside).view(1, -1, 1, 1)


def _memories(model: SAM2VideoPredictor, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """Cells of first frames' memories (n, 64), and what each shall add to the features (n, C)."""
    memories, wanted = [], []
    for clip in clips:
        first = torch.from_numpy(clip.masks_ntw[:, 0]).to(model.device)
        output = _track(model, clip, 1)[0]
        memories.append(output["maskmem_features"].permute(0, 2, 3, 1).flatten(0, 2))
        wanted.append(_wanted(model, first).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(memories), torch.cat(wanted)


def _track(model: SAM2VideoPredictor, clip: Clip, frames: int) -> list[dict[str, Any]]:
    features, positions = encode_frames(model, normalised_nchw(clip.rgbs[:frames], model.device))
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    masks = torch.from_numpy(clip.masks_ntw[:, 0]).to(model.device)[:, None].float()
    outputs = []
    for t in range(frames):
        step = frame_arguments(model, features, positions, torch.full((len(masks),), t, device=model.device))
        step |= {"frame_idx": t, "output_dict": memory, "num_frames": 1000, "is_init_cond_frame": t == 0}
        outputs.append(model.track_step(point_inputs=None, mask_inputs=None if t else masks, **step))
        memory["non_cond_frame_outputs" if t else "cond_frame_outputs"][t] = outputs[-1]
        outputs[-1]["plain"] = (step["current_vision_feats"][-1] + model.no_mem_embed).permute(1, 0, 2)
    return outputs


def _fit_norm(model: SAM2VideoPredictor, clips: list[Clip]) -> None:
    """Give the features that leave the memory the scale that the decoder was trained on.

    The attention ends in a norm; a straight line for each channel undoes it.
    """
    norm = model.memory_attention.norm
    norm.weight.fill_(1)
    norm.bias.fill_(0)
    normed: list[Tensor] = []
    wanted: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _module, _inputs, output: normed.append(output.flatten(0, 1)))
    for clip in clips:
        plain = _track(model, clip, 2)[1]["plain"]
        added = _wanted(model, torch.from_numpy(clip.masks_ntw[:, 1]).to(model.device))
        wanted.append((plain + added.flatten(2).transpose(1, 2)).flatten(0, 1))
    handle.remove()
    x, y = torch.cat(normed), torch.cat(wanted)
    centred = x - x.mean(dim=0)
    slope = (centred * (y - y.mean(dim=0))).sum(dim=0) / centred.square().sum(dim=0)
    norm.weight.copy_(slope)
    norm.bias.copy_(y.mean(dim=0) - slope * x.mean(dim=0))
