"""Measure the embedded model's masks: clicks and boxes on images, tracking on clips.

    python benchmarks/nano_quality.py --data DIR            the evaluation files, for reporting
    python benchmarks/nano_quality.py --data DIR --dev      the held-out training images, for choices
    python benchmarks/nano_quality.py --data DIR --dev --only large     small objects of large pictures
    python benchmarks/nano_quality.py --data DIR --dev --only crowds    one of several alike, mostly people
    python benchmarks/nano_quality.py --only cost           milliseconds of a tracked frame

Images: up to two largest instances over 150 px each; the click is at the maximum of the distance
transform, each further click at the centre of the largest error, all given at once; the box is the
mask's, right and bottom past the last pixel. Counted is the mask that `streamseg` gives for it.
Large pictures: mosaics of 3 x 3 held-out images (1,152 px), with and without the second look.
Crowds: held-out objects of one kind pasted side by side on held-out pictures, mostly streets.
Clips: a prompt on the first frame, tracked forward by `SAM2VideoPredictor`; J and F over the frames
without first and last. The dev split's clips are made from held-out images.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("TQDM_DISABLE", "1")

import cv2
import numpy as np
import timm
import torch
from annotated_clips import PROMPTS, Clip, Table, clip_figures, evaluation_clips, load_nano, print_table
from metrics import Mask, iou
from numpy.typing import NDArray
from reference_tracker import say

from streamseg.engine import Engine
from streamseg.media.frame import Frame, RgbImage
from streamseg.models.build import LoadedModel
from streamseg.models.nano import WEIGHTS_PATH
from streamseg.models.nano.training.clips import ClipMaker
from streamseg.models.nano.training.dataset import (
    IGNORED_ID,
    AnnotatedImages,
    is_held_out,
    source_of,
    training_images,
)
from streamseg.models.nano.training.prompts import box_xyxy, centre_click_xy, correction_click
from streamseg.models.nano.training.scenes import SceneMaker
from streamseg.models.nano.trunk import TRUNK_NAME
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.prompts import Prompt

_SMALLEST_INSTANCE_PX = 150
_INSTANCES_PER_IMAGE = 2
# The sources of the dev split whose objects are what people click.
_MAIN_DEV_SOURCES = ("ecssd", "duts", "horse", "human", "ccp")
_DEV_CLIPS = 24
_MOSAICS = 30
_CROWDS = 80
_TILE_PX = 384
_DEV_CLIP_FRAMES = 16
# From here on every slot of the memory and of the pointers is taken.
_FULL_MEMORY_FRAMES = 17


COLUMNS = ("1 click", "box", "3 clicks", "score error")
Figures: TypeAlias = tuple[float, float, float, float]


def instances(key: str, ids: NDArray[np.uint8]) -> list[Mask]:
    """The instances of an image to ask for, largest first."""
    labelled = (ids != 0) & (ids != IGNORED_ID)
    # Of clothing parts the person is asked for.
    masks = [labelled] if source_of(key) == "ccp" else [ids == value for value in np.unique(ids[labelled])]
    return _largest(masks)


def _largest(masks: list[Mask]) -> list[Mask]:
    masks = [mask for mask in masks if mask.sum() > _SMALLEST_INSTANCE_PX]
    return sorted(masks, key=lambda mask: -int(mask.sum()))[:_INSTANCES_PER_IMAGE]


def image_figures(model: LoadedModel, images: AnnotatedImages, keys: list[str]) -> Table:
    """Mean IoU by source and over all: one click, box, three clicks; and the score's mean error."""
    engine = Engine(model)
    found: dict[str, list[Figures]] = {}
    for key in keys:
        rgb, ids = images.load(key)
        pipeline = Pipeline(engine, StreamOptions(second_look=True))
        rows = [_figures(pipeline, Frame(rgb, 0, 0.0), wanted) for wanted in instances(key, ids)]
        found.setdefault(source_of(key), []).extend(rows)
    engine.close()
    table = {source: _means(COLUMNS, rows) for source, rows in sorted(found.items())}
    table["all"] = _means(COLUMNS, [row for rows in found.values() for row in rows])
    main = [row for source in _MAIN_DEV_SOURCES for row in found.get(source, [])]
    if main and len(found) > 3:
        table["main"] = _means(COLUMNS, main)
    return table


