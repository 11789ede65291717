"""Memory over a long recording: a clip is looped (its packets copied) to so many minutes and processed.

Prints resident memory, descriptors and threads of this process, its children's memory, and counts of tensors and
Python objects, at even steps. ``--every N`` decodes all frames and segments every Nth.

    python benchmarks/long_video.py CLIP --box X1,Y1,X2,Y2 [--minutes 10] [--every 1] [--untrusted] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import psutil
from footprint import Footprint, rss_mib

from streamseg.engine import Engine
from streamseg.media.sampling import Sampling
from streamseg.models.build import load_model
from streamseg.pipeline import Pipeline
from streamseg.recording import Progress, RecordingJob
from streamseg.segmentation.prompts import Prompt

STEPS = 12


@dataclass
class Sample:
    """What the process holds at one moment of the recording."""

    time_s: float
    frames: int
    rss_mib: float
    children_mib: float
    descriptors: int
    threads: int
    tensors: int
    objects: int


def loop(clip: Path, target: Path, seconds: float) -> None:
    """Copy the clip's video packets again and again."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        packets = [
            (bytes(one), one.pts, one.dts, one.is_keyframe) for one in source.demux(stream) if one.dts is not None
        ]
        length = stream.duration or max(dts for _, _, dts, _ in packets) + 1
        time_base = stream.time_base or Fraction(1, 90_000)
        with av.open(str(target), "w") as container:
            out = container.add_stream_from_template(stream)
            for turn in range(int(seconds / float(length * time_base)) + 1):
                for data, pts, dts, is_keyframe in packets:
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = out, time_base
                    packet.pts, packet.dts = pts + turn * length, dts + turn * length
                    packet.is_keyframe = is_keyframe
                    container.mux(packet)


def children_mib() -> float:
    return sum(rss_mib(child.pid) for child in psutil.Process().children())


def sample(progress: Progress) -> Sample:
    held = Footprint.now()
    return Sample(
        time_s=round(progress.time_s, 1),
        frames=progress.frames,
        rss_mib=held.rss_mib,
        children_mib=round(children_mib(), 1),
        descriptors=held.descriptors,
        threads=held.threads,
        tensors=held.tensors,
        objects=held.objects,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--box", required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--untrusted", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    seconds = 60 * args.minutes
    model = load_model(args.model)
    engine = Engine(model)
    pipeline = Pipeline(engine)
    samples: list[Sample] = []
    print(" time s  frames  RSS MiB  child MiB  descriptors  threads  tensors  objects", flush=True)

    def note(progress: Progress) -> None:
        # The first second warms caches and starts threads.
        if progress.time_s >= 1 + len(samples) * (seconds - 2) / STEPS:
            one = sample(progress)
            samples.append(one)
            print(
                f"{one.time_s:7.1f} {one.frames:7d} {one.rss_mib:8.1f} {one.children_mib:10.1f} {one.descriptors:12d}"
                f" {one.threads:8d} {one.tensors:8d} {one.objects:8d}",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.mp4"
        loop(args.clip, long, seconds)
        out = Path(folder) / "out"
        out.mkdir()
        box = tuple(float(edge) for edge in args.box.split(","))
        job = RecordingJob(
            long, [Prompt(1, box_xyxy_px=box)], out, sampling=Sampling(every=args.every), untrusted=args.untrusted
        )
        summary = job.run(pipeline, on_progress=note)
    print(
        f"{summary.frames} frames over {summary.seconds:.0f} s in {summary.took_s:.0f} s; problems: {summary.problems}"
    )
    print(f"RSS from the second to the last sample: {samples[-1].rss_mib - samples[1].rss_mib:+.1f} MiB")
    pipeline.close()
    engine.close()
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in samples], indent=2))


if __name__ == "__main__":
    main()
