"""Makes the sample pictures and clip.mp4 of this folder; see CREDITS.md for where the photos come from.

    python make_samples.py SOURCES

SOURCES is a folder with coffee.png, chelsea.png, astronaut.png and rocket.jpg as the scikit-image package has them in
skimage/data. The clip is composed here from two of them: a coffee cup flies over a slowly moving photo, first behind a
wooden post, where it is hidden for a moment, then larger in front of it, turning all the while. It ends as it begins,
so that it can be played in a loop. The same sources and library versions give the same files.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 25, 9
LONGEST_SIDE_PX = 1024

IMAGES = (
    ("coffee.png", "coffee.jpg", "Coffee cup", "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0"),
    ("chelsea.png", "cat.jpg", "Cat", "Stefan van der Walt, CC0"),
    ("rocket.jpg", "rocket.jpg", "Rocket", "SpaceX, public domain"),
    ("astronaut.png", "astronaut.jpg", "Astronaut", "NASA, public domain"),
)
CLIP = {
    "file": "clip.mp4",
    "title": "Flying cup",
    "credit": "made by the streamseg authors from photos by Rachel Michetti (CC0) and SpaceX (public domain)",
}


def load(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def save_pictures(sources: Path) -> None:
    for name, target, _, _ in IMAGES:
        picture = Image.fromarray(load(sources / name))
        picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
        picture.save(HERE / target, "JPEG", quality=90, optimize=True)
    index = {
        "images": [{"file": target, "title": title, "credit": credit} for _, target, title, credit in IMAGES],
        "clip": CLIP,
    }
    (HERE / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def cup_cut_out(coffee: Pixels) -> Pixels:
    """The cup with its saucer as RGBA; two ellipses give the place, GrabCut the edge."""
    rough = np.zeros(coffee.shape[:2], np.uint8)
    cv2.ellipse(rough, (278, 231), (202, 159), 4, 0, 360, 1, -1)
    cv2.ellipse(rough, (289, 112), (118, 94), 0, 0, 360, 1, -1)
    cv2.line(rough, (408, 74), (385, 180), 1, 18)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    labels = np.full(rough.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(rough, disc) > 0] = cv2.GC_PR_BGD
    labels[rough > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(rough, disc) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(1)
    cv2.grabCut(coffee, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, disc)
    alpha = cv2.GaussianBlur(inside * 255, (5, 5), 0)
    return np.dstack([coffee, alpha])


def post_texture(coffee: Pixels) -> Pixels:
    """A rounded wooden post, 130 pixels wide, from the photo's table."""
    board = cv2.rotate(np.ascontiguousarray(coffee[150:250, 480:600]), cv2.ROTATE_90_CLOCKWISE)
    board = cv2.resize(board, (130, HEIGHT // 2 + 20), interpolation=cv2.INTER_CUBIC)
    board = np.vstack([board, board[::-1]])[:HEIGHT]
    across = np.linspace(-1, 1, 130)
    light = 0.25 + 0.45 * np.sqrt(np.clip(1 - across**2, 0, 1))
    weathered = np.array([0.8, 1.0, 1.1])
    return np.clip(board * light[None, :, None] * weathered, 0, 255).astype(np.uint8)


def lay_over(frame: Pixels, rgba: Pixels, center: tuple[float, float], scale: float, degrees: float) -> Pixels:
    h, w = rgba.shape[:2]
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, scale)
    turn[:, 2] += np.array(center) - (w / 2, h / 2)
    # Four times as many pixels, then the mean: a plain warp would flicker where it shrinks this much.
    fine = cv2.warpAffine(rgba, turn * 2, (WIDTH * 2, HEIGHT * 2), flags=cv2.INTER_AREA)
    piece = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = piece[:, :, 3:] / 255
    return (frame * (1 - alpha) + piece[:, :, :3] * alpha).round().astype(np.uint8)


def clip_frame(number: int, ground: Pixels, post: Pixels, cup: Pixels) -> Pixels:
    turn = 2 * math.pi * number / (FPS * SECONDS)
    pan = 40 * math.sin(turn)
    view = np.array([[1.2, 0, -64 - pan], [0, 1.2, -120]], dtype=np.float64)
    frame = cv2.warpAffine(ground, view, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    center = (310 - 205 * math.cos(turn), 175 - 38 * math.sin(2 * turn))
    scale = 0.36 - 0.09 * math.sin(turn)
    degrees = 32 * math.sin(2 * turn)
    behind = math.sin(turn) >= 0
    if behind:
        frame = lay_over(frame, cup, center, scale, degrees)
    left = round(330 - pan / 2)
    frame[:, left : left + post.shape[1]] = post
    return frame if behind else lay_over(frame, cup, center, scale, degrees)


def save_clip(sources: Path) -> None:
    coffee = load(sources / "coffee.png")
    ground, post, cup = load(sources / "rocket.jpg"), post_texture(coffee), cup_cut_out(coffee)
    with av.open(str(HERE / str(CLIP["file"])), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = 1
        stream.options = {"profile": "baseline", "preset": "slow", "crf": "25", "g": "50"}
        for number in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(clip_frame(number, ground, post, cup), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the sample pictures and the clip.")
    parser.add_argument("sources", type=Path, help="folder with the photos, such as skimage/data")
    sources = parser.parse_args().sources
    save_pictures(sources)
    save_clip(sources)


if __name__ == "__main__":
    main()
