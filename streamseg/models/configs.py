"""A model's architecture, built from its config with random weights."""

from __future__ import annotations

from importlib.resources import files

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.errors import BadSettingError
from streamseg.models.catalog import ModelSpec
from streamseg.models.nano import build_nano

_STRIDE = 16

# What `build_sam2_video_predictor(apply_postprocessing=True)` of sam2 1.1 sets, less the hole filling:
# that lives in a CUDA extension and would be skipped with a warning; `streamseg.segmentation.refine` fills holes.
_VIDEO_PREDICTOR_OVERRIDES = {
    "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
    "binarize_mask_from_pts_for_mem_enc": True,
    "fill_hole_area": 0,
}


def compose(spec: ModelSpec, image_size: int | None = None) -> DictConfig:
    """The config of a published model, as a config of a `SAM2VideoPredictor`.

    It is read from the installed ``sam2`` package by path, never through Hydra's global search path: that belongs
    to the program around us.

    Args:
        spec: a model that is not embedded.
        image_size: side of the square input in pixels, divisible by 32; None keeps the config's 1024.

    Raises:
        BadSettingError: an impossible ``image_size``.
    """
    text = files("sam2").joinpath("configs", *spec.config.split("/")).read_text(encoding="utf-8")
    config = OmegaConf.merge(OmegaConf.create(text).model, _VIDEO_PREDICTOR_OVERRIDES)
    assert isinstance(config, DictConfig)
    if image_size is not None:
        config.image_size = checked_image_size(image_size)
        cells = image_size // _STRIDE
        for attention in ("self_attention", "cross_attention"):
            config.memory_attention.layer[attention].feat_sizes = [cells, cells]
    OmegaConf.resolve(config)
    return config


def build_architecture(spec: ModelSpec, image_size: int | None = None) -> SAM2VideoPredictor:
    """Build a model of the catalog with random weights, on the CPU, in training mode.

    Args:
        spec: a model of the catalog.
        image_size: side of the square input in pixels, divisible by 32; None takes the model's own (1024; nano 384).

    Raises:
        BadSettingError: an impossible ``image_size``.
    """
    if spec.embedded:
        return build_nano() if image_size is None else build_nano(checked_image_size(image_size))
    model = instantiate(compose(spec, image_size), _recursive_=True)
    assert isinstance(model, SAM2VideoPredictor)
    return model


def checked_image_size(image_size: int) -> int:
    """The same number, if a model can have that input size.

    Raises:
        BadSettingError: not a multiple of 32 from 64 to 4096.
    """
    if not 64 <= image_size <= 4096 or image_size % 32:
        raise BadSettingError(f"image_size must be a multiple of 32 from 64 to 4096, not {image_size}.")
    return image_size
