"""What a tracker remembers of an object, as bookkeeping: memories are told apart by their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from streamseg.models.build import LoadedModel
from streamseg.segmentation.memory import Attended, Memory, MemoryBank, MemoryRule

RULE = MemoryRule(mask_memories=7, pointers=16, stride=1)


def memory(number: int, score: float = 0.9, object_score: float = 5.0, plausible: bool = True) -> Memory:
    """Of frame ``number``."""
    return Memory(
        logits=torch.zeros(1, 1, 4, 4),
        pointer=torch.full((1, 2), float(number)),
        features=torch.full((1, 1, 1, 1), float(number)),
        object_score=object_score,
        score=score,
        plausible=plausible,
    )


def bank(conditioning: Sequence[int], recent: Sequence[int]) -> MemoryBank:
    return MemoryBank(
        {number: memory(number) for number in conditioning}, {number: memory(number) for number in recent}
    )


def number_of(one: Memory) -> int:
    return int(one.pointer[0, 0])


def masks(attended: Attended) -> list[tuple[int, int]]:
    """(temporal place, frame number)"""
    return [(place, number_of(one)) for place, one in attended.masks]


def pointers(attended: Attended) -> list[tuple[int, int]]:
    """(frames back, frame number)"""
    return [(back, number_of(one)) for back, one in attended.pointers]


class _AskedError(Exception):
    """The rest of the work is of no interest."""


@contextmanager
def asked(module: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """What ``module`` is called with; the call is the last thing that happens within."""
    given: dict[str, Any] = {}

    def look(module: torch.nn.Module, arguments: object, keywords: dict[str, Any]) -> None:
        given.update(keywords)
        raise _AskedError

    handle = module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with pytest.raises(_AskedError):
            yield given
    finally:
        handle.remove()


def test_a_rule_is_read_off_the_model(small: LoadedModel) -> None:
    assert MemoryRule.of(small.predictor) == MemoryRule(mask_memories=7, pointers=16, stride=1, selective=False)
    assert MemoryRule.of(small.predictor, selective=True).selective


def test_masks_of_six_frames_and_pointers_of_fifteen_are_attended_to() -> None:
    attended = bank([0], range(1, 30)).attended(30, RULE)
    assert masks(attended) == [(0, 0), (1, 24), (2, 25), (3, 26), (4, 27), (5, 28), (6, 29)]
    assert pointers(attended) == [(30, 0)] + [(back, 30 - back) for back in range(1, 16)]


def test_what_is_missing_leaves_its_place_empty() -> None:
    attended = bank([0, 3], [1, 2]).attended(5, RULE)
    assert masks(attended) == [(0, 0), (0, 3), (3, 1), (4, 2)]
    assert pointers(attended) == [(5, 0), (2, 3), (3, 2), (4, 1)]
    assert attended.shape == ((0, 0, 3, 4), 4)


def test_conditioning_frames_to_come_are_not_attended_to_and_the_present_one_is() -> None:
    attended = bank([0, 4, 9], []).attended(4, RULE)
    assert masks(attended) == [(0, 0), (0, 4)]
    assert pointers(attended) == [(4, 0), (0, 4)]


def test_objects_that_joined_at_different_frames_have_one_shape() -> None:
    assert bank([0], range(1, 40)).attended(40, RULE).shape == bank([9], range(10, 40)).attended(40, RULE).shape
    assert bank([0, 1], range(2, 40)).attended(40, RULE).shape != bank([0], range(1, 40)).attended(40, RULE).shape


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("conditioning", [(0,), (0, 8), (3, 17, 18)])
def test_memories_are_those_that_the_reference_takes(
    small: LoadedModel, stride: int, conditioning: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``SAM2Base`` itself is asked; every token that it attends to carries the number of its frame."""
    predictor = small.predictor
    width, split = predictor.mem_dim, predictor.hidden_dim // predictor.mem_dim
    monkeypatch.setattr(predictor, "memory_temporal_stride_for_eval", stride)

    def output(number: int) -> dict[str, Any]:
        return {
            "maskmem_features": torch.full((1, width, 1, 1), float(number)),
            "maskmem_pos_enc": [torch.zeros(1, width, 1, 1)],
            "obj_ptr": torch.full((1, predictor.hidden_dim), float(number)),
        }

    rule = MemoryRule.of(predictor)
    for number in range(conditioning[-1] + 1, 50):
        recent = [known for known in range(conditioning[0], number) if known not in conditioning]
        outputs = {
            "cond_frame_outputs": {known: output(known) for known in conditioning},
            "non_cond_frame_outputs": {known: output(known) for known in recent},
        }
        with torch.inference_mode(), asked(predictor.memory_attention) as given:
            predictor._prepare_memory_conditioned_features(
                frame_idx=number,
                is_init_cond_frame=False,
                current_vision_feats=[torch.zeros(1, 1, predictor.hidden_dim)],
                current_vision_pos_embeds=[torch.zeros(1, 1, predictor.hidden_dim)],
                feat_sizes=[(1, 1)],
                output_dict=outputs,
                num_frames=100,
            )
        attended = bank(conditioning, recent).attended(number, rule)
        expected = [known for _, known in masks(attended)]
        expected += [known for _, known in pointers(attended) for _ in range(split)]
        assert given["memory"][:, 0, 0].int().tolist() == expected
        ages = torch.stack([predictor.maskmem_tpos_enc[7 - place - 1, 0, 0] for place, _ in masks(attended)])
        assert torch.equal(given["memory_pos"][: len(ages), 0], ages)


