"""A second look at the objects of a picture: larger, mirrored, small ones much enlarged, the first answer fed back.

A model sees every picture at one size. Of a photo of many megapixels it sees an object of a tenth of its width on some
dozen pixels; enlarged, the object shows its edge. Large objects gain less, from a somewhat larger input and from what
every ensemble gives: a mirrored picture is answered with other errors. The mask of the first look is fed back, as that
of a former frame is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from streamseg.segmentation.decode import Answer, Ask, Logits, SecondLook, as_prior, box_of, decode
from streamseg.segmentation.embedding import embed, to_model_input

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.models.build import LoadedModel
    from streamseg.segmentation.masks import IntBox
    from streamseg.segmentation.prompts import Box, Point

# Sides of the window, in those of the object's box, and at least so much of the picture's longer side: a model
# trained on whole scenes needs some of what is around.
SURROUNDINGS = 1.5
LEAST_SHARE = 0.2
# A window of more than this share of the picture would show little more: the whole picture is looked at.
MOST_AREA_SHARE = 0.5
# What is seen the second time must be what was seen first (IoU), else it is something else in there.
LEAST_AGREEMENT = 0.5
# Each part costs an encoding; of many objects the first ones get one.
MOST_LOOKS = 8


def look_again(model: LoadedModel, frame: Frame, asks: Sequence[Ask], answers: Sequence[Answer]) -> list[Answer]:
    """The answers, each with what a second look at its object gave. Runs on the model's thread."""
    places: dict[IntBox, list[int]] = {}
    for place, (ask, answer) in enumerate(zip(asks, answers, strict=True)):
        window = window_of(ask, answer, frame, model.image_size)
        if window is not None:
            places.setdefault(window, []).append(place)
    again = list(answers)
    larger = model.for_second_look()
    for window in list(places)[:MOST_LOOKS]:
        here = places[window]
        seconds = _look_at(larger, frame, window, [asks[place] for place in here], [answers[place] for place in here])
        for place, second in zip(here, seconds, strict=True):
            again[place] = replace(answers[place], second=second)
    return again


def window_of(ask: Ask, answer: Answer, frame: Frame, image_size: int) -> IntBox | None:
    """The part of the frame to look at, maybe all of it, as (x1, y1, x2, y2) pixels; None where nothing was found."""
    width, height = frame.width, frame.height
    box = _box(ask, answer, frame)
    if box is None:
        return None
    # All that is said to belong to the object must be in it.
    wanted = [point for point, label in zip(ask.points, ask.labels, strict=True) if label == 1]
    x1, x2 = min([box[0], *(x for x, _ in wanted)]), max([box[2], *(x for x, _ in wanted)])
    y1, y2 = min([box[1], *(y for _, y in wanted)]), max([box[3], *(y for _, y in wanted)])
    half = max(SURROUNDINGS * max(x2 - x1, y2 - y1), LEAST_SHARE * max(width, height)) / 2
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    window = (
        int(max(middle_x - half, 0)),
        int(max(middle_y - half, 0)),
        int(min(middle_x + half, width)),
        int(min(middle_y + half, height)),
    )
    area = (window[2] - window[0]) * (window[3] - window[1])
    # A part of so small a picture shows no more than the whole does.
    if max(width, height) < image_size or not 0 < area <= MOST_AREA_SHARE * width * height:
        return (0, 0, width, height)
    return window


def _box(ask: Ask, answer: Answer, frame: Frame) -> Box | None:
    if ask.box is not None:
        return ask.box
    best = answer.logits[answer.best]
    return box_of(best, (frame.width, frame.height)) if (best > 0).any() else None


