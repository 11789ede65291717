"""What a tracked frame costs with more and more objects, beside the official per-object loop.

Milliseconds per frame, median, from the frame on which every memory is full: encoding, tracking, and masks at the
frame's size, for 1 to 16 objects prompted on the first frame; for 8 that joined on different frames, each with one
conditioning frame; and for the worst case, 8 objects with 1 to 8 conditioning frames, of which no two can share a
batch of memory attention. "official" is ``SAM2VideoPredictor`` driven causally (``reference_tracker.py``). All cases
take turns on every frame in one process, so that other work on the machine disturbs them alike. Then the parts of one
frame, from timers around the functions that do them.

    python benchmarks/tracking_objects.py [CLIP] [--frames 24] [--model nano|random-tiny] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from reference_tracker import CausalReference
from tracking_inputs import random_tiny, read

from streamseg.cli.samples import find_samples
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel, load_model
from streamseg.segmentation import track_step
from streamseg.segmentation.lift import lift
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.tracking import Tracker

COUNTS = (1, 2, 4, 8, 16)
MANY = 8
PROMPT_STEP = 2
LAST_PROMPT = PROMPT_STEP * (MANY - 1)
# So many frames after an object's last prompt every slot of its memory and of its pointers is taken.
FULL_MEMORY_FRAMES = 17
FIRST_COUNTED = LAST_PROMPT + FULL_MEMORY_FRAMES
COLUMNS, ROWS = 4, 4
PARTS = ("encode", "attention", "decoder", "memory", "rest")


class PartTimer:
    """Milliseconds in the parts of a frame since they were last taken, ours and the official predictor's alike."""

    def __init__(self, model: LoadedModel) -> None:
        self._ms: dict[str, float] = {}
        predictor: Any = model.predictor
        parts: tuple[tuple[str, Any, str], ...] = (
            ("encode", predictor, "forward_image"),
            ("attention", predictor, "_prepare_memory_conditioned_features"),
            ("attention", track_step, "_attend"),
            ("decoder", predictor, "_forward_sam_heads"),
            ("memory", predictor, "_encode_memory_in_output"),
            ("memory", track_step, "_memories"),
        )
        for part, owner, function in parts:
            setattr(owner, function, self._timed(part, getattr(owner, function)))

    def take(self) -> dict[str, float]:
        taken, self._ms = self._ms, {}
        return taken

    def _timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = work(*args, **kwargs)
            self._ms[part] = self._ms.get(part, 0.0) + 1e3 * (time.perf_counter() - began)
            return result

        return timed


@dataclass
class Runner:
    """One way of tracking one case; each ``next`` of ``steps`` is a frame."""

    steps: Iterator[object]
    frames_ms: list[float] = field(default_factory=list)
    parts_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})

    def step(self, timer: PartTimer, counted: bool) -> None:
        timer.take()
        began = time.perf_counter()
        next(self.steps)
        frame_ms = 1e3 * (time.perf_counter() - began)
        if not counted:
            return
        parts = timer.take()
        parts["rest"] = frame_ms - sum(parts.values())
        self.frames_ms.append(frame_ms)
        for name in PARTS:
            self.parts_ms[name].append(parts.get(name, 0.0))


def ours(model: LoadedModel, frames: list[Frame], prompts: list[Prompt]) -> Iterator[object]:
    tracker = Tracker(model.image_size)
    wanted: set[int] = set()
    for frame in frames:
        due = [one for one in prompts if one.frame == frame.index]
        wanted |= {one.object_id for one in due}
        answers = tracker.step(model, frame, due)
        rejected = tracker.take_rejected()
        if rejected or {one.object_id for one in answers} != wanted:
            raise RuntimeError(f"frame {frame.index}: not every object is tracked: {rejected}")
        yield [lift(one.logits[one.best], frame.width, frame.height) for one in answers]


