"""Refine and render at 1080p: streamseg's windows against the full-frame OpenCV way.

Both sides get the same mask, frame and settings; runs alternate and medians count. The masks are made here: an object
of 2, 10 or 40 % of the frame with a ragged edge, a few holes and specks.

    python benchmarks/refine_render.py [--runs 40] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.render import RenderOptions, color_of, draw_overlay
from streamseg.segmentation.masks import FrameResult, MaskRegion, ObjectResult
from streamseg.segmentation.refine import RefineOptions, refine_mask

WIDTH, HEIGHT = 1920, 1080
SHARES = (0.02, 0.10, 0.40)
REFINE = RefineOptions(min_area_px=200, max_hole_px=200, close_px=2, smooth_px=3)
RENDER = RenderOptions(opacity=0.5, outline_px=2)


def make_frame(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Soft noise: like a photo, no two rows alike."""
    small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def make_mask(share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A wavy blob of ``share`` of the frame, with six small and two large holes and ten specks around it."""
    radius = np.sqrt(share * WIDTH * HEIGHT / np.pi)
    stretch = min(1.35, 0.46 * HEIGHT / radius) if radius > 0.36 * HEIGHT else 1.0
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    waves = 1 + 0.04 * np.sin(5 * angles) + 0.02 * np.sin(17 * angles) + 0.004 * rng.standard_normal(720)
    x = WIDTH / 2 + radius / stretch**0.5 * 1.25 * waves * np.cos(angles)
    y = HEIGHT / 2 + radius * stretch**0.5 / 1.25 * waves * np.sin(angles)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.stack([x, y], axis=1).round().astype(np.int32)], 1)
    for number in range(8):
        angle, size = rng.uniform(0, 2 * np.pi), 4 if number < 6 else 14
        distance = radius * rng.uniform(0.1, 0.5)
        spot = (int(WIDTH / 2 + distance * np.cos(angle)), int(HEIGHT / 2 + distance * np.sin(angle)))
        cv2.circle(mask, spot, size, 0, -1)
    for _ in range(10):
        angle = rng.uniform(0, 2 * np.pi)
        spot = (
            int(WIDTH / 2 + radius * 1.5 * np.cos(angle)),
            int(np.clip(HEIGHT / 2 + radius * 1.2 * np.sin(angle), 8, HEIGHT - 8)),
        )
        cv2.circle(mask, spot, 4, 1, -1)
    return mask.astype(bool)


def ours(frame: NDArray[np.uint8], region: MaskRegion) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    refined = refine_mask(region, REFINE)
    result = FrameResult(0, 0.0, WIDTH, HEIGHT, (ObjectResult(1, refined, 0.9),))
    return refined, draw_overlay(frame, result, RENDER)  # type: ignore[return-value]


def full_frame(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """The same steps as usually written with OpenCV, every one over the whole frame."""
    bits = mask.astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bits, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= REFINE.min_area_px
    keep[0] = False
    bits = np.take(keep.astype(np.uint8), labels)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - bits, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] <= REFINE.max_hole_px
    fill[0] = True
    bits = np.take(fill.astype(np.uint8), labels)
    size = 2 * REFINE.close_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    bits = cv2.morphologyEx(bits, cv2.MORPH_CLOSE, disc)
    size = 2 * REFINE.smooth_px + 1
    soft = cv2.GaussianBlur(bits * 255, (size, size), 0)
    _, bits = cv2.threshold(soft, 127, 1, cv2.THRESH_BINARY)
    colored = frame.copy()
    cv2.copyTo(np.full_like(frame, color_of(1)), bits, colored)
    out = cv2.addWeighted(frame, 1 - RENDER.opacity, colored, RENDER.opacity, 0)
    contours, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(out, contours, -1, color_of(1), RENDER.outline_px)
    return bits.view(bool), out


def milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def measure(share: float, runs: int) -> dict[str, float]:
    rng = np.random.default_rng(7)
    frame, mask = make_frame(rng), make_mask(share, rng)
    region = MaskRegion.from_mask(mask)
    refined, picture = ours(frame, region)
    expected, expected_picture = full_frame(frame, mask)
    got = refined.full()  # type: ignore[attr-defined]
    iou = np.count_nonzero(got & expected) / np.count_nonzero(got | expected)
    if iou < 0.99:
        raise SystemExit(f"{share:.0%}: the results differ, IoU {iou:.4f}")
    different = np.abs(picture.astype(int) - expected_picture).max(axis=2) > 2
    times: dict[str, list[float]] = {"ours": [], "full": []}
    for _ in range(runs):
        times["ours"].append(milliseconds(lambda: ours(frame, region)))
        times["full"].append(milliseconds(lambda: full_frame(frame, mask)))
    ours_ms, full_ms = median(times["ours"]), median(times["full"])
    return {
        "mask_share": float(mask.mean()),
        "streamseg_ms": round(ours_ms, 3),
        "full_frame_ms": round(full_ms, 3),
        "ratio": round(ours_ms / full_ms, 4),
        "iou": round(float(iou), 5),
        "different_pixels_share": round(float(different.mean()), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=40, help="runs of each way per mask (default 40)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = [measure(share, max(arguments.runs, 3)) for share in SHARES]
    print(f"{WIDTH} x {HEIGHT}, OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads, {os.cpu_count()} cores")
    print("mask of frame | streamseg ms | full-frame ms | ratio |    IoU")
    for row in rows:
        print(
            f"{row['mask_share']:>13.1%} | {row['streamseg_ms']:>12.2f} | {row['full_frame_ms']:>13.2f} |"
            f" {row['ratio']:>5.3f} | {row['iou']:.4f}"
        )
    if arguments.json:
        about = {"width": WIDTH, "height": HEIGHT, "opencv": cv2.__version__, "machine": platform.machine()}
        arguments.json.write_text(json.dumps({**about, "cpu_count": os.cpu_count(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