def _look_at(
    model: LoadedModel, frame: Frame, window_xyxy_px: IntBox, asks: Sequence[Ask], answers: Sequence[Answer]
) -> list[SecondLook | None]:
    x1, y1, x2, y2 = window_xyxy_px
    size = (x2 - x1, y2 - y1)
    part = np.ascontiguousarray(frame.rgb[y1:y2, x1:x2])
    embedding = embed(model.predictor, to_model_input(part, model.image_size, model.device).flip(-1))
    firsts = [_part_of(one.logits[one.best], window_xyxy_px, frame, model.mask_input_size) for one in answers]
    questions = tuple(
        _mirrored(_in_window(ask, window_xyxy_px, first), size[0]) for ask, first in zip(asks, firsts, strict=True)
    )
    given = decode(model.predictor, embedding, questions, size, multimask=False)
    is_whole = size == (frame.width, frame.height)
    return [
        _second(window_xyxy_px, answer, first, one, is_whole=is_whole)
        for answer, first, one in zip(answers, firsts, given, strict=True)
    ]


def _second(
    window_xyxy_px: IntBox, answer: Answer, first: Logits, given: Answer, *, is_whole: bool
) -> SecondLook | None:
    logits, score = given.logits[given.best][:, ::-1].copy(), float(given.scores[given.best])
    if _agreement(first, logits) < LEAST_AGREEMENT:
        return None
    if not is_whole:
        return SecondLook(window_xyxy_px, logits, score)
    # Nothing more was seen than the first time, so that both count alike.
    mean = (logits + first) * np.float32(0.5)
    return SecondLook(window_xyxy_px, mean, (score + float(answer.scores[answer.best])) / 2)


def _in_window(ask: Ask, window_xyxy_px: IntBox, first: Logits) -> Ask:
    """The same question about a part of the picture."""
    x1, y1, x2, y2 = window_xyxy_px
    inside = [
        (point, label)
        for point, label in zip(ask.points, ask.labels, strict=True)
        if x1 <= point[0] < x2 and y1 <= point[1] < y2
    ]
    points: tuple[Point, ...] = tuple((x - x1, y - y1) for (x, y), _ in inside)
    # A box that nobody drew would say again what the mask says, with its errors.
    box = ask.box
    if box is not None:
        box = (max(box[0] - x1, 0), max(box[1] - y1, 0), min(box[2], x2) - x1, min(box[3], y2) - y1)
    # Without the mask a click among several alike may find another of them.
    return Ask(ask.object_id, points, tuple(label for _, label in inside), box, as_prior(first))


def _mirrored(ask: Ask, width: int) -> Ask:
    box = ask.box
    return replace(
        ask,
        points=tuple((width - x, y) for x, y in ask.points),
        box=None if box is None else (width - box[2], box[1], width - box[0], box[3]),
        prior=None if ask.prior is None else ask.prior[:, ::-1].copy(),
    )


def _part_of(logits: Logits, window_xyxy_px: IntBox, frame: Frame, cells_hw: tuple[int, int]) -> Logits:
    """What coarse logits (h, w) of the frame say of a part of it, in ``cells_hw`` cells; outside the frame: nothing."""
    rows, columns = logits.shape
    per_x, per_y = columns / frame.width, rows / frame.height
    x1, y1, x2, y2 = window_xyxy_px
    scale_x, scale_y = (x2 - x1) * per_x / cells_hw[1], (y2 - y1) * per_y / cells_hw[0]
    # Centres of the cells of the part, in cells of the whole.
    place = np.array(
        [
            [scale_x, 0, x1 * per_x + scale_x / 2 - 0.5],
            [0, scale_y, y1 * per_y + scale_y / 2 - 0.5],
        ]
    )
    size = (cells_hw[1], cells_hw[0])
    part = cv2.warpAffine(logits, place, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=-1.0)
    return part.astype(np.float32, copy=False)


def _agreement(one: Logits, other: Logits) -> float:
    """IoU of two masks of the same cells."""
    both = np.logical_and(one > 0, other > 0).sum()
    either = np.logical_or(one > 0, other > 0).sum()
    return float(both) / max(float(either), 1.0)
