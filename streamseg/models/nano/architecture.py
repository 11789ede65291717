"""The embedded model's architecture: a small SAM 2 out of `sam2`'s own classes.

After Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024), with a convolutional
trunk, heads 128 wide instead of 256, and two memory-attention layers instead of four.
"""

from __future__ import annotations

import copy

from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.models.nano.prompt_encoder import DensePromptEncoder
from streamseg.models.nano.trunk import EfficientNetLiteTrunk

IMAGE_SIZE = 384
"""Side of the model's square input, in pixels."""

_STRIDE = 16
_WIDTH = 128
_MEMORY_WIDTH = 64
_MEMORY_LAYERS = 2


def _position_encoding(width: int) -> PositionEmbeddingSine:
    return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000, warmup_cache=False)


def _image_encoder() -> ImageEncoder:
    trunk = EfficientNetLiteTrunk()
    neck = FpnNeck(
        position_encoding=_position_encoding(_WIDTH),
        d_model=_WIDTH,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention(cells: int) -> MemoryAttention:
    attention = {
        "rope_theta": 10000.0,
        "feat_sizes": [cells, cells],
        "embedding_dim": _WIDTH,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.1,
    }
    layer = MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=4 * _WIDTH,
        dropout=0.1,
        pos_enc_at_attn=False,
        self_attention=RoPEAttention(**attention),
        d_model=_WIDTH,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(**attention, rope_k_repeat=True, kv_in_dim=_MEMORY_WIDTH),
    )
    return MemoryAttention(d_model=_WIDTH, pos_enc_at_input=True, layer=layer, num_layers=_MEMORY_LAYERS)


def _memory_encoder() -> MemoryEncoder:
    block = CXBlock(dim=_WIDTH, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True)
    return MemoryEncoder(
        out_dim=_MEMORY_WIDTH,
        in_dim=_WIDTH,
        position_encoding=_position_encoding(_MEMORY_WIDTH),
        mask_downsampler=MaskDownSampler(embed_dim=_WIDTH, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(block, num_layers=2),
    )


def build_nano(image_size: int = IMAGE_SIZE) -> SAM2VideoPredictor:
    """Build the embedded model with random weights, in training mode, on the CPU.

    The flags are those of `sam2.1_hiera_t.yaml` with the overrides of `build_sam2_video_predictor`,
    so that it behaves like the published models; only holes are not filled, since that lives in a
    CUDA extension of `sam2`.

    Args:
        image_size: side of the square input in pixels, divisible by 32. Weights fit every size.

    Returns:
        A model that serves `SAM2VideoPredictor`'s interface itself and, as the `sam_model` of a
        `SAM2ImagePredictor`, single images: one copy of the weights for both. The image predictor
        assumes 1024 px: set its `_bb_feat_sizes` to 1/4, 1/8 and 1/16 of `image_size`.

    Raises:
        ValueError: `image_size` is not a positive multiple of 32.
    """
    cells = _cells(image_size)
    model = SAM2VideoPredictor(
        image_encoder=_image_encoder(),
        memory_attention=_memory_attention(cells),
        memory_encoder=_memory_encoder(),
        num_maskmem=7,
        image_size=image_size,
        backbone_stride=_STRIDE,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        use_mlp_for_obj_ptr_proj=True,
        binarize_mask_from_pts_for_mem_enc=True,
        fill_hole_area=0,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    )
    model.sam_prompt_encoder = DensePromptEncoder(
        embed_dim=_WIDTH,
        image_embedding_size=(cells, cells),
        input_image_size=(image_size, image_size),
        mask_in_chans=16,
    )
    return model


def resized(model: SAM2VideoPredictor, image_size: int) -> SAM2VideoPredictor:
    """The same model for square inputs of another side, on the same weights, buffers and device.

    The two may take turns; what trains one trains the other.

    Args:
        model: from `build_nano`.
        image_size: side of the new model's input in pixels, divisible by 32.

    Raises:
        ValueError: `image_size` is not a positive multiple of 32.
    """
    cells = _cells(image_size)
    # Only what knows the size is doubled: the model itself and its prompt encoder, without their parts.
    twin, encoder = copy.copy(model), copy.copy(model.sam_prompt_encoder)
    twin._modules = {**model._modules, "sam_prompt_encoder": encoder}
    twin.image_size, twin.sam_image_embedding_size = image_size, cells
    encoder.input_image_size = (image_size, image_size)
    encoder.image_embedding_size = (cells, cells)
    encoder.mask_input_size = (4 * cells, 4 * cells)
    return twin


def _cells(image_size: int) -> int:
    if image_size <= 0 or image_size % 32:
        raise ValueError(f"image_size must be a positive multiple of 32, not {image_size}")
    return image_size // _STRIDE
