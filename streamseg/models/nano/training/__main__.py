"""Train the embedded model: `python -m streamseg.models.nano.training --data DIR --stage image`."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from streamseg.models.nano.architecture import IMAGE_SIZE, build_nano, resized
from streamseg.models.nano.training.clips import Clip, ClipMaker
from streamseg.models.nano.training.convert import load_checkpoint_into
from streamseg.models.nano.training.dataset import AnnotatedClips, is_held_out, training_images
from streamseg.models.nano.training.frozen_norm import freeze_statistics
from streamseg.models.nano.training.image_stage import Stills, ask, image_loss
from streamseg.models.nano.training.imagenet import load_imagenet
from streamseg.models.nano.training.retention import Retention
from streamseg.models.nano.training.scenes import SceneMaker
from streamseg.models.nano.training.trainer import Schedule, Trainer, freeze_all_but_memory
from streamseg.models.nano.training.video_stage import clip_loss
from streamseg.models.nano.training.warm_start import warm_start_attention, warm_start_heads
from streamseg.models.nano.trunk import EfficientNetLiteTrunk
from streamseg.models.nano.weights_file import WEIGHTS_PATH

_CLIP_FRAMES = (3, 4, 5, 6, 8)
_CLIP_FRAMES_SHARES = (0.3, 0.25, 0.2, 0.15, 0.1)
_WARM_START_CLIPS = 6
_IMAGENET = Path("imagenet")

Batch = list[Clip] | Stills


@dataclass(frozen=True)
class Mix:
    """What the steps are made of.

    Attributes:
        seed: of the whole run.
        clip_share: how many of the steps are clips, in [0, 1].
        clips_per_step: clips of such a step.
        scenes_per_step: stills of any other.
    """

    seed: int
    clip_share: float
    clips_per_step: int
    scenes_per_step: int


class Batches(Dataset[Batch]):
    """The data of every step; each step draws from its own seed, so that a run resumed as it began sees the same."""

    def __init__(self, clips: ClipMaker, scenes: Sequence[SceneMaker], mix: Mix, steps: range) -> None:
        self._clips, self._scenes, self._mix, self._steps = clips, scenes, mix, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self._mix.seed, self._steps[index]])
        if rng.random() < self._mix.clip_share:
            frames = int(rng.choice(_CLIP_FRAMES, p=_CLIP_FRAMES_SHARES))
            return [self._clips.draw(rng, frames) for _ in range(self._mix.clips_per_step)]
        # The scenes of a step share their size.
        scenes = self._scenes[int(rng.integers(len(self._scenes)))]
        return ask([scenes.draw(rng) for _ in range(self._mix.scenes_per_step)], rng)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train one stage."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    # OpenCV's thread pool does not survive the fork into the loader's processes.
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    if options.device.startswith("cuda"):
        # Products may round as the hardware likes best; the weights are kept in float32.
        torch.set_float32_matmul_precision("high")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pid").write_text(str(os.getpid()))

    images = training_images(options.data)
    keys = [key for key in images.keys if not is_held_out(key)]
    scenes = [SceneMaker(images, keys, size) for size in options.still_sizes or [options.image_size]]
    clips = ClipMaker(SceneMaker(images, keys, options.image_size), AnnotatedClips([options.data / "train-video.tar"]))

    model = build_nano(options.image_size)
    if options.weights == _IMAGENET:
        load_imagenet(model.image_encoder.trunk)
    else:
        load_checkpoint_into(model, options.weights)
    # Eval mode: no dropout, and the same choices among masks as when the model is used.
    model.eval().to(torch.device(options.device))
    freeze_statistics(model.image_encoder.trunk)
    if options.warm_start_memory:
        rng = np.random.default_rng([options.seed, 2])
        warm_start_heads(model)
        warm_start_attention(model, [clips.draw(rng, 2) for _ in range(_WARM_START_CLIPS)])
    if options.only_memory:
        freeze_all_but_memory(model)
    retention = None
    if options.retention:
        teacher = EfficientNetLiteTrunk()
        load_imagenet(teacher)
        retention = Retention(model.image_encoder.trunk, teacher).to(model.device)
    schedule = Schedule(options.steps, lr_scale=options.lr_scale, averaging=options.averaging)
    trainer = Trainer(model, schedule, beside=retention)
    checkpoint = options.out / f"{options.stage}.pt"
    if options.resume:
        trainer.load(checkpoint)

    def loss_of(batch: Batch, step: int) -> Tensor:
        rng = np.random.default_rng([options.seed, step, 1])
        if isinstance(batch, list):
            return clip_loss(model, batch, rng)
        loss = image_loss(resized(model, batch.rgbs_nhwc.shape[1]), batch, rng)
        return loss if retention is None else loss + options.retention * retention(batch.rgbs_nhwc)

    clip_share = options.clip_share if options.stage == "video" else 0.0
    if options.only_memory:
        clip_share = 1.0  # stills would teach nothing
    mix = Mix(options.seed, clip_share, options.clips_per_step, options.scenes_per_step)
    batches = Batches(clips, scenes, mix, range(trainer.step, options.steps))
    loader = DataLoader(
        batches, batch_size=None, sampler=SequentialSampler(batches), num_workers=options.workers, prefetch_factor=2
    )
    trainer.run(loader, loss_of, checkpoint, options.save_every)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m streamseg.models.nano.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train-NN.tar and train-video.tar")
    parser.add_argument("--out", type=Path, default=Path(".train"), help="folder for checkpoints")
    parser.add_argument("--stage", choices=["image", "video"], default="image", help="stills alone, or with clips")
    parser.add_argument("--clip-share", type=float, default=0.5, help="share of the video stage's steps spent on clips")
    parser.add_argument("--steps", type=int, default=5000, help="steps of the stage")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS_PATH, help="safetensors file or checkpoint to start from"
    )
    parser.add_argument(
        "--only-memory",
        action="store_true",
        help="with --stage video: the memory parts and the object score, on clips alone; the rest stays as it is",
    )
    parser.add_argument("--warm-start-memory", action="store_true", help="the memory parts were never trained")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the stage's checkpoint, with the same options"
    )
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE, help="side of the training images in pixels")
    parser.add_argument("--still-sizes", type=int, nargs="+", help="sides of the stills, drawn alike; --image-size")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=_positive, default=1, help="processes that draw the data")
    parser.add_argument("--scenes-per-step", type=_positive, default=4, help="stills of a step")
    parser.add_argument("--clips-per-step", type=_positive, default=1, help="clips of a step")
    parser.add_argument("--lr-scale", type=float, default=1.0, help="learning rates relative to the usual ones")
    parser.add_argument("--averaging", type=float, default=0.998, help="decay of the averaged weights per step")
    parser.add_argument(
        "--retention",
        type=float,
        default=0.0,
        help="weight of the loss on stills that keeps the trunk's features close to ImageNet's; needs the package that "
        "--weights imagenet needs",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    options = parser.parse_args(arguments)
    if options.only_memory and options.stage != "video":
        parser.error("--only-memory trains on clips: it needs --stage video")
    if options.retention < 0:
        parser.error("--retention is a weight, 0 or more")
    if options.only_memory and options.retention:
        parser.error("--retention keeps the trunk, which --only-memory leaves as it is")
    if not options.resume and options.weights.resolve() == (options.out / f"{options.stage}.pt").resolve():
        parser.error(f"{options.weights} would be written over: choose another --out, or --resume")
    return options


if __name__ == "__main__":
    main()
