"""One training step on clips: a prompt on the first frame, then tracking through the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from streamseg.models.nano.training.clips import Clip
from streamseg.models.nano.training.image_stage import normalised_nchw
from streamseg.models.nano.training.losses import DecoderOutput, prediction_loss, soft_targets
from streamseg.models.nano.training.prompts import correction_click, jittered_box_xyxy, random_click_xy

_STRIDE = 4
_SMALLEST_VISIBLE_PX = 60
_KINDS = ("mask", "box", "click")
_KIND_SHARES = (0.5, 0.25, 0.25)
_GAP_RATE = 0.25
_LARGEST_GAP = 14
_CORRECTION_RATE = 0.15
_TOLD_RATE = 0.5
_SURE_LOGIT = 10.0
_READING_WEIGHT = 0.7


class _Tap:
    """Keeps what memory and decoder said, and may correct the word on whether there is an object.

    Attributes:
        heard: the decoder's output of every call.
        fused: the features (P, C, h, w) of the last frame after the memory.
        told: bool (P,) or None; if set, the tracker goes on with this instead of the score.
    """

    def __init__(self) -> None:
        self.heard: list[DecoderOutput] = []
        self.fused = torch.empty(0)
        self.told: Tensor | None = None

    @contextmanager
    def on(self, model: SAM2VideoPredictor) -> Iterator[None]:
        """Listen to a model inside a `with` block."""
        decoder = model.sam_mask_decoder
        original = decoder.predict_masks

        def predict_masks(**arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            masks, ious, tokens, object_logits = original(**arguments)
            self.heard.append(DecoderOutput(masks, ious, object_logits))
            if self.told is not None:
                object_logits = (2 * self.told[:, None].to(object_logits.dtype) - 1) * _SURE_LOGIT
            return masks, ious, tokens, object_logits

        fuse = model._prepare_memory_conditioned_features

        def prepare(**arguments: Any) -> Tensor:
            self.fused = fuse(**arguments)
            return self.fused

        decoder.predict_masks = predict_masks
        model._prepare_memory_conditioned_features = prepare
        try:
            yield
        finally:
            del decoder.predict_masks
            del model._prepare_memory_conditioned_features


def clip_loss(model: SAM2VideoPredictor, clips: Sequence[Clip], rng: Generator) -> Tensor:
    """Track the objects of clips with the model's own `track_step`, and mark every frame.

    The trunk gets no gradient here (stills teach it), which makes a frame three times cheaper.

    Args:
        model: the model in eval mode, so that it chooses among masks as when it is used.
        clips: of one length and of the model's size. They share the kind of prompt, the jump after the first frame,
            the frame of a correction and whether the tracker is told what is there; their objects count alike.
        rng: chooses the prompts.

    Returns:
        A scalar loss with its graph.
    """
    device = model.device
    masks_ntw = np.concatenate([clip.masks_ntw for clip in clips])
    masks_on_device_ntw = torch.from_numpy(masks_ntw).to(device)
    frames = masks_ntw.shape[1]
    counts = torch.tensor([len(clip.masks_ntw) for clip in clips], device=device)
    first_frame_indices = torch.repeat_interleave(counts) * frames
    targets = torch.stack([soft_targets(masks_on_device_ntw[:, t], _STRIDE) for t in range(frames)])
    present = masks_on_device_ntw.sum(dim=(2, 3)).T >= _SMALLEST_VISIBLE_PX
    features, positions = encode_frames(model, normalised_nchw(np.concatenate([clip.rgbs for clip in clips]), device))

    kind = str(rng.choice(_KINDS, p=_KIND_SHARES))
    # A jump after the first frame stands for a long clip, where the prompt lies far back.
    gap = int(rng.integers(1, _LARGEST_GAP + 1)) if rng.random() < _GAP_RATE else 0
    corrected_frame = int(rng.integers(1, frames)) if rng.random() < _CORRECTION_RATE else -1
    told = rng.random() < _TOLD_RATE
    memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    losses: list[Tensor] = []
    outside, inside = mask_embedding_ends(model)
    covers = F.avg_pool2d(targets, model.backbone_stride // _STRIDE)
    tap = _Tap()
    with tap.on(model):
        for t in range(frames):
            tap.told = present[t] if told else None
            frame_indices = first_frame_indices + t
            step = frame_arguments(model, features, positions, frame_indices)
            step |= {"frame_idx": t + gap if t else 0, "output_dict": memory, "num_frames": 1000}
            if t == 0:
                points, masks = _first_prompts(kind, masks_ntw[:, 0], masks_on_device_ntw[:, 0], rng)
                output = model.track_step(is_init_cond_frame=True, point_inputs=points, mask_inputs=masks, **step)
                memory["cond_frame_outputs"][0] = output
            else:
                output = model.track_step(is_init_cond_frame=False, point_inputs=None, mask_inputs=None, **step)
                memory["non_cond_frame_outputs"][t + gap] = output
            if t:
                plain = features[-1][frame_indices] + model.no_mem_embed.view(-1, 1, 1)
                losses.append(_READING_WEIGHT * reading_loss(tap.fused - plain, outside, inside, covers[t]))
            # From a mask the decoder only makes the pointer; its own masks are not shown.
            if t or kind != "mask":
                losses.append(
                    prediction_loss(tap.heard[-1], targets[t], present[t], ambiguous=bool(t) or kind == "click")
                )
            if t == corrected_frame:
                output = _correct(model, output, masks_ntw[:, t], step, rng)
                memory["non_cond_frame_outputs"][t + gap] = output
                losses.append(prediction_loss(tap.heard[-1], targets[t], present[t], ambiguous=True))
    total: Tensor = torch.stack(losses).sum() / frames
    return total


@torch.no_grad()
def mask_embedding_ends(model: SAM2VideoPredictor) -> tuple[Tensor, Tensor]:
    """What a carried mask adds to the features far outside and well inside the object, (C,) each.

    It is counted from what a tracked frame without a prompt adds anyway, so that memory which adds the
    one or the other tells the decoder as much as a mask prompt would.
    """
    encoder = model.sam_prompt_encoder
    side = encoder.mask_input_size[0]
    ends = torch.tensor([-_SURE_LOGIT, _SURE_LOGIT], device=model.device).view(2, 1, 1, 1).expand(2, 1, side, side)
    nothing = (torch.zeros(1, 1, 2, device=model.device), -torch.ones(1, 1, device=model.device))
    _, unprompted = encoder(points=nothing, boxes=None, masks=None)
    middle = encoder.mask_downscaling(ends) - unprompted
    outside, inside = middle[:, :, middle.shape[2] // 2, middle.shape[3] // 2]
    return outside, inside


def reading_loss(added: Tensor, outside: Tensor, inside: Tensor, covers: Tensor) -> Tensor:
    """How well the object can be read off what the memory added, along the line from outside to inside.

    The way from a mask through memory and decoder back to a mask is long; this marks its first half
    alone, in the direction that the decoder knows from mask prompts, and so shows the attention
    early that the remembered mask matters.

    Args:
        added: (P, C, h, w), features with memory minus features without.
        outside: (C,), see `mask_embedding_ends`.
        inside: (C,).
        covers: (P, h, w), the share of object in each cell.

    Returns:
        A scalar: a dice loss for unbounded values.
    """
    line = inside - outside
    read = torch.einsum("pchw,c->phw", added - outside.view(-1, 1, 1), line / line.square().sum())
    overlap = (read * covers).sum(dim=(1, 2))
    total = read.square().sum(dim=(1, 2)) + covers.square().sum(dim=(1, 2))
    return (1 - (2 * overlap + 0.1) / (total + 0.1)).mean()


def encode_frames(model: SAM2VideoPredictor, images_nchw: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    encoder = model.image_encoder
    with torch.no_grad():
        maps = encoder.trunk(images_nchw)
    features, positions = encoder.neck(maps)
    features, positions = features[: -encoder.scalp], positions[: -encoder.scalp]
    features[0] = model.sam_mask_decoder.conv_s0(features[0])
    features[1] = model.sam_mask_decoder.conv_s1(features[1])
    return features, positions


def frame_arguments(
    model: SAM2VideoPredictor, features: list[Tensor], positions: list[Tensor], frame_indices: Tensor
) -> dict[str, Any]:
    frame = {
        "backbone_fpn": [level[frame_indices] for level in features],
        "vision_pos_enc": [level[:1].expand(len(frame_indices), -1, -1, -1) for level in positions],
    }
    _, vision, vision_positions, sizes = model._prepare_backbone_features(frame)
    return {"current_vision_feats": vision, "current_vision_pos_embeds": vision_positions, "feat_sizes": sizes}


def _first_prompts(
    kind: str, masks_nhw: NDArray[np.uint8], on_device_nhw: Tensor, rng: Generator
) -> tuple[dict[str, Tensor] | None, Tensor | None]:
    if kind == "mask":
        return None, on_device_nhw[:, None].float()
    masks = masks_nhw.astype(bool)
    if kind == "box":
        points = np.stack([jittered_box_xyxy(mask, rng).reshape(2, 2) for mask in masks])
        labels = np.tile(np.array([2, 3], np.int32), (len(masks), 1))
    else:
        points = np.array([[random_click_xy(mask, rng)] for mask in masks], np.float64)
        labels = np.ones((len(masks), 1), np.int32)
    return _point_inputs(points, labels, on_device_nhw.device), None


def _point_inputs(points: NDArray[Any], labels: NDArray[np.int32], device: torch.device) -> dict[str, Tensor]:
    return {
        "point_coords": torch.from_numpy(points.astype(np.float32)).to(device),
        "point_labels": torch.from_numpy(labels).to(device),
    }


def _correct(
    model: SAM2VideoPredictor,
    output: dict[str, Any],
    masks_nhw: NDArray[np.uint8],
    step: dict[str, Any],
    rng: Generator,
) -> dict[str, Any]:
    """Click once into the error of every object on a tracked frame."""
    shown = output["pred_masks_high_res"][:, 0].detach().cpu().numpy() > 0
    clicks = np.array([correction_click(s, w, rng) for s, w in zip(shown, masks_nhw.astype(bool), strict=True)])
    points = _point_inputs(clicks[:, None, :2] + 0.5, clicks[:, 2:].astype(np.int32), model.device)
    corrected: dict[str, Any] = model.track_step(
        is_init_cond_frame=False,
        point_inputs=points,
        mask_inputs=None,
        prev_sam_mask_logits=output["pred_masks"].detach().clamp(-32, 32),
        **step,
    )
    return corrected
