"""Follow one object through a video file, with a model in this process or through a running server.

    python clients/python/segment_video.py clip.mp4 85 280 1710 850                            # here
    python clients/python/segment_video.py clip.mp4 85 280 1710 850 --server 127.0.0.1:8000    # there

The four numbers are a box around the object on the first frame. Here, the program prints where the object is, frame by
frame; from the server it also fetches overlay.mp4 and masks.jsonl into --out, and needs no torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import streamseg
from streamseg import FrameResult, Prompt, StreamsegError
from streamseg.client import Client, RemoteProgress


def show(result: FrameResult) -> None:
    found = result.objects[0]
    print(f"frame {result.index:5d} at {result.time_s:7.3f} s: {found.state}, {found.area_px} px, {found.box_xyxy_px}")


def follow_here(video: Path, prompts: list[Prompt], fps: float | None) -> None:
    with streamseg.load() as model:
        for result in model.stream(video, prompts=prompts, fps=fps):
            show(result)


def follow_there(video: Path, prompts: list[Prompt], fps: float | None, given: argparse.Namespace) -> None:
    def tell(progress: RemoteProgress) -> None:
        if progress.stage == "upload":
            print(f"{progress.sent_bytes} of {progress.size_bytes} bytes sent", file=sys.stderr)

    with (
        Client(given.server, given.token) as client,
        client.segment_file(video, prompts=prompts, fps=fps, out=given.out, on_progress=tell) as recording,
    ):
        for result in recording:
            show(result)
    assert recording.summary is not None
    for problem in recording.summary.problems:
        print(f"note: {problem}", file=sys.stderr)
    print("fetched:", *recording.summary.files)


def main() -> None:
    parser = argparse.ArgumentParser(description="Follow one object through a video file.")
    parser.add_argument("video", type=Path)
    parser.add_argument("box", type=float, nargs=4, help="x1 y1 x2 y2 in pixels of the first frame")
    parser.add_argument("--fps", type=float, help="segment at most so many frames a second")
    parser.add_argument("--server", help="default: a model in this process")
    parser.add_argument("--token")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where results of the server go")
    given = parser.parse_args()

    prompts = [Prompt(box_xyxy_px=given.box)]
    if given.server is None:
        follow_here(given.video, prompts, given.fps)
    else:
        follow_there(given.video, prompts, given.fps, given)


if __name__ == "__main__":
    try:
        main()
    except StreamsegError as error:
        sys.exit(f"{error.code}: {error}")
