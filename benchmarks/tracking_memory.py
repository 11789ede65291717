"""Whether tracking grows: what the process holds at frame 300 and at frame 10,000.

Two objects are tracked through an engine and a pipeline, on a clip that is looped or, without one, on moving discs of
320 x 180 pixels. The second object is prompted again and again: by box, by click, by a click three frames back and by
mask. The first frames get so many prompts that the object's conditioning frames and the undo history are full long
before frame 300; then one comes every 25 frames.

Fails if resident memory grows by more than 24 MiB between frame 300 and the last one, or if the tensors, their bytes,
the Python objects or the open descriptors are not as many at the end as at frame 300.

    python benchmarks/tracking_memory.py [CLIP] [--frames 10000] [--model nano] [--image-size 384]
        [--select-memories] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count, cycle
from pathlib import Path

import cv2
import numpy as np
from footprint import Footprint
from metrics import Mask
from tracking_inputs import read

from streamseg.engine import Engine
from streamseg.media.frame import Frame
from streamseg.models.build import load_model
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions

WIDTH, HEIGHT = 320, 180
RADIUS_PX = 28
CLIP_FRAMES = 100
FIRST_SAMPLE = 300
MOST_GROWTH_MIB = 24.0
SAMPLES = 20
# Prompts follow the same pattern every so many frames; samples are taken at the same place of it.
PERIOD = 100
# The undo history holds 256 prompts.
DENSE_FRAMES, DENSE_PROMPTS = 100, 3
PROMPT_EVERY, PROMPT_PHASE = 25, 10
FRAMES_BACK = 3
KINDS = ("box", "click", "click back", "mask")
COLORS = {1: (220, 60, 40), 2: (40, 90, 230)}


def place(object_id: int, index: int) -> tuple[float, float]:
    """Where an object's centre is, (x, y) in pixels."""
    angle = 2 * np.pi * (index % PERIOD) / PERIOD + np.pi * object_id
    return WIDTH / 2 + 0.33 * WIDTH * np.cos(angle), HEIGHT / 2 + 0.3 * HEIGHT * np.sin(2 * angle)


def disc(object_id: int, index: int) -> Mask:
    x, y = place(object_id, index)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    inside: Mask = (columns - x) ** 2 + (rows - y) ** 2 < RADIUS_PX**2
    return inside


def made() -> Iterator[Frame]:
    """Discs before a still background, for ever."""
    coarse = np.random.default_rng(3).integers(0, 160, (HEIGHT // 12, WIDTH // 12, 3), np.uint8)
    background = np.array(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    for index in count():
        rgb = background.copy()
        for object_id, color in COLORS.items():
            rgb[disc(object_id, index)] = color
        yield Frame(rgb, index, index / 25)


def looped(clip: Path) -> Iterator[Frame]:
    """The first frames of a clip, small, for ever."""
    small = [cv2.resize(one.rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for one in read(clip, CLIP_FRAMES)]
    for index, rgb in enumerate(cycle(small)):
        # A copy, as a decoder gives a picture of its own for every frame.
        yield Frame(np.array(rgb, np.uint8), index, index / 25)


def prompts(index: int) -> list[Prompt]:
    """What is said before frame ``index`` is segmented."""
    if index == 0:
        return [Prompt(name, 0, mask=disc(name, 0)) for name in COLORS]
    if index <= DENSE_FRAMES:
        first = DENSE_PROMPTS * index
        return [prompt(index, KINDS[turn % len(KINDS)]) for turn in range(first, first + DENSE_PROMPTS)]
    if index % PROMPT_EVERY == PROMPT_PHASE:
        return [prompt(index, KINDS[index // PROMPT_EVERY % len(KINDS)])]
    return []


def prompt(index: int, kind: str) -> Prompt:
    """A prompt of the second object."""
    if kind == "mask":
        return Prompt(2, index, mask=disc(2, index))
    if kind == "box":
        x, y = place(2, index)
        edges = (x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX)
        return Prompt(2, index, box_xyxy_px=np.clip(edges, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT)))
    if kind == "click back":
        index = max(index - FRAMES_BACK, 0)
    return Prompt(2, index, points_xy_px=[place(2, index)], labels=[1])


def sampled(frames: int) -> list[int]:
    """The frames at which to look."""
    wanted = np.linspace(FIRST_SAMPLE, frames, SAMPLES)
    return sorted({int(one) // PERIOD * PERIOD for one in wanted})


def run(pipeline: Pipeline, frames: Iterator[Frame], last: int) -> dict[int, Footprint]:
    # Filled at once, since the collector does not count an empty dictionary.
    found = {0: Footprint.now()}
    due = sampled(last)
    seen, began, before = 0, time.perf_counter(), -1
    print("  frame  frames/s  RSS MiB  tensors  tensor MB  objects  descriptors  threads  with a mask", flush=True)
    for frame in frames:
        for one in prompts(frame.index):
            pipeline.add_prompt(one)
        result = pipeline.process(frame)
        if rejected := pipeline.take_rejected():
            raise RuntimeError(f"frame {frame.index}: {rejected[0].error}")
        seen += sum(one.state == "tracked" for one in result.objects)
        if frame.index not in due:
            continue
        # The inference thread lets go of a work only after its result was fetched.
        time.sleep(0.2)
        per_s = (frame.index - before) / (time.perf_counter() - began)
        now = found[frame.index] = Footprint.now()
        print(
            f"{frame.index:7d} {per_s:9.1f} {now.rss_mib:8.1f} {now.tensors:8d} {now.tensor_bytes / 1e6:10.3f}"
            f" {now.objects:8d} {now.descriptors:12d} {now.threads:8d}"
            f" {seen / len(COLORS) / (frame.index - before):12.2f}",
            flush=True,
        )
        seen, began, before = 0, time.perf_counter(), frame.index
        if frame.index == due[-1]:
            break
    return found


def problems(early: Footprint, late: Footprint) -> list[str]:
    """What grew, or is not as it was."""
    found = []
    growth_mib = late.rss_mib - early.rss_mib
    if growth_mib > MOST_GROWTH_MIB:
        found.append(f"resident memory grew by {growth_mib:.1f} MiB, more than {MOST_GROWTH_MIB:.0f}")
    for name in ("tensors", "tensor_bytes", "objects", "descriptors"):
        before, after = getattr(early, name), getattr(late, name)
        if before != after:
            found.append(f"{name}: {before} at the first sample, {after} at the last")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="default: moving discs")
    parser.add_argument("--frames", type=int, default=10_000, help=f"the last sample, a multiple of {PERIOD}")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--image-size", type=int, help="side of the model's input, pixels; default: its own")
    parser.add_argument("--select-memories", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.frames % PERIOD or options.frames <= FIRST_SAMPLE:
        parser.error(f"--frames must be a multiple of {PERIOD} above {FIRST_SAMPLE}")
    engine = Engine(load_model(options.model, image_size=options.image_size))
    pipeline = Pipeline(
        engine, StreamOptions(mode="track", track=TrackOptions(select_memories=options.select_memories))
    )
    frames = looped(options.clip) if options.clip else made()
    found = run(pipeline, frames, options.frames)
    pipeline.close()
    engine.close()
    early, late = found[FIRST_SAMPLE], found[options.frames]
    wrong = problems(early, late)
    print(f"RSS from frame {FIRST_SAMPLE} to {options.frames}: {late.rss_mib - early.rss_mib:+.1f} MiB")
    for line in wrong:
        print("failed:", line)
    if options.json:
        rows = [{"frame": index, **asdict(one)} for index, one in found.items()]
        options.json.write_text(json.dumps({"samples": rows, "problems": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
