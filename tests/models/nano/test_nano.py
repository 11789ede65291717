from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.models.nano import IMAGE_SIZE, WEIGHTS_PATH, build_nano, load_nano, optimise_for_cpu
from streamseg.models.nano.architecture import resized
from streamseg.models.nano.prompt_encoder import DensePromptEncoder
from streamseg.models.nano.weights_file import load_into, read_weights, write_weights

# SAM2ImagePredictor scripts its resize; torch has deprecated that, and sam2 has not followed yet.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")


@pytest.fixture(scope="module")
def nano() -> SAM2VideoPredictor:
    return load_nano()


def disc_rgb(centre_xy_px: tuple[int, int] = (160, 120), radius_px: int = 50) -> np.ndarray:
    y, x = np.mgrid[:240, :320]
    rgb = np.full((240, 320, 3), (60, 110, 60), np.uint8)
    rgb[(x - centre_xy_px[0]) ** 2 + (y - centre_xy_px[1]) ** 2 < radius_px**2] = (200, 40, 30)
    return rgb


def image_predictor(model: SAM2VideoPredictor) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(model)
    cells = model.image_size // 16
    predictor._bb_feat_sizes = [(4 * cells, 4 * cells), (2 * cells, 2 * cells), (cells, cells)]
    return predictor


def test_the_weights_fit_strictly_in_float32_and_eval_mode(nano: SAM2VideoPredictor) -> None:
    assert nano.image_size == IMAGE_SIZE == 384
    assert not nano.training
    assert {parameter.dtype for parameter in nano.parameters()} == {torch.float32}


def test_the_weights_file_is_small_enough_for_a_package_and_readable_by_all() -> None:
    assert WEIGHTS_PATH.stat().st_size <= 16 * 2**20
    assert WEIGHTS_PATH.stat().st_mode & 0o044 == 0o044


def test_the_architecture_has_the_documented_number_of_parameters() -> None:
    count = sum(parameter.numel() for parameter in build_nano().parameters())
    assert round(count / 1e6, 1) == 5.8


def test_the_overrides_of_the_published_video_predictor_hold(nano: SAM2VideoPredictor) -> None:
    assert nano.binarize_mask_from_pts_for_mem_enc
    assert nano.fill_hole_area == 0
    assert nano.sam_mask_decoder.dynamic_multimask_via_stability


@pytest.mark.parametrize("image_size", [0, -32, 100])
def test_a_size_that_the_strides_do_not_divide_is_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build_nano(image_size)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    state = read_weights()
    state.pop("no_obj_ptr")
    write_weights(state, tmp_path / "cut.safetensors")
    with pytest.raises(RuntimeError, match="no_obj_ptr"):
        load_into(build_nano(), tmp_path / "cut.safetensors")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        read_weights(tmp_path / "absent.safetensors")


def test_weights_survive_writing_and_reading(tmp_path: Path) -> None:
    state = read_weights()
    write_weights(state, tmp_path / "again.safetensors")
    again = read_weights(tmp_path / "again.safetensors")
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_weights_beyond_fp16_are_refused(tmp_path: Path) -> None:
    state = read_weights() | {"no_obj_ptr": torch.full((1, 128), 1e6)}
    with pytest.raises(ValueError, match="no_obj_ptr"):
        write_weights(state, tmp_path / "huge.safetensors")


def test_folding_changes_no_output(nano: SAM2VideoPredictor) -> None:
    plain = load_nano(optimise=False)
    images = torch.randn(2, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for expected, folded in zip(
            plain.forward_image(images)["backbone_fpn"],
            nano.forward_image(images)["backbone_fpn"],
            strict=True,
        ):
            torch.testing.assert_close(folded, expected, atol=1e-3, rtol=0)
    logits = []
    for model in (plain, nano):
        predictor = image_predictor(model)
        predictor.set_image(disc_rgb())
        logits.append(predictor.predict(np.array([[160, 120]]), np.array([1]))[2])
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-3)


