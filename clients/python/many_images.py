"""Segment many pictures, one after the other, over one websocket, and say how fast that was.

python clients/python/many_images.py photos/ --out masks.jsonl   # every picture of a folder, a click in its middle
python clients/python/many_images.py photo.jpg --repeat 1000     # the same picture 1,000 times
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from PIL import Image

from streamseg import StreamsegError
from streamseg.client import Client

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment many pictures over one websocket.")
    parser.add_argument("source", type=Path, help="a picture or a folder of pictures")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write one line of JSON per picture (COCO RLE)")
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument("--token")
    given = parser.parse_args()

    pictures = [given.source]
    if given.source.is_dir():
        pictures = sorted(path for path in given.source.iterdir() if path.suffix.lower() in SUFFIXES)
    lines = []
    failed = 0
    began_s = time.perf_counter()
    with Client(given.server, given.token) as client:
        for path in pictures * given.repeat:
            try:
                with Image.open(path) as picture:
                    middle = (picture.width / 2, picture.height / 2)
                result = client.segment(path, points_xy_px=[middle])
            except (StreamsegError, OSError) as error:
                failed += 1
                print(f"{path}: {error}", file=sys.stderr)
                continue
            lines.append(json.dumps({"file": path.name, **result.to_json()}))
    took_s = time.perf_counter() - began_s
    print(f"{len(lines)} segmented, {failed} failed, {len(lines) / took_s:.1f} pictures/s")
    if given.out is not None:
        given.out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except StreamsegError as error:
        sys.exit(f"{error.code}: {error}")
