"""Decoding gives the logits of sam2's own image predictor (embedded nano model)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from streamseg.models.build import LoadedModel
from streamseg.segmentation.decode import MOST_TURNS, Ask, decode, mask_as_prior
from streamseg.segmentation.embedding import MEAN, STD, ImageEmbedding, embed, to_model_input

WIDTH, HEIGHT = 320, 200


def picture() -> np.ndarray:
    random = np.random.default_rng(3)
    rgb = random.integers(60, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    rgb[50:150, 80:200] = (210, 60, 40)
    return rgb


@pytest.fixture(scope="module")
def reference(model: LoadedModel):
    """SAM2ImagePredictor of the same model, with the picture set."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        predictor = SAM2ImagePredictor(model.predictor)
    f = model.image_size // 16
    predictor._bb_feat_sizes = [(4 * f, 4 * f), (2 * f, 2 * f), (f, f)]
    with model.inference():
        predictor.set_image(picture())
    return predictor


@pytest.fixture(scope="module")
def embedding(model: LoadedModel, reference) -> ImageEmbedding:
    """Embedded from the reference's own input, so that only embedding and decoding are compared."""
    with model.inference():
        return embed(model.predictor, reference._transforms(picture())[None])


def test_the_embedding_is_the_reference_s(embedding: ImageEmbedding, reference) -> None:
    torch.testing.assert_close(embedding.image_embed, reference._features["image_embed"])
    for ours, theirs in zip(embedding.high_res_feats, reference._features["high_res_feats"], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_model_input_is_the_reference_s_within_one_grey_level(model: LoadedModel, reference) -> None:
    ours = to_model_input(picture(), model.image_size, torch.device("cpu"))
    theirs = reference._transforms(picture())[None]
    assert ours.shape == theirs.shape == (1, 3, model.image_size, model.image_size)
    assert float((ours - theirs).abs().max()) <= 1.01 / (255 * min(STD))


def test_a_picture_of_the_model_s_size_is_only_normalised(model: LoadedModel) -> None:
    rgb = np.full((model.image_size, model.image_size, 3), 255, dtype=np.uint8)
    values = to_model_input(rgb, model.image_size, torch.device("cpu"))[0, :, 0, 0]
    np.testing.assert_allclose(values, (1 - np.array(MEAN)) / np.array(STD), rtol=1e-5)


PROMPTS = {
    "one click": ({"points": ((140.0, 100.0),), "labels": (1,)}, True),
    "two clicks": ({"points": ((140.0, 100.0), (20.0, 20.0)), "labels": (1, 0)}, False),
    "a box": ({"box": (80.0, 50.0, 200.0, 150.0)}, False),
    "box and click": ({"box": (80.0, 50.0, 200.0, 150.0), "points": ((140.0, 100.0),), "labels": (1,)}, False),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_decoding_gives_the_reference_s_logits(model: LoadedModel, reference, embedding, name: str) -> None:
    fields, several = PROMPTS[name]
    with model.inference():
        (answer,) = decode(model.predictor, embedding, (Ask(1, **fields),), (WIDTH, HEIGHT), multimask=False)
        _, scores, logits = reference.predict(
            point_coords=np.array(fields["points"]) if "points" in fields else None,
            point_labels=np.array(fields["labels"]) if "labels" in fields else None,
            box=np.array(fields["box"]) if "box" in fields else None,
            multimask_output=several,
        )
    assert len(answer.scores) == (3 if several else 1)
    np.testing.assert_allclose(np.clip(answer.logits, -32, 32), logits, atol=1e-3)
    np.testing.assert_allclose(answer.scores, scores, atol=1e-5)
    assert answer.best == int(np.argmax(scores))


def test_a_fed_back_mask_gives_the_reference_s_logits(model: LoadedModel, reference, embedding) -> None:
    prior = mask_as_prior(np.eye(HEIGHT, WIDTH, dtype=bool), model.mask_input_size)
    with model.inference():
        ask = Ask(1, points=((140.0, 100.0),), labels=(1,), prior=prior)
        (answer,) = decode(model.predictor, embedding, (ask,), (WIDTH, HEIGHT), multimask=False)
        _, _, logits = reference.predict(
            np.array([[140.0, 100.0]]), np.array([1]), mask_input=prior[None], multimask_output=False
        )
    np.testing.assert_allclose(np.clip(answer.logits, -32, 32), logits, atol=1e-3)


@pytest.mark.parametrize("boxed", [False, True])
def test_clicks_in_turn_correct_the_mask_of_the_clicks_before(model: LoadedModel, reference, embedding, boxed) -> None:
    points, labels = np.array([[140.0, 100.0], [90.0, 60.0], [20.0, 20.0]]), np.array([1, 1, 0])
    box = (80.0, 50.0, 200.0, 150.0) if boxed else None
    ask = Ask(1, points=tuple(map(tuple, points.tolist())), labels=tuple(labels.tolist()), box=box)
    with model.inference():
        (answer,) = decode(model.predictor, embedding, (ask,), (WIDTH, HEIGHT), multimask=False, clicks_in_turn=True)
        prior = None
        for count in range(0 if boxed else 1, 4):
            _, scores, logits = reference.predict(
                points[:count] if count else None,
                labels[:count] if count else None,
                box=None if box is None else np.array(box),
                mask_input=prior,
                multimask_output=count == 1 and not boxed,
            )
            prior = logits[[int(np.argmax(scores))]]
    np.testing.assert_allclose(np.clip(answer.logits, -32, 32), prior, atol=1e-2)


def test_clicks_that_only_take_away_are_given_at_once(model: LoadedModel, embedding) -> None:
    ask = Ask(1, points=((140.0, 100.0), (20.0, 20.0)), labels=(0, 0))
    with model.inference():
        (plain,), (turns,) = (
            decode(model.predictor, embedding, (ask,), (WIDTH, HEIGHT), multimask=False, clicks_in_turn=in_turn)
            for in_turn in (False, True)
        )
    assert np.array_equal(plain.logits, turns.logits)


def test_many_clicks_take_no_more_than_some_turns(model: LoadedModel, embedding) -> None:
    passes = []
    watching = model.predictor.sam_mask_decoder.register_forward_hook(lambda *_: passes.append(1))
    ask = Ask(1, points=((140.0, 100.0),) * 64, labels=(1,) * 64)
    with watching, model.inference():
        decode(model.predictor, embedding, (ask, ask), (WIDTH, HEIGHT), multimask=False, clicks_in_turn=True)
    assert len(passes) == 1 + MOST_TURNS


def test_objects_decoded_together_get_what_each_gets_alone(model: LoadedModel, embedding) -> None:
    asks = (
        Ask(5, points=((140.0, 100.0),), labels=(1,)),
        Ask(2, box=(80.0, 50.0, 200.0, 150.0)),
        Ask(9, points=((20.0, 20.0),), labels=(1,)),
        Ask(4, points=((30.0, 20.0), (140.0, 100.0)), labels=(1, 0)),
    )
    with model.inference():
        together = decode(model.predictor, embedding, asks, (WIDTH, HEIGHT), multimask=False)
        alone = [decode(model.predictor, embedding, (ask,), (WIDTH, HEIGHT), multimask=False)[0] for ask in asks]
    assert [answer.object_id for answer in together] == [5, 2, 9, 4]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-3)
        assert one.best == other.best


def test_a_mask_smaller_than_a_cell_is_still_a_mask(model: LoadedModel) -> None:
    mask = np.zeros((2000, 2000), dtype=bool)
    mask[1000, 1000] = True
    assert (mask_as_prior(mask, model.mask_input_size) > 0).sum() == 1