def prompt(object_id: int, frame: Frame) -> Prompt:
    """A disc, each object its own: a mask is a prompt in which every model sees an object."""
    row, column = divmod((object_id - 1) % (COLUMNS * ROWS), COLUMNS)
    x, y = (column + 0.5) / COLUMNS * frame.width, (row + 0.5) / ROWS * frame.height
    rows, columns = np.ogrid[: frame.height, : frame.width]
    radius = 0.4 * min(frame.width / COLUMNS, frame.height / ROWS)
    return Prompt(object_id, frame.index, mask=(columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def cases(frames: list[Frame]) -> dict[str, list[Prompt]]:
    """The prompts of every case."""
    objects = range(1, MANY + 1)
    found = {
        f"{count} object{'s' if count > 1 else ''}": [prompt(name, frames[0]) for name in range(1, count + 1)]
        for count in COUNTS
    }
    found[f"{MANY} that joined one by one"] = [prompt(name, frames[PROMPT_STEP * (name - 1)]) for name in objects]
    found[f"{MANY}, prompted 1 to {MANY} times"] = [
        prompt(name, frames[PROMPT_STEP * turn]) for name in objects for turn in range(name)
    ]
    return found


def measure(model: LoadedModel, frames: list[Frame]) -> dict[str, dict[str, Runner]]:
    """A runner for each case and way."""
    timer = PartTimer(model)
    runners = {
        name: {
            "ours": Runner(ours(model, frames, prompts)),
            "official": Runner(CausalReference(model, frames).run(prompts)),
        }
        for name, prompts in cases(frames).items()
    }
    with model.inference():
        for number in range(len(frames)):
            for of_case in runners.values():
                turns = list(of_case.values())
                for runner in turns if number % 2 else reversed(turns):
                    runner.step(timer, number >= FIRST_COUNTED)
            if number % 10 == 9:
                print(f"{number + 1} of {len(frames)} frames", flush=True)
    return runners


def summary(runners: dict[str, dict[str, Runner]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, of_case in runners.items():
        found[name] = {
            way: {
                "ms": median(one.frames_ms),
                "parts_ms": {part: median(values) for part, values in one.parts_ms.items()},
            }
            for way, one in of_case.items()
        }
    first = next(iter(found.values()))
    for row in found.values():
        row["ours_over_official"] = row["ours"]["ms"] / row["official"]["ms"]
        for way in ("ours", "official"):
            row[f"{way}_over_one_object"] = row[way]["ms"] / first[way]["ms"]
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"{'':27s}{'ms per frame':>20s}{'ours over':>12s}{'over one object':>20s}",
        f"{'':27s}{'ours':>10s}{'official':>10s}{'official':>12s}{'ours':>10s}{'official':>10s}",
    ]
    for name, row in found.items():
        lines.append(
            f"{name:27s}{row['ours']['ms']:10.1f}{row['official']['ms']:10.1f}{row['ours_over_official']:12.2f}"
            f"{row['ours_over_one_object']:10.2f}{row['official_over_one_object']:10.2f}"
        )
    for way in ("ours", "official"):
        lines += ["", f"{f'parts of a frame, ms, {way}':36s}" + "".join(f"{part:>11s}" for part in PARTS)]
        for name, row in found.items():
            lines.append(f"{name:36s}" + "".join(f"{row[way]['parts_ms'][part]:11.1f}" for part in PARTS))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="default: the sample clip")
    parser.add_argument("--frames", type=int, default=24, help="how many frames are counted")
    parser.add_argument("--model", choices=["nano", "random-tiny"], default="nano")
    parser.add_argument("--tiny-size", type=int, default=256, help="side of the random model's input, pixels")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clip = options.clip or find_samples(pictures=False, clip=True)[0].path
    frames = read(clip, FIRST_COUNTED + options.frames)
    if len(frames) <= FIRST_COUNTED:
        parser.error(f"{clip} has {len(frames)} frames; at least {FIRST_COUNTED + 1} are needed")
    nano = options.model == "nano"
    model = load_model("nano", device="cpu", precision="fp32") if nano else random_tiny(options.tiny_size)
    print(
        f"{model.name}{'' if nano else ' with random weights'}, {model.image_size} px input, "
        f"{torch.get_num_threads()} threads; {len(frames) - FIRST_COUNTED} frames of "
        f"{frames[0].width} x {frames[0].height} counted",
        flush=True,
    )
    found = summary(measure(model, frames))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
