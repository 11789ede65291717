"""Segment one picture at a running server and save the overlay and the mask.

    streamseg serve                                                  # in another terminal
    python clients/python/segment_image.py photo.jpg 500 375

Writes photo.overlay.jpg and photo.mask.png beside you. No torch is needed for this program.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streamseg import StreamsegError
from streamseg.client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment one picture at a running server.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("x", type=float, help="pixels from the left")
    parser.add_argument("y", type=float, help="pixels from the top")
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument("--token")
    given = parser.parse_args()

    with Client(given.server, given.token) as client:
        result = client.segment(given.picture, points_xy_px=[(given.x, given.y)], labels=[1], overlay=True)

    found = result.objects[0]
    print(f"{found.state}, score {found.score:.2f}, {found.area_px} px, box {found.box_xyxy_px}")
    assert result.overlay_jpeg is not None
    Path(f"{given.picture.stem}.overlay.jpg").write_bytes(result.overlay_jpeg)
    Path(f"{given.picture.stem}.mask.png").write_bytes(found.region.to_png())


if __name__ == "__main__":
    try:
        main()
    except StreamsegError as error:
        sys.exit(f"{error.code}: {error}")
