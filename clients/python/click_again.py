"""Keep a picture at the server and click on it again and again, without sending it again.

    python clients/python/click_again.py photo.jpg

Type "x y" for a point of the object, "x y 0" for one beside it, "new" for a further object, "undo" to forget the
current object, an empty line to end. The overlay so far is in click_again.jpg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streamseg import StreamsegError
from streamseg.client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description="Click on a kept picture again and again.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--server", default="127.0.0.1:8000")
    parser.add_argument("--token")
    given = parser.parse_args()

    object_id = 1
    with Client(given.server, given.token) as client, client.image_session(given.picture, overlay=True) as session:
        for line in sys.stdin:
            words = line.split()
            if not words:
                break
            try:
                if words == ["new"]:
                    object_id += 1
                elif words == ["undo"]:
                    session.remove(object_id)
                else:
                    x, y = float(words[0]), float(words[1])
                    label = int(words[2]) if len(words) > 2 else 1
                    result = session.segment(points_xy_px=[(x, y)], labels=[label], object_id=object_id)
                    assert result.overlay_jpeg is not None
                    Path("click_again.jpg").write_bytes(result.overlay_jpeg)
                    for one in result.objects:
                        print(f"object {one.object_id}: {one.state}, score {one.score:.2f}, {one.area_px} px")
                    print(f"{result.latency_ms:.0f} ms")
            except (StreamsegError, ValueError, IndexError) as error:
                print(f"not done: {error}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except StreamsegError as error:
        sys.exit(f"{error.code}: {error}")
