"""The second look: which part is looked at, what comes of it, and where it stays away."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from streamseg.engine import Engine
from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.decode import Answer, Ask, decode, mask_as_prior
from streamseg.segmentation.embedding import embed, to_model_input
from streamseg.segmentation.lift import lift, lift_window
from streamseg.segmentation.prompts import Prompt
from streamseg.segmentation.second_look import LEAST_SHARE, MOST_LOOKS, look_again, window_of

CELLS = 96
WIDTH, HEIGHT = 1600, 1200


def plain(width: int = WIDTH, height: int = HEIGHT) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), 0, 0.0)


def answer_with(x1: int, y1: int, x2: int, y2: int) -> Answer:
    """An object on these cells of CELLS x CELLS."""
    logits = np.full((1, CELLS, CELLS), -5.0, np.float32)
    logits[0, y1:y2, x1:x2] = 5.0
    return Answer(1, logits, np.array([0.9], np.float32), 0)


BOX = Ask(1, box=(400.0, 300.0, 600.0, 500.0))
AROUND_BOX = (340, 240, 660, 560)


@pytest.mark.parametrize(
    ("ask", "answer", "size", "window"),
    [
        (BOX, answer_with(0, 0, 1, 1), (WIDTH, HEIGHT), AROUND_BOX),
        (
            Ask(1, points=((500.0, 400.0),), labels=(1,)),
            answer_with(24, 24, 36, 40),
            (WIDTH, HEIGHT),
            (340, 240, 660, 560),
        ),
        # Another click that belongs to it must be in the part, one that does not need not.
        (Ask(1, ((700.0, 400.0),), (1,), BOX.box), answer_with(0, 0, 1, 1), (WIDTH, HEIGHT), (325, 175, 775, 625)),
        (Ask(1, ((1500.0, 900.0),), (0,), BOX.box), answer_with(0, 0, 1, 1), (WIDTH, HEIGHT), AROUND_BOX),
        # A tiny object is shown with some of what is around it, and nothing beyond the edge.
        (Ask(1, box=(10.0, 10.0, 20.0, 20.0)), answer_with(0, 0, 1, 1), (WIDTH, HEIGHT), (0, 0, 175, 175)),
        (Ask(1, box=(100.0, 100.0, 1300.0, 1100.0)), answer_with(0, 0, 1, 1), (WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
        (Ask(1, points=((500.0, 400.0),), labels=(1,)), answer_with(0, 0, 0, 0), (WIDTH, HEIGHT), None),
        # Nothing more is to be seen in a small picture.
        (Ask(1, box=(100.0, 100.0, 160.0, 160.0)), answer_with(0, 0, 1, 1), (380, 285), (0, 0, 380, 285)),
    ],
    ids=["box", "click", "wide click", "far exclusion", "corner", "large", "nothing found", "small picture"],
)
def test_the_part_around_the_object_is_looked_at(ask, answer, size, window) -> None:
    assert LEAST_SHARE == 0.2
    assert window_of(ask, answer, plain(*size), 384) == window


def test_a_mask_of_a_part_lies_where_the_part_is() -> None:
    rng = np.random.default_rng(0)
    logits = cv2.GaussianBlur(rng.normal(size=(CELLS, CELLS)).astype(np.float32), (0, 0), 9)
    whole = lift_window(logits, (300, 200, 700, 500), WIDTH, HEIGHT).full()
    assert np.array_equal(whole[200:500, 300:700], lift(logits, 400, 300).full())
    whole[200:500, 300:700] = False
    assert not whole.any()


def star_picture() -> tuple[np.ndarray, np.ndarray]:
    """A large picture with a small star on a textured ground, and the star's mask."""
    rng = np.random.default_rng(4)
    ground = cv2.GaussianBlur(rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 3)
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 34, 80)
    corners = np.stack([500 + radii * np.sin(angles), 400 - radii * np.cos(angles)], axis=1).astype(np.int32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    ground[mask > 0] = (250, 200, 40)
    return ground, mask > 0


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


PROMPTS = {
    "click": Prompt(1, points_xy_px=[(500, 400)], labels=[1]),
    "box": Prompt(1, box_xyxy_px=(420, 318, 580, 468)),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_small_object_of_a_large_picture_gets_a_sharper_mask(model: LoadedModel, kind: str) -> None:
    rgb, star = star_picture()
    engine = Engine(model)
    masks = {}
    for second_look in (False, True):
        pipeline = Pipeline(engine, StreamOptions(second_look=second_look))
        pipeline.add_prompt(PROMPTS[kind])
        (one,) = pipeline.process(Frame(rgb, 0, 0.0)).objects
        masks[second_look] = one.mask
    engine.close()
    assert iou(masks[True], star) > iou(masks[False], star) + 0.03
    assert iou(masks[True], star) > 0.85


def test_streams_other_readings_and_other_models_are_left_alone(model: LoadedModel) -> None:
    rgb, _ = star_picture()
    engine = Engine(model)
    frame = Frame(rgb, 0, 0.0)

    def mask(options: StreamOptions) -> np.ndarray:
        pipeline = Pipeline(engine, options)
        pipeline.add_prompt(PROMPTS["click"])
        return pipeline.process(frame).objects[0].mask

    first = mask(StreamOptions())
    assert np.array_equal(mask(StreamOptions(multimask=True, second_look=True)), first)
    assert not np.array_equal(mask(StreamOptions(second_look=True)), first)
    engine.close()
    engine = Engine(replace(model, second_look=False))
    assert np.array_equal(mask(StreamOptions(second_look=True)), first)
    engine.close()


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_large_object_is_answered_as_its_mirror_image_is(model: LoadedModel, kind: str) -> None:
    rgb, star = (one[280:520, 340:660] for one in star_picture())
    prompts = {
        "click": (Ask(1, ((160.0, 120.0),), (1,)), Ask(1, ((160.0, 120.0),), (1,))),
        "box": (Ask(1, box=(80.0, 38.0, 239.0, 188.0)), Ask(1, box=(81.0, 38.0, 240.0, 188.0))),
    }
    masks = []
    with model.inference():
        for picture, ask in zip((rgb, rgb[:, ::-1]), prompts[kind], strict=True):
            frame = Frame(np.ascontiguousarray(picture), 0, 0.0)
            embedding = embed(model.predictor, to_model_input(frame.rgb, model.image_size, model.device))
            first = decode(model.predictor, embedding, (ask,), (320, 240), multimask=False)
            (answer,) = look_again(model, frame, [ask], first)
            assert answer.second is not None
            assert answer.second.window_xyxy_px == (0, 0, 320, 240)
            masks.append((first[0].logits[first[0].best] > 0, answer.second.logits > 0))
    (first_mask, second_mask), (first_other, second_other) = masks
    # Both directions are looked at, so that what is left of the difference is the mask that was fed back, and the size.
    assert iou(second_mask, second_other[:, ::-1]) > iou(first_mask, first_other[:, ::-1])
    # The second time the picture was larger.
    assert second_mask.shape == (112, 112)
    assert iou(second_mask, mask_as_prior(star, second_mask.shape) > 0) > 0.85


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (600, 1)], ids=str)
def test_the_thinnest_pictures_are_looked_at_again(model: LoadedModel, size: tuple[int, int]) -> None:
    # A mirrored array of one column keeps a negative stride, which NumPy calls contiguous and torch refuses.
    ask = Ask(1, ((size[0] / 2, size[1] / 2),), (1,))
    with model.inference():
        (answer,) = look_again(model, plain(*size), [ask], [answer_with(0, 0, CELLS, CELLS)])
    assert answer.second is None or answer.second.window_xyxy_px == (0, 0, *size)


def test_what_is_seen_and_is_something_else_is_not_taken(model: LoadedModel) -> None:
    rgb, _ = star_picture()
    # From afar the answer was two specks, one at each end of the star.
    afar = answer_with(25, 25, 27, 27)
    afar.logits[0, 37:39, 33:35] = 5.0
    with model.inference():
        (answer,) = look_again(model, Frame(rgb, 0, 0.0), [Ask(1, ((500.0, 400.0),), (1,))], [afar])
    assert answer.second is None


def test_so_many_parts_are_looked_at_and_no_more(model: LoadedModel) -> None:
    rgb, wanted = star_picture()
    count = MOST_LOOKS + 2
    star = Answer(1, mask_as_prior(wanted, (CELLS, CELLS))[None], np.array([0.9], np.float32), 0)
    # Boxes of one place take one look together.
    asks = [Ask(1, box=(420 - 2 * (at // 2), 318, 580, 468)) for at in range(2 * count)]
    with model.inference():
        answers = look_again(model, Frame(rgb, 0, 0.0), asks, [star] * len(asks))
    assert [answer.second is not None for answer in answers] == [True] * 2 * MOST_LOOKS + [False] * 4
