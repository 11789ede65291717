"""How well an object is followed through annotated clips by what a caller of this project gets.

A prompt on the first frame (its mask, its box, or one click where the mask is widest), then every frame through engine
and pipeline, refinement included. J (region) and F (contour, within 0.008 of the frame's diagonal) as DAVIS counts
them: means over a clip's frames without its first and last, then over the clips. A lost object has an empty mask.

The mode `track` is the streaming tracker; `image` segments each frame by itself and carries the object over.
`nano_quality.py` has the same figures of the official `SAM2VideoPredictor`, which reads the frames from JPEG files and
resizes them in its own way; compare it with `--no-refine`.

    python benchmarks/davis.py --data DIR [--mode track|image] [--select-memories] [--no-refine]
        [--prompts mask box click] [--weights FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from annotated_clips import PROMPTS, clip_figures, evaluation_clips, load_nano, print_table
from metrics import Mask

from streamseg.engine import Engine
from streamseg.media.frame import Frame, RgbImage
from streamseg.models.nano import WEIGHTS_PATH
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.refine import RefineOptions
from streamseg.segmentation.track_options import TrackOptions


def follow(engine: Engine, options: StreamOptions, rgbs: list[RgbImage], prompt: Prompt) -> list[Mask]:
    """The object's mask on every frame; a prompt that is rejected leaves all of them empty."""
    pipeline = Pipeline(engine, options)
    pipeline.add_prompt(prompt)
    masks = []
    for index, rgb in enumerate(rgbs):
        objects = pipeline.process(Frame(rgb, index)).objects
        for rejected in pipeline.take_rejected():
            print(f"rejected: {rejected.error}", flush=True)
        masks.append(objects[0].mask if objects else np.zeros(rgb.shape[:2], bool))
    pipeline.close()
    return masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with eval-video.tar")
    parser.add_argument("--mode", choices=["track", "image"], default="track")
    parser.add_argument("--select-memories", action="store_true", help="skip memories that look unreliable")
    parser.add_argument("--no-refine", action="store_true", help="the model's masks as they are")
    parser.add_argument("--prompts", nargs="+", choices=PROMPTS, default=list(PROMPTS), help="first-frame prompts")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_PATH, help="of nano, or a training checkpoint")
    parser.add_argument("--json", type=Path, help="also write the table here")
    chosen = parser.parse_args()
    if chosen.select_memories and chosen.mode != "track":
        parser.error("--select-memories is for the mode track")
    options = StreamOptions(
        mode=chosen.mode,
        refine=RefineOptions.NONE if chosen.no_refine else RefineOptions(),
        track=TrackOptions(select_memories=chosen.select_memories),
    )
    engine = Engine(load_nano(chosen.weights))
    table = clip_figures(
        lambda rgbs, prompt: follow(engine, options, rgbs, prompt), evaluation_clips(chosen.data), chosen.prompts
    )
    engine.close()
    title = f"mode {chosen.mode}"
    title += ", memories selected" if chosen.select_memories else ""
    title += ", not refined" if chosen.no_refine else ""
    print_table(title, table)
    if chosen.json:
        chosen.json.write_text(json.dumps({title: table}, indent=1))


if __name__ == "__main__":
    main()
