from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch.overrides import TorchFunctionMode

from streamseg.errors import BadSettingError
from streamseg.models.catalog import MODELS
from streamseg.models.checkpoint_file import recognise
from streamseg.models.configs import build_architecture, compose

TINY = MODELS["sam2.1-hiera-tiny"]


class _RealRates(TorchFunctionMode):
    """Hiera reads its drop rates out of a tensor, which a tensor without data cannot give."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        if func is torch.Tensor.to and args[0].is_meta:  # sam2 moves a table to the GPU where there is one
            return args[0]
        return func(*args, **kwargs)


@contextmanager
def no_data() -> Iterator[None]:
    with torch.device("meta"), _RealRates():
        yield


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_every_model_has_the_documented_number_of_parameters_and_is_recognised(spec) -> None:
    with no_data():
        model = build_architecture(spec)
    assert isinstance(model, SAM2VideoPredictor)
    assert model.image_size == (384 if spec.embedded else 1024)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(spec.parameters_m, abs=0.1)
    assert recognise(model.state_dict()) == spec.name


def test_a_model_is_built_as_the_sam2_package_builds_its_video_predictor() -> None:
    ours = build_architecture(TINY)
    theirs = build_sam2_video_predictor(f"configs/{TINY.config}", device="cpu")
    assert theirs.fill_hole_area == 8
    assert ours.fill_hole_area == 0
    theirs.fill_hole_area = 0
    settings = {key: value for key, value in vars(theirs).items() if isinstance(value, bool | int | float | dict)}
    for name, value in settings.items():
        if not name.startswith("_") and name != "training":
            assert getattr(ours, name) == value, name
    assert ours.sam_mask_decoder.dynamic_multimask_via_stability
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


def test_another_image_size_reaches_every_part() -> None:
    with no_data():
        model = build_architecture(TINY, image_size=256)
    assert model.image_size == 256
    assert model.sam_image_embedding_size == 16
    assert model.memory_attention.layers[0].self_attn.freqs_cis.shape[0] == 16 * 16
    assert model.memory_attention.layers[0].cross_attn_image.freqs_cis.shape[0] == 16 * 16


@pytest.mark.parametrize("image_size", [0, -256, 100, 32, 8192])
@pytest.mark.parametrize("name", ["nano", "sam2.1-hiera-tiny"])
def test_an_impossible_image_size_is_a_named_error(name: str, image_size: int) -> None:
    with pytest.raises(BadSettingError, match="multiple of 32"):
        build_architecture(MODELS[name], image_size=image_size)


def test_a_program_with_its_own_hydra_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("answer: 42\n")
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(tmp_path), version_base="1.2"):
            assert compose(TINY).image_size == 1024
            with no_data():
                build_architecture(TINY)
            assert hydra_compose("mine").answer == 42
    finally:
        GlobalHydra.instance().hydra = before
