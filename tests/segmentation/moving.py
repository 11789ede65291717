"""A clip made in code, with three things that move over a textured ground, and short ways to follow them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import cv2
import numpy as np
import torch

from streamseg.media.frame import Frame, RgbImage
from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import Answer, Logits
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.tracking import Tracker

WIDTH, HEIGHT = 240, 160
RED, BLUE, GREEN = 1, 2, 3

# Of logits that differ by rounding alone: the same work done in other batches, with memories kept in bfloat16.
ROUNDING = 1e-3
# Runs that should differ do so by more than rounding could make of it.
APART = 1e-2


@cache
def _ground() -> RgbImage:
    coarse = np.random.default_rng(0).integers(70, 120, (20, 30, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))


def scene(number: int, *, without: Sequence[int] = (), scale: float = 1.0, index: int | None = None) -> Frame:
    """Frame ``number`` of the clip, from 0: a red square moves right, a blue disc left and a green one up.

    ``without``: what is not in the picture. ``index``: of the frame, where it is not ``number``.
    """
    rgb = _ground().copy()
    if RED not in without:
        x1, y1, x2, y2 = (round(edge) for edge in red_box(number))
        rgb[y1:y2, x1:x2] = (220, 40, 30)
    for name, centre, radius, colour in (
        (BLUE, blue_xy(number), 28, (30, 70, 220)),
        (GREEN, green_xy(number), 26, (40, 200, 60)),
    ):
        if name not in without:
            cv2.circle(rgb, centre, radius, colour, thickness=-1)
    if scale != 1.0:
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Frame(np.ascontiguousarray(rgb), number if index is None else index, number / 10)


def red_box(number: int) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels."""
    return 10.0 + 3 * number, 10.0, 65.0 + 3 * number, 65.0


def blue_xy(number: int) -> tuple[int, int]:
    return 200 - 2 * number, 115


def green_xy(number: int) -> tuple[int, int]:
    return 60, 128 - number


def box_red(frame: int = 0) -> Prompt:
    return Prompt(RED, frame, box_xyxy_px=red_box(frame))


def click_blue(frame: int = 0) -> Prompt:
    return Prompt(BLUE, frame, points_xy_px=[blue_xy(frame)], labels=[1])


def mask_green(frame: int = 0) -> Prompt:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, green_xy(frame), 26, 1, thickness=-1)
    return Prompt(GREEN, frame, mask=mask > 0)


def click(object_id: int, frame: int, x: float, y: float, label: int = 1) -> Prompt:
    return Prompt(object_id, frame, points_xy_px=[(x, y)], labels=[label])


def step(tracker: Tracker, model: LoadedModel, frame: Frame, prompts: Sequence[Prompt] = ()) -> dict[int, Answer]:
    with model.inference():
        return {one.object_id: one for one in tracker.step(model, frame, prompts)}


def again(tracker: Tracker, model: LoadedModel) -> dict[int, Logits]:
    """The last frame once more, with what was said since."""
    frame = tracker.last_frame
    assert frame is not None
    return {name: one.logits[0] for name, one in step(tracker, model, frame).items()}


def follow(
    tracker: Tracker, model: LoadedModel, numbers: Sequence[int], prompts: Sequence[Prompt] = ()
) -> list[dict[int, Logits]]:
    """The coarse logits of every object on those frames of the clip; prompts are given together with their frames."""
    found = []
    for number in numbers:
        answers = step(tracker, model, scene(number), [one for one in prompts if one.frame == number])
        found.append({name: one.logits[0] for name, one in answers.items()})
    return found


def only(frames: Sequence[dict[int, Logits]], *names: int) -> list[dict[int, Logits]]:
    """The same run, as if there were no other objects."""
    return [{name: logits for name, logits in frame.items() if name in names} for frame in frames]


def difference(one: Sequence[dict[int, Logits]], other: Sequence[dict[int, Logits]]) -> float:
    """The largest one of two runs, which must be of the same objects on every frame, each seen at least once."""
    assert [list(frame) for frame in one] == [list(frame) for frame in other]
    names = {name for frame in one for name in frame}
    assert names
    for name in names:
        assert any((frame[name] > 0).any() for frame in one if name in frame), f"object {name} is never seen"
    pairs = [(frame[name], twin[name]) for frame, twin in zip(one, other, strict=True) for name in frame]
    return max(float(np.abs(logits - expected).max()) for logits, expected in pairs)


def iou(logits: Logits, box_xyxy_px: tuple[float, float, float, float]) -> float:
    """Of a coarse mask and a filled box."""
    rows, columns = logits.shape
    x1, x2 = (round(x / WIDTH * columns) for x in box_xyxy_px[::2])
    y1, y2 = (round(y / HEIGHT * rows) for y in box_xyxy_px[1::2])
    truth = np.zeros(logits.shape, bool)
    truth[y1:y2, x1:x2] = True
    return float(((logits > 0) & truth).sum() / ((logits > 0) | truth).sum())


@contextmanager
def out_of_memory(module: torch.nn.Module, after: int = 0) -> Iterator[None]:
    """Within it the accelerator's memory does not suffice for what ``module`` does, but for the first calls."""
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise torch.OutOfMemoryError("no memory is left")

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()