def test_folding_leaves_no_batch_norm_and_may_be_repeated(nano: SAM2VideoPredictor) -> None:
    assert not [m for m in nano.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert optimise_for_cpu(nano) is nano


def test_folding_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        optimise_for_cpu(build_nano())


def test_one_instance_serves_still_images_and_video(nano: SAM2VideoPredictor, tmp_path: Path) -> None:
    predictor = image_predictor(nano)
    predictor.set_image(disc_rgb())
    masks, scores, low = predictor.predict(box=np.array([108, 68, 212, 172]), multimask_output=False)
    assert (masks.shape, scores.shape, low.shape) == ((1, 240, 320), (1,), (1, 96, 96))
    assert masks[0, 120, 160]
    assert not masks[0, 10, 10]

    for index in range(3):
        Image.fromarray(disc_rgb((150 + 10 * index, 120))).save(tmp_path / f"{index}.jpg")
    state = nano.init_state(str(tmp_path))
    nano.add_new_points_or_box(state, 0, obj_id=1, points=[[150, 120]], labels=[1])
    frames = list(nano.propagate_in_video(state))
    assert [index for index, _, _ in frames] == [0, 1, 2]
    assert all(logits.shape == (1, 1, 240, 320) for _, _, logits in frames)
    assert all(torch.isfinite(logits).all() for _, _, logits in frames)


@pytest.fixture(scope="module")
def encoder() -> DensePromptEncoder:
    return DensePromptEncoder(128, (24, 24), (384, 384), 16)


class TestPromptMap:
    def test_a_foreground_click_peaks_at_its_cell(self, encoder: DensePromptEncoder) -> None:
        drawn = encoder.draw(torch.tensor([[[202.0, 102.0]]]), torch.tensor([[1]]))
        assert drawn.shape == (1, 4, 96, 96)
        for channel in (0, 1):
            row, column = divmod(int(drawn[0, channel].argmax()), 96)
            assert (row, column) == (25, 50)
        assert float(drawn[0, 0].max()) == pytest.approx(1.0)
        assert drawn[0, 1].sum() > drawn[0, 0].sum()
        assert not drawn[0, 2:].any()

    def test_a_background_click_goes_to_its_own_channel(self, encoder: DensePromptEncoder) -> None:
        drawn = encoder.draw(torch.tensor([[[202.0, 102.0]]]), torch.tensor([[0]]))
        assert drawn[0, 2].max() > 0.99
        assert not drawn[0, [0, 1, 3]].any()

    def test_a_box_is_filled(self, encoder: DensePromptEncoder) -> None:
        corners = torch.tensor([[[40.0, 80.0], [200.0, 160.0]]])
        box = encoder.draw(corners, torch.tensor([[2, 3]]))[0, 3]
        assert box[30, 30] > 0.99
        assert max(box[10, 30], box[30, 60]) < 0.01
        assert float((box > 0.5).sum()) == 40 * 20

    def test_padding_draws_nothing(self, encoder: DensePromptEncoder) -> None:
        padded = torch.tensor([[[202.0, 102.0], [10.0, 10.0]]])
        drawn = encoder.draw(padded, torch.tensor([[1, -1]]))
        alone = encoder.draw(padded[:, :1], torch.tensor([[1]]))
        torch.testing.assert_close(drawn, alone)

    def test_the_map_only_joins_when_there_are_points(self, encoder: DensePromptEncoder) -> None:
        mask_logits = torch.zeros(1, 1, 96, 96)
        click = (torch.tensor([[[202.0, 102.0]]]), torch.tensor([[1]]))
        _, without = encoder(points=None, boxes=None, masks=mask_logits)
        _, with_click = encoder(points=click, boxes=None, masks=mask_logits)
        expected = without + encoder.prior(encoder.draw(*click))
        torch.testing.assert_close(with_click, expected)


def test_a_twin_of_another_size_shares_the_weights_and_answers_like_one_built_at_that_size(
    nano: SAM2VideoPredictor,
) -> None:
    twin = resized(nano, 448)
    built = build_nano(448)
    load_into(built)
    expected = optimise_for_cpu(built.eval())

    def mask(model: SAM2VideoPredictor) -> np.ndarray:
        predictor = image_predictor(model)
        with torch.inference_mode():
            predictor.set_image(disc_rgb())
            _, _, logits = predictor.predict(np.array([[160.0, 120.0]]), np.array([1]), return_logits=True)
        return logits

    former = mask(nano)
    assert mask(twin).shape[-2:] == (112, 112)
    assert np.array_equal(mask(twin), mask(expected))
    assert nano.image_size == 384
    assert np.array_equal(mask(nano), former)
    assert twin.state_dict().keys() == nano.state_dict().keys()
    assert all(one is other for one, other in zip(twin.parameters(), nano.parameters(), strict=True))
    with pytest.raises(ValueError, match="multiple of 32"):
        resized(nano, 440)