def test_a_strict_choice_passes_over_what_is_unreliable() -> None:
    rule = replace(RULE, selective=True)
    one = bank([0], range(1, 20))
    one.recent[19] = memory(19, score=0.1)
    one.recent[18] = memory(18, score=0.5)
    one.recent[16] = memory(16, object_score=-1.0)
    one.recent[15] = memory(15, plausible=False)
    # The frame just before is attended to whatever it is like.
    assert masks(one.attended(20, rule)) == [(0, 0), (1, 11), (2, 12), (3, 13), (4, 14), (5, 17), (6, 19)]
    assert pointers(one.attended(20, rule)) == pointers(one.attended(20, RULE))


def test_a_strict_choice_of_few_is_the_newest_of_places() -> None:
    one = bank([0], range(1, 40))
    for number in range(40):
        if number not in (12, 14, 16, 30):
            one.recent[number] = memory(number, score=0.2)
    # 24 frames are looked through, so 16 is the oldest that can be found.
    assert masks(one.attended(40, replace(RULE, selective=True)))[1:] == [(4, 16), (5, 30), (6, 39)]


def test_while_all_is_reliable_the_strict_choice_is_the_plain_one() -> None:
    for number in range(1, 30):
        one = bank([0], range(1, number))
        assert masks(one.attended(number, replace(RULE, selective=True))) == masks(one.attended(number, RULE))


@pytest.mark.parametrize(
    ("score", "object_score", "plausible", "reliable"),
    [(0.51, 0.1, True, True), (0.5, 5, True, False), (0.9, 0.0, True, False), (0.9, 5, False, False)],
)
def test_a_memory_is_reliable_if_nothing_speaks_against_it(
    score: float, object_score: float, plausible: bool, reliable: bool
) -> None:
    assert memory(0, score, object_score, plausible).reliable == reliable


@pytest.mark.parametrize(
    "rule", [RULE, replace(RULE, stride=2), replace(RULE, stride=4), replace(RULE, selective=True)]
)
@pytest.mark.parametrize("window", [1, 3, 8])
def test_what_was_trimmed_is_never_missed(rule: MemoryRule, window: int) -> None:
    """Neither by the next frame nor by a correction of any frame of the window."""
    trimmed, whole = MemoryBank(), MemoryBank()
    for newest in range(70):
        one = memory(newest, score=0.2 if newest % 5 in (2, 3) else 0.9)
        for each in (trimmed, whole):
            if newest in (0, 20, 41):
                each.condition(newest, one, 8)
            else:
                each.recent[newest] = one
        trimmed.trim(newest, rule, window)
        for number in range(max(newest - window + 1, 1), newest + 2):
            got, wanted = trimmed.attended(number, rule), whole.attended(number, rule)
            assert masks(got) == masks(wanted)
            assert pointers(got) == pointers(wanted)
            assert all(memory.features is not None for _, memory in got.masks)
        for number in range(max(newest - window + 1, 0), newest + 1):
            kept = trimmed.get(number)
            assert kept is not None
            assert kept.logits is not None
    assert len(trimmed.recent) <= rule.reach + window
    assert sum(one.features is not None for one in trimmed.recent.values()) <= rule.mask_reach + window
    logits = [one.logits for one in (*trimmed.recent.values(), *trimmed.conditioning.values())]
    assert sum(one is not None for one in logits) == window
    assert list(trimmed.conditioning) == [0, 20, 41]
    assert all(one.features is not None for one in trimmed.conditioning.values())


def test_the_first_and_the_newest_conditioning_frames_stay() -> None:
    one = MemoryBank()
    for number in range(6):
        one.condition(number, memory(number), 3)
    assert list(one.conditioning) == [0, 4, 5]
    assert sorted(one.recent) == [1, 2, 3]
    assert masks(one.attended(6, RULE)) == [(0, 0), (0, 4), (0, 5), (2, 1), (3, 2), (4, 3)]


def test_of_one_conditioning_frame_the_newest_stays() -> None:
    one = MemoryBank()
    for number in range(3):
        one.condition(number, memory(number), 1)
    assert list(one.conditioning) == [2]


def test_the_frame_that_was_just_prompted_stays_wherever_it_is() -> None:
    one = MemoryBank()
    for number in (5, 0, 9, 2):
        one.condition(number, memory(number), 3)
    assert list(one.conditioning) == [0, 2, 9]
    assert list(one.recent) == [5]


def test_a_conditioning_frame_that_is_made_again_pushes_no_other_out() -> None:
    one = bank([0, 4], [5])
    again = memory(4)
    one.condition(4, again, 2)
    assert one.conditioning[4] is again
    assert list(one.conditioning) == [0, 4]
    one.condition(5, memory(5), 3)
    assert list(one.conditioning) == [0, 4, 5]
    assert one.recent == {}


def test_a_frame_is_known_forgotten_and_an_object_started() -> None:
    one = bank([3], [4, 5])
    assert [one.get(number) is not None for number in (2, 3, 4)] == [False, True, True]
    assert [one.started(number) for number in (2, 3, 4)] == [False, False, True]
    for number in (3, 4, 90):
        one.forget(number)
    assert (list(one.conditioning), list(one.recent)) == ([], [5])
    assert not one.started(6)


def test_a_copy_is_on_its_own() -> None:
    one = bank([0], [1])
    other = one.copy()
    other.condition(2, memory(2), 8)
    other.forget(1)
    assert (list(one.conditioning), list(one.recent)) == ([0], [1])
    assert other.get(0) is one.get(0)
