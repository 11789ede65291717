"""How far the streaming tracker's logits are from those of ``sam2``'s ``SAM2VideoPredictor`` driven causally.

Three objects on a real clip, prompted by box, click and mask on several frames, then corrected; in float32. The models
are the embedded `nano` and a randomly initialised ``sam2.1-hiera-tiny`` whose object score is biased so that its masks
are not empty. Both ways of tracking are measured: ``bit_exact``, and the default, whose sums run in another order; as
memories are rounded to bfloat16, that comes out as thousandths of a logit. Fails if fewer than 80 % of the object-
frames have a mask, if a logit of ``bit_exact`` is farther off than 1e-3 or one of the default farther than 1e-2.

    python benchmarks/tracking_equivalence.py CLIP [--frames 200] [--model nano|tiny|all] [--tiny-size 256]
        [--way exact|default|both] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from reference_tracker import CausalReference
from tracking_inputs import random_tiny, read

from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel, load_model
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.track_options import TrackOptions
from streamseg.segmentation.tracking import Tracker

LIMIT = 1e-3
DEFAULT_LIMIT = 1e-2
LEAST_SEEN = 0.8


def plan(frames: list[Frame]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts and corrections on frames spread over the clip, in shares of its size."""
    width, height, count = frames[0].width, frames[0].height, len(frames)

    def box(x1: float, y1: float, x2: float, y2: float) -> tuple[float, ...]:
        return x1 * width, y1 * height, x2 * width, y2 * height

    mask = np.zeros((height, width), bool)
    mask[height // 2 : 3 * height // 4, : width // 4] = True
    prompts = [
        Prompt(1, 0, box_xyxy_px=box(0.35, 0.52, 0.55, 0.76)),
        Prompt(2, count // 10, points_xy_px=[(0.75 * width, 0.3 * height)], labels=[1]),
        Prompt(3, count // 8, mask=mask),
        Prompt(1, count // 3, points_xy_px=[(0.5 * width, 0.5 * height), (0.1 * width, 0.1 * height)], labels=[1, 0]),
        Prompt(2, count // 2, box_xyxy_px=box(0.6, 0.1, 0.95, 0.6)),
    ]
    corrections = [
        Prompt(3, count // 4, points_xy_px=[(0.2 * width, 0.7 * height)], labels=[1]),
        Prompt(1, 3 * count // 5, points_xy_px=[(0.3 * width, 0.6 * height)], labels=[0]),
    ]
    return prompts, corrections


def compare(model: LoadedModel, frames: list[Frame], exact: bool) -> dict[str, Any]:
    prompts, corrections = plan(frames)
    model.predictor.add_all_frames_to_correct_as_cond = True
    tracker = Tracker(model.image_size, TrackOptions(bit_exact=exact))
    reference = CausalReference(model, frames)
    largest, first, seen, total, ours_s, theirs_s = 0.0, None, 0, 0, 0.0, 0.0
    ious: list[float] = []
    with model.inference():
        steps = reference.run(prompts, corrections)
        for number, frame in enumerate(frames):
            began = time.perf_counter()
            _, wanted = next(steps)
            theirs_s += time.perf_counter() - began
            began = time.perf_counter()
            answers = tracker.step(model, frame, [one for one in prompts if one.frame == number])
            for correction in (one for one in corrections if one.frame == number):
                tracker.add_prompt(correction)
                answers = tracker.step(model, frame)
            ours_s += time.perf_counter() - began
            rejected = tracker.take_rejected()
            assert not rejected, rejected
            assert [one.object_id for one in answers] == list(wanted)
            for answer in answers:
                logits, reference_logits = torch.from_numpy(answer.logits[0]), wanted[answer.object_id]
                difference = float((logits - reference_logits).abs().max())
                largest = max(largest, difference)
                if first is None and difference > LIMIT:
                    first = number
                one, other = logits > 0, reference_logits > 0
                total += 1
                if bool(one.any()) or bool(other.any()):
                    seen += 1
                    ious.append(float((one & other).sum() / (one | other).sum()))
    return {
        "limit": LIMIT if exact else DEFAULT_LIMIT,
        "frames": len(frames),
        "object_frames": total,
        "with_a_mask": round(seen / total, 4),
        "largest_logit_difference": largest,
        "first_frame_over_limit": first,
        "mean_iou": round(float(np.mean(ious)), 6),
        "lowest_iou": round(min(ious), 6),
        "our_s": round(ours_s, 2),
        "reference_s": round(theirs_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--model", choices=["nano", "tiny", "all"], default="all")
    parser.add_argument("--tiny-size", type=int, default=256, help="side of the random model's input, pixels")
    parser.add_argument("--way", choices=["exact", "default", "both"], default="both")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    frames = read(options.clip, options.frames)
    models: dict[str, LoadedModel] = {}
    if options.model in ("nano", "all"):
        models["nano"] = load_model("nano", device="cpu", precision="fp32", warm_up=False)
    if options.model in ("tiny", "all"):
        models[f"random hiera-tiny, {options.tiny_size} px"] = random_tiny(options.tiny_size)
    ways = {"exact": [True], "default": [False], "both": [True, False]}[options.way]
    found = {
        f"{name}, {'bit_exact' if exact else 'default'}": compare(model, frames, exact)
        for name, model in models.items()
        for exact in ways
    }
    for name, row in found.items():
        print(f"\n{name}")
        for key, value in row.items():
            print(f"  {key:26s} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if any(row["with_a_mask"] < LEAST_SEEN or row["largest_logit_difference"] > row["limit"] for row in found.values()):
        sys.exit("not equivalent, or too few masks to tell")


if __name__ == "__main__":
    main()
