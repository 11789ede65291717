"""Send the frames of a camera or a clip as a live source, and write the overlays as they come back.

    python clients/python/webcam_frames.py clip.mp4 320 240 --out overlays/
    python clients/python/webcam_frames.py /dev/video0 320 240 --format v4l2 --out overlays/

The object under the pixel (320, 240) of the first frame is followed from frame to frame. Frames that come faster than
the server's model are passed over there: the newest one wins. --every-frame waits for each result instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import av
import numpy as np

from streamseg import Prompt, StreamsegError
from streamseg.client import Client, RemoteResult


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment the frames of a camera or a clip.")
    parser.add_argument("source", help="a video file, or a camera's device")
    parser.add_argument("x", type=float)
    parser.add_argument("y", type=float)
    parser.add_argument("--format", help="for cameras: v4l2 (Linux), avfoundation (macOS), dshow (Windows)")
    parser.add_argument("--frames", type=int, default=200, help="end after so many frames")
    parser.add_argument("--every-frame", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("overlays"))
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument("--token")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    def show(result: RemoteResult) -> None:
        found = result.objects[0]
        assert result.overlay_jpeg is not None
        (given.out / f"{result.index:06d}.jpg").write_bytes(result.overlay_jpeg)
        print(
            f"frame {result.index:5d} at {result.time_s:7.3f} s: {found.state}, {found.area_px} px, "
            f"{result.latency_ms:.0f} ms, {result.dropped} passed over"
        )

    click = Prompt(object_id=1, points_xy_px=[(given.x, given.y)], labels=[1])
    with (
        Client(given.server, given.token) as client,
        client.stream(prompts=[click], overlay=True) as stream,
        av.open(given.source, format=given.format) as container,
    ):
        began_s = time.perf_counter()
        for index, frame in enumerate(container.decode(video=0)):
            if index >= given.frames:
                break
            # Phones film sideways and say so: points are pixels of the upright frame.
            rgb = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            time_s = frame.time or 0.0
            if given.every_frame:
                show(stream.segment(rgb, index=index, time_s=time_s))
                continue
            if given.format is None:
                # A file is read faster than it was filmed; a camera keeps its own time.
                time.sleep(max(0.0, time_s - (time.perf_counter() - began_s)))
            stream.send(rgb, index=index, time_s=time_s)
            for result in stream.poll():
                show(result)
        stream.stop()
        for result in stream:
            show(result)


if __name__ == "__main__":
    try:
        main()
    except (StreamsegError, av.FFmpegError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
