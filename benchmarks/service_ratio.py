"""Frames per second of the whole path on a recording, over those of the bare predictor.

Service: H.264 file in, overlay MP4 and masks.jsonl out (``RecordingJob``, as the command line runs it; with
``--untrusted`` as the server does). Bare: ``SAM2ImagePredictor.set_image`` and ``predict`` with the same model object,
threads and prompts, frames already decoded in memory, nothing refined, drawn or encoded. Runs alternate, medians count.

    python benchmarks/service_ratio.py CLIP --box X1,Y1,X2,Y2 [--frames 120] [--runs 3] [--untrusted] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch

from streamseg.engine import Engine
from streamseg.media.sampling import Sampling
from streamseg.media.video import VideoReader
from streamseg.models.build import LoadedModel, load_model
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.recording import RecordingJob
from streamseg.segmentation.prompts import Prompt


def read(path: Path, sampling: Sampling) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.rgb.copy() for frame, _ in reader.frames(sampling)]


def bare(model: LoadedModel, frames: list[np.ndarray], box: tuple[float, ...]) -> float:
    """Seconds: each frame from the box of the previous mask, as the per-frame mode carries it."""
    predictor = model.image_predictor()
    low: np.ndarray | None = None
    began = time.perf_counter()
    with model.inference():
        for rgb in frames:
            predictor.set_image(rgb)
            if low is not None and (low[0] > 0).any():
                rows, columns = np.nonzero(low[0] > 0)
                per_y, per_x = rgb.shape[0] / low.shape[1], rgb.shape[1] / low.shape[2]
                around = (
                    columns.min() * per_x,
                    rows.min() * per_y,
                    (columns.max() + 1) * per_x,
                    (rows.max() + 1) * per_y,
                )
                _, _, low = predictor.predict(box=np.array(around), multimask_output=False)
            else:
                _, _, low = predictor.predict(box=np.array(box), multimask_output=False)
    return time.perf_counter() - began


def service(
    model: LoadedModel, clip: Path, prompt: Prompt, sampling: Sampling, untrusted: bool, stages: dict[str, list[float]]
) -> tuple[float, int]:
    """Seconds and frames of a whole run, results on disk."""
    engine = Engine(model)
    pipeline = Pipeline(engine, StreamOptions())
    try:
        with tempfile.TemporaryDirectory() as folder:

            def note(_: object, result: object) -> None:
                for stage, ms in result.timings_ms.items():  # type: ignore[attr-defined]
                    stages[stage].append(ms)

            job = RecordingJob(clip, [prompt], Path(folder), sampling=sampling, untrusted=untrusted)
            summary = job.run(pipeline, on_result=note)
    finally:
        pipeline.close()
        engine.close()
    return summary.took_s, summary.frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--box", required=True, help="X1,Y1,X2,Y2 of the object on the first frame")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--untrusted", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    model = load_model(args.model, device=args.device)
    box = tuple(float(edge) for edge in args.box.split(","))
    with VideoReader(args.clip) as reader:
        fps = reader.info.fps or 25.0
        size = f"{reader.info.width}x{reader.info.height}"
    sampling = Sampling(end_s=args.frames / fps)
    frames = read(args.clip, sampling)
    prompt = Prompt(1, box_xyxy_px=box)
    stages: dict[str, list[float]] = defaultdict(list)
    bare(model, frames[:5], box)
    bare_fps, service_fps = [], []
    for _ in range(args.runs):
        bare_fps.append(len(frames) / bare(model, frames, box))
        took_s, count = service(model, args.clip, prompt, sampling, args.untrusted, stages)
        service_fps.append(count / took_s)
    ratio = median(one / other for one, other in zip(service_fps, bare_fps, strict=True))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(f"{args.clip.name}, {size}, {len(frames)} frames, {model.name} on {model.device}; {machine}")
    for name, rates in (("bare predictor", bare_fps), ("service", service_fps)):
        runs = ", ".join(f"{one:.2f}" for one in rates)
        print(f"{name:16}{median(rates):6.2f} frames/s   (runs: {runs})")
    print(f"service over bare {ratio:.3f}   (median of pairs)")
    print("stages, mean ms of a frame: " + ", ".join(f"{stage} {mean(ms):.1f}" for stage, ms in stages.items()))
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    "clip": args.clip.name,
                    "size": size,
                    "frames": len(frames),
                    "model": model.name,
                    "machine": machine,
                    "bare_fps": bare_fps,
                    "service_fps": service_fps,
                    "ratio": ratio,
                    "stages_ms": {stage: mean(ms) for stage, ms in stages.items()},
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
