"""Real models throughout; the big configs have random weights that the tests write, at a small input size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.errors import BadCheckpointError, BadSettingError, ModelUnavailableError
from streamseg.models import build
from streamseg.models.build import LoadedModel, load_model
from streamseg.models.catalog import AUTO_ON_GPU, MODELS
from streamseg.models.configs import build_architecture
from streamseg.models.devices import cuda_available
from streamseg.models.nano import WEIGHTS_PATH, load_nano

TINY = "sam2.1-hiera-tiny"
SIZE = 256


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Two threads that wait for each other are slow on a machine that is busy with other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name: str, **options: Any) -> LoadedModel:
    return load_model(name, **{"device": "cpu", "threads": 1, **options})


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_architecture(MODELS[TINY]).state_dict()


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory, tiny_state: dict[str, torch.Tensor]) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": tiny_state}, path)
    return path


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load("nano")


DISC = np.hypot(*(np.mgrid[:240, :320] - np.array([120, 160]).reshape(2, 1, 1))) < 50


def disc_rgb() -> np.ndarray:
    return np.where(DISC[..., None], (200, 40, 30), (60, 110, 60)).astype(np.uint8)


def click(model: LoadedModel) -> tuple[np.ndarray, np.ndarray]:
    predictor = model.image_predictor()
    with model.inference():
        predictor.set_image(disc_rgb())
        masks, scores, _ = predictor.predict(np.array([[160, 120]]), np.array([1]), multimask_output=True)
    return masks, scores


def test_nano_is_ready_on_the_cpu(nano: LoadedModel) -> None:
    assert (nano.name, nano.device.type, nano.precision, nano.image_size) == ("nano", "cpu", "fp32", 384)
    assert "research-use data" in nano.licence
    assert isinstance(nano.predictor, SAM2VideoPredictor)
    assert not nano.predictor.training


def test_nano_finds_the_object_under_a_click(nano: LoadedModel) -> None:
    masks, scores = click(nano)
    best = masks[scores.argmax()] > 0
    assert (best & DISC).sum() / (best | DISC).sum() > 0.7


def test_nano_is_the_very_model_of_its_room(nano: LoadedModel) -> None:
    theirs, _ = click(replace(nano, predictor=load_nano()))
    ours, _ = click(nano)
    assert np.array_equal(ours, theirs)


def test_inference_has_no_gradients_and_autocasts_only_in_bf16(nano: LoadedModel) -> None:
    with nano.inference():
        assert torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
    with replace(nano, precision="bf16").inference():
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert not torch.is_inference_mode_enabled()


def test_bf16_on_the_cpu_gives_nearly_the_same_mask(nano: LoadedModel) -> None:
    exact, scores = click(nano)
    rough, _ = click(replace(nano, precision="bf16"))
    best = scores.argmax()
    assert ((exact[best] > 0) ^ (rough[best] > 0)).mean() < 0.02


@pytest.mark.skipif(cuda_available(), reason="auto goes on to the hub where there is a GPU")
def test_auto_without_a_gpu_is_nano_and_says_why() -> None:
    model = load("auto", device="auto", warm_up=False)
    assert model.name == "nano"
    assert model.reason == "auto takes nano where no CUDA GPU is in use."


def test_auto_on_a_gpu_takes_the_published_model_and_falls_back_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_state: dict[str, torch.Tensor], serve_hub: Callable[..., Any]
) -> None:
    spec = replace(MODELS[TINY], sha256=None)
    monkeypatch.setitem(build.MODELS, AUTO_ON_GPU, spec)
    save_file(tiny_state, tmp_path / "weights")
    hub = serve_hub(f"{spec.repo_id}/{spec.filename}", (tmp_path / "weights").read_bytes(), status=503)
    monkeypatch.setattr(build, "fetch_checkpoint", partial(build.fetch_checkpoint, endpoint=hub.url))
    refused = build._choose("auto", None, torch.device("cuda"), tmp_path)
    assert refused.spec.name == "nano"
    assert "HTTP status 503" in refused.reason
    assert "--checkpoint FILE" in refused.reason
    hub.status = 200
    taken = build._choose("auto", None, torch.device("cuda"), tmp_path)
    assert taken.spec is spec
    assert taken.licence == "Apache-2.0"
    assert taken.state.keys() == tiny_state.keys()


def test_a_big_config_is_built_from_a_checkpoint_file(tiny_file: Path) -> None:
    model = load(TINY, checkpoint=tiny_file, image_size=SIZE)
    assert (model.name, model.image_size, model.predictor.image_size) == (TINY, SIZE, SIZE)
    assert model.reason == f"{TINY} was asked for, with the checkpoint random.pt."
    assert model.licence == "that of random.pt"
    assert model.predictor.fill_hole_area == 0
    masks, scores = click(model)
    assert masks.shape == (3, 240, 320)
    assert np.isfinite(scores).all()


def test_a_big_model_tracks_as_a_video_predictor(tiny_file: Path) -> None:
    model = load(TINY, checkpoint=tiny_file, image_size=128, warm_up=False)
    predictor = model.predictor
    images = torch.rand(2, 3, 128, 128)
    output: dict[str, dict[int, object]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    points = {"point_coords": torch.tensor([[[64.0, 64.0]]]), "point_labels": torch.tensor([[1]], dtype=torch.int32)}
    with model.inference():
        for index in range(2):
            features = predictor._prepare_backbone_features(predictor.forward_image(images[index : index + 1]))
            kind = "non_cond_frame_outputs" if index else "cond_frame_outputs"
            output[kind][index] = predictor.track_step(
                index, index == 0, features[1], features[2], features[3], None if index else points, None, output, 16
            )
    assert torch.isfinite(output["non_cond_frame_outputs"][1]["pred_masks"]).all()


def test_auto_with_a_checkpoint_takes_the_model_it_belongs_to(tiny_file: Path) -> None:
    big = load("auto", checkpoint=tiny_file, image_size=64, warm_up=False)
    assert big.name == TINY
    assert big.reason == f"The checkpoint random.pt belongs to {TINY}."
    assert load("auto", checkpoint=WEIGHTS_PATH, warm_up=False).name == "nano"


@pytest.mark.parametrize("asked", ["sam2-hiera-tiny", "sam2.1-hiera-small", "nano"])
def test_a_checkpoint_of_another_config_is_refused_naming_both(tiny_file: Path, asked: str) -> None:
    with pytest.raises(BadCheckpointError) as caught:
        load(asked, checkpoint=tiny_file)
    message = caught.value.message
    assert "'random.pt'" in message
    assert repr(MODELS[asked].config) in message
    assert f"It looks like a checkpoint of {TINY}." in message
    assert any(word in message for word in ("missing", "unexpected", "of another shape"))


def test_a_checkpoint_of_no_known_model_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"fc.weight": torch.zeros(3)}}, tmp_path / "resnet.pt")
    with pytest.raises(BadCheckpointError, match=r"resnet\.pt.*is it a SAM 2 checkpoint"):
        load("auto", checkpoint=tmp_path / "resnet.pt")


def test_weights_that_are_not_finite_are_found_at_warm_up(tmp_path: Path) -> None:
    state = {key: value * float("nan") for key, value in load_nano(optimise=False).state_dict().items()}
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(BadCheckpointError, match="not finite"):
        load("nano", checkpoint=tmp_path / "nan.safetensors")


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("sam3", {}, ModelUnavailableError),
        ("nano", {"device": "tpu"}, BadSettingError),
        ("nano", {"precision": "int4"}, BadSettingError),
        ("nano", {"threads": 0}, BadSettingError),
        ("nano", {"image_size": 100}, BadSettingError),
        ("nano", {"checkpoint": Path("none.pt")}, BadCheckpointError),
    ],
)
def test_bad_arguments_are_named_errors(name: str, options: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        load(name, **options)


def test_threads_are_set_for_the_process() -> None:
    load("nano", threads=2, warm_up=False)
    assert torch.get_num_threads() == 2
    load("nano", threads=1, warm_up=False)
    assert torch.get_num_threads() == 1


def test_nano_takes_other_input_sizes() -> None:
    model = load("nano", image_size=SIZE)
    assert model.image_size == SIZE
    masks, _ = click(model)
    assert masks.shape == (3, 240, 320)


def test_where_compiling_fails_the_model_runs_uncompiled_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: no_compiler)
    with caplog.at_level(logging.WARNING):
        model = load("nano", compile=True)
    assert "runs uncompiled: no C++ compiler" in caplog.text
    assert click(model)[0].shape == (3, 240, 320)


def test_a_compiled_encoder_has_seen_the_size_of_every_look_before_the_first_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, int]] = []

    def compiled(forward: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def run(image: torch.Tensor) -> Any:
            sizes.append((image.shape[-2], image.shape[-1]))
            return forward(image)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    load("nano", compile=True, warm_up=False)
    assert sizes == [(384, 384), (448, 448)]


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_mask(nano: LoadedModel) -> None:
    compiled, _ = click(load("nano", compile=True))
    plain, _ = click(nano)
    assert ((compiled > 0) ^ (plain > 0)).mean() < 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not cuda_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_model_runs_in_bf16(nano: LoadedModel) -> None:
    model = load("nano", device="cuda")
    assert model.precision == "bf16"
    exact, scores = click(nano)
    rough, _ = click(model)
    best = scores.argmax()
    assert ((exact[best] > 0) ^ (rough[best] > 0)).mean() < 0.02