def large_figures(model: LoadedModel, images: AnnotatedImages, keys: list[str]) -> Table:
    """The same of whole objects in mosaics, a ninth of the picture each, without and with a second look at them."""
    engine = Engine(model)
    tiles = [key for key in keys if source_of(key) in _MAIN_DEV_SOURCES]
    rng = np.random.default_rng(1)
    found: dict[str, list[Figures]] = {"once": [], "twice": []}
    for _ in range(_MOSAICS):
        rgb = np.zeros((3 * _TILE_PX, 3 * _TILE_PX, 3), np.uint8)
        wanted_nhw = []
        for place, key in enumerate(rng.choice(tiles, 9, replace=False)):
            tile_rgb, ids = images.load(str(key))
            rows, columns = (slice(at * _TILE_PX, (at + 1) * _TILE_PX) for at in divmod(place, 3))
            rgb[rows, columns] = cv2.resize(tile_rgb, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
            for mask in instances(str(key), ids)[:1]:
                wanted = np.zeros(rgb.shape[:2], bool)
                small = cv2.resize(mask.astype(np.uint8), (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_NEAREST)
                wanted[rows, columns] = small > 0
                wanted_nhw.append(wanted)
        for name, second_look in (("once", False), ("twice", True)):
            pipeline, frame = Pipeline(engine, StreamOptions(second_look=second_look)), Frame(rgb, 0, 0.0)
            found[name] += [_figures(pipeline, frame, wanted) for wanted in wanted_nhw[:3]]
    engine.close()
    return {name: _means(COLUMNS, rows) for name, rows in found.items()}


def crowd_figures(model: LoadedModel, images: AnnotatedImages, keys: list[str]) -> Table:
    """The same of the two largest in each of some pasted crowds."""
    engine = Engine(model)
    scenes = SceneMaker(images, keys, _TILE_PX)
    rows: list[Figures] = []
    for index in range(_CROWDS):
        rgb, targets = scenes.crowd(np.random.default_rng([11, index]))
        pipeline = Pipeline(engine, StreamOptions(second_look=True))
        largest = _largest([target.mask for target in targets])
        rows += [_figures(pipeline, Frame(rgb, 0, 0.0), wanted) for wanted in largest]
    engine.close()
    return {"crowds": _means(COLUMNS, rows)}


def _figures(pipeline: Pipeline, frame: Frame, wanted: Mask) -> Figures:
    # The very same frame is encoded once.
    box_mask, _ = _ask(pipeline, frame, box_xyxy_px=box_xyxy(wanted))
    points, labels = [centre_click_xy(wanted)], [1]
    click_mask, score = _ask(pipeline, frame, points, labels)
    mask = click_mask
    for _ in range(2):
        x, y, label = correction_click(mask, wanted)
        points, labels = [*points, (x, y)], [*labels, label]
        mask, _ = _ask(pipeline, frame, points, labels)
    one = iou(click_mask, wanted)
    return one, iou(box_mask, wanted), iou(mask, wanted), abs(score - one)


def _means(columns: tuple[str, ...], rows: list[tuple[float, ...]]) -> dict[str, float]:
    means = np.mean(np.array(rows), axis=0)
    return {"n": len(rows), **{name: round(float(value), 4) for name, value in zip(columns, means, strict=True)}}


def _ask(
    pipeline: Pipeline,
    frame: Frame,
    points_xy: Sequence[tuple[int, int]] = (),
    labels: Sequence[int] = (),
    box_xyxy_px: tuple[int, int, int, int] | None = None,
) -> tuple[Mask, float]:
    pipeline.reset()
    # A pixel's click is at its centre.
    points_xy_px = [(x + 0.5, y + 0.5) for x, y in points_xy]
    pipeline.add_prompt(Prompt(1, 0, points_xy_px, labels, box_xyxy_px))
    (one,) = pipeline.process(frame).objects
    return one.mask, one.score


@torch.inference_mode()
def track(model: Any, rgbs: list[RgbImage], prompt: Prompt) -> list[Mask]:
    """Masks of an object on every frame, from a prompt on the first one.

    Args:
        model: a `SAM2VideoPredictor`.
        rgbs: frames, uint8 (H, W, 3).
        prompt: of frame 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_frames(rgbs, Path(folder))
        state = model.init_state(folder)
    say(model, state, prompt)
    return [(logits[0, 0] > 0).cpu().numpy() for _, _, logits in model.propagate_in_video(state)]


@torch.inference_mode()
def cost_figures(model: Any, frames: int = 32) -> Table:
    """Milliseconds of a tracked frame with a full memory, beside a forward pass of the bare trunk network.

    The two alternate, and medians count, so that other work on the machine disturbs both alike.
    """
    bare = timm.create_model(TRUNK_NAME, pretrained=False).eval()
    size = model.image_size
    rng = np.random.default_rng(0)
    rgbs = [rng.integers(0, 255, (size, size, 3), np.uint8) for _ in range(frames)]
    first = np.zeros((size, size), bool)
    first[size // 4 : size // 2, size // 4 : size // 2] = True
    image = torch.zeros(1, 3, size, size)
    tracked_ms, bare_ms, encode_ms = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        _write_frames(rgbs, Path(folder))
        state = model.init_state(folder)
    model.add_new_mask(state, 0, 1, first)
    tracking = model.propagate_in_video(state)
    for index in range(frames):
        tracked = _milliseconds(lambda: next(tracking))
        if index >= _FULL_MEMORY_FRAMES:
            tracked_ms.append(tracked)
            bare_ms.append(_milliseconds(lambda: bare(image)))
            encode_ms.append(_milliseconds(lambda: model.forward_image(image)))
    bare_median = float(np.median(bare_ms))
    rows = {"bare trunk network": bare_ms, "encode": encode_ms, "tracked frame": tracked_ms}
    return {
        name: {"ms": round(float(np.median(values)), 1), "times bare": round(float(np.median(values)) / bare_median, 2)}
        for name, values in rows.items()
    }


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _write_frames(rgbs: list[NDArray[np.uint8]], folder: Path) -> None:
    for index, rgb in enumerate(rgbs):
        path = str(folder / f"{index:05d}.jpg")
        cv2.imwrite(path, np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])


def _dev_clips(images: AnnotatedImages, keys: list[str]) -> dict[str, Clip]:
    clips = ClipMaker(SceneMaker(images, keys, 384))
    loaded = {}
    for index in range(_DEV_CLIPS):
        rng = np.random.default_rng([7, index])
        while True:
            clip = clips.draw(rng, _DEV_CLIP_FRAMES)
            if clip.masks_ntw[0, 0].sum() > 10 * _SMALLEST_INSTANCE_PX:
                break
        loaded[f"clip {index:02d}"] = (list(clip.rgbs), [mask.astype(bool) for mask in clip.masks_ntw[0]])
    return loaded


def main() -> None:
    """Parse the command line, measure, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the tar files")
    parser.add_argument("--dev", action="store_true", help="measure on the held-out training images")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_PATH, help="safetensors file or training checkpoint")
    parser.add_argument("--only", choices=["images", "large", "crowds", "clips", "cost"], help="measure one part")
    parser.add_argument("--prompts", nargs="+", choices=PROMPTS, default=list(PROMPTS), help="first-frame prompts")
    parser.add_argument("--no-second-look", action="store_true", help="images and crowds: the weights alone")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    model = load_nano(options.weights)
    if options.no_second_look:
        model = replace(model, second_look=False)
    tables: dict[str, Table] = {}
    parts: Iterator[tuple[str, Callable[[], Table]]] = _parts(model, options)
    for title, measure in parts:
        tables[title] = measure()
        print_table(title, tables[title])
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1))


def _parts(model: LoadedModel, options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.only == "cost":
        yield "cost of a frame, one object", lambda: cost_figures(model.predictor)
        return
    if options.dev:
        images = training_images(options.data)
        keys = [key for key in images.keys if is_held_out(key)]
    elif options.only != "clips":
        images = AnnotatedImages([options.data / "eval-images.tar"])
        keys = images.keys
    split = "dev" if options.dev else "eval"
    if options.only == "large":
        yield f"large pictures, {split}", lambda: large_figures(model, images, keys)
        return
    if options.only == "crowds":
        yield f"crowds, {split}", lambda: crowd_figures(model, images, keys)
        return
    if options.only != "clips":
        yield f"images, {split}", lambda: image_figures(model, images, keys)
    if options.only != "images":
        clips = _dev_clips(images, keys) if options.dev else evaluation_clips(options.data)
        yield (
            f"clips, {split}",
            lambda: clip_figures(lambda rgbs, prompt: track(model.predictor, rgbs, prompt), clips, options.prompts),
        )


if __name__ == "__main__":
    main()
