"""Annotated clips, what to point at on their first frames, and tables of how well the masks that follow fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from metrics import Mask, clip_j_and_f

from streamseg.media.frame import RgbImage
from streamseg.models.build import LoadedModel
from streamseg.models.catalog import MODELS, NANO
from streamseg.models.nano import WEIGHTS_PATH, build_nano, optimise_for_cpu
from streamseg.models.nano.training.convert import load_checkpoint_into
from streamseg.models.nano.training.dataset import AnnotatedClips
from streamseg.models.nano.training.prompts import box_xyxy, centre_click_xy
from streamseg.segmentation.prompts import Prompt

PROMPTS = ("mask", "box", "click")

Clip: TypeAlias = tuple[list[RgbImage], list[Mask]]
Table: TypeAlias = dict[str, dict[str, float]]


def load_nano(weights: Path = WEIGHTS_PATH) -> LoadedModel:
    """The embedded model with the weights of a safetensors file or, averaged, of a training checkpoint."""
    predictor = build_nano()
    load_checkpoint_into(predictor, weights)
    predictor = optimise_for_cpu(predictor.eval())
    size, spec = int(predictor.image_size), MODELS[NANO]
    return LoadedModel(
        NANO, predictor, torch.device("cpu"), "fp32", "", "", size, spec.clicks_in_turn, spec.second_look
    )


def evaluation_clips(data_dir: Path) -> dict[str, Clip]:
    """The clips of ``eval-video.tar`` (`CLIP/FRAME.jpg` and `.png`, object = 1), decoded, by name."""
    stored = AnnotatedClips([data_dir / "eval-video.tar"])
    loaded = {}
    for name in stored.names:
        frames = [stored.load(name, index) for index in range(stored.length(name))]
        loaded[name] = ([rgb for rgb, _ in frames], [mask for _, mask in frames])
    return loaded


def first_prompt(first: Mask, kind: str) -> Prompt:
    """What is said on frame 0 of the object that is in ``first``.

    Args:
        first: bool (H, W).
        kind: `mask`; `box`, the mask's, right and bottom past the last pixel; or `click`, at the centre of the pixel
            that is farthest from the mask's outside.
    """
    if kind == "mask":
        return Prompt(mask=first)
    if kind == "box":
        return Prompt(box_xyxy_px=box_xyxy(first))
    x, y = centre_click_xy(first)
    return Prompt(points_xy_px=[(x + 0.5, y + 0.5)], labels=[1])


def clip_figures(
    follow: Callable[[list[RgbImage], Prompt], list[Mask]], clips: dict[str, Clip], kinds: Sequence[str]
) -> Table:
    """J, F and their mean for every clip and over all, by kind of the first frame's prompt.

    Args:
        follow: gives a mask for every frame of a clip.
        clips: by name.
        kinds: of ``PROMPTS``.
    """
    table: Table = {}
    for name, (rgbs, wanted) in clips.items():
        row: dict[str, float] = {}
        for kind in kinds:
            j, f = clip_j_and_f(follow(rgbs, first_prompt(wanted[0], kind)), wanted)
            row |= {f"{kind} J": j, f"{kind} F": f, f"{kind} J&F": (j + f) / 2}
        table[name] = {key: round(value, 4) for key, value in row.items()}
    table["mean"] = {key: round(float(np.mean([row[key] for row in table.values()])), 4) for key in row}
    return table


def print_table(title: str, table: Table) -> None:
    columns = list(next(iter(table.values())))
    print(f"\n{title}\n{'':16s}" + "".join(f"{column:>12s}" for column in columns))
    for name, row in table.items():
        print(f"{name:16s}" + "".join(f"{row[column]:12.3f}" for column in columns))
