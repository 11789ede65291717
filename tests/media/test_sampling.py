"""Sampling: which frames are segmented, held, left out, and where reading stops."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from streamseg.errors import BadSettingError
from streamseg.media.sampling import Choice, Sampling

SYMBOLS = {Choice.SEGMENT: "S", Choice.HOLD: "h", Choice.SKIP: ".", Choice.STOP: "|"}


def choices(rule: Sampling, times_s: list[float], always: tuple[int, ...] = ()) -> str:
    choose = rule.sampler(always)
    return "".join(SYMBOLS[choose(index, time_s)] for index, time_s in enumerate(times_s))


def steady(fps: float, count: int) -> list[float]:
    return [index / fps for index in range(count)]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (Sampling(), "SSSSSSSSSS"),
        (Sampling(every=3), "S..S..S..S"),
        (Sampling(every=3, hold=True), "ShhShhShhS"),
        (Sampling(every=100), "S........."),
        (Sampling(start_s=0.3), "...SSSSSSS"),
        (Sampling(end_s=0.4), "SSSS||||||"),
        (Sampling(every=2, start_s=0.3, end_s=0.8), "...S.S.S||"),
        (Sampling(every=2, start_s=0.3, end_s=0.8, hold=True), "...ShShS||"),
        (Sampling(start_s=5.0), ".........."),
        (Sampling(fps=5.0), "S.S.S.S.S."),
        (Sampling(fps=5.0, hold=True), "ShShShShSh"),
        (Sampling(fps=5.0, start_s=0.3), "...S.S.S.S"),
        (Sampling(fps=10.0), "SSSSSSSSSS"),
        (Sampling(fps=1000.0), "SSSSSSSSSS"),
        (Sampling(fps=0.5), "S........."),
    ],
)
def test_ten_frames_a_second_are_sampled_by_the_rule(rule: Sampling, wanted: str) -> None:
    assert choices(rule, steady(10, 10)) == wanted


def test_a_range_begins_with_a_sample_and_holds_nothing_before_it() -> None:
    assert choices(Sampling(every=4, start_s=0.25, hold=True), steady(10, 10)) == "...ShhhShh"


def test_frames_with_prompts_are_always_segmented_inside_the_range_only() -> None:
    rule = Sampling(every=4, start_s=0.1, end_s=0.8)
    assert choices(rule, steady(10, 10), always=(0, 2, 3, 9)) == ".SSS.S..||"


def test_a_prompted_frame_takes_the_slot_that_it_falls_into() -> None:
    times_s = [0.0, 0.1, 0.5, 0.6]
    assert choices(Sampling(fps=2.0), times_s) == "S.S."
    assert choices(Sampling(fps=2.0), times_s, always=(2, 3)) == "S.SS"


@pytest.mark.parametrize(("source", "wanted"), [(29.97, 10), (24, 7), (60, 25), (25, 25), (50, 29.97)])
def test_a_rate_is_met_on_average_whatever_the_rate_of_the_source(source: float, wanted: float) -> None:
    segmented = choices(Sampling(fps=wanted), steady(source, round(20 * source))).count("S")
    assert segmented == pytest.approx(20 * wanted, abs=1)


def test_times_rounded_to_milliseconds_do_not_lose_frames() -> None:
    times_s = [round(time_s, 3) for time_s in steady(30, 300)]
    assert choices(Sampling(fps=30.0), times_s) == "S" * 300


def test_a_variable_frame_rate_is_sampled_by_time() -> None:
    times_s = [0.0, 0.01, 0.02, 0.03, 0.6, 0.61, 3.0, 3.01, 3.4, 3.6]
    assert choices(Sampling(fps=2.0), times_s) == "S...S.S..S"


def test_a_rule_can_be_used_again_and_sent_to_another_process() -> None:
    rule = Sampling(every=3)
    assert choices(rule, steady(10, 4)) == choices(pickle.loads(pickle.dumps(rule)), steady(10, 4)) == "S..S"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"every": 0}, "every"),
        ({"every": -2}, "every"),
        ({"every": 2.0}, "every"),
        ({"every": True}, "every"),
        ({"fps": 0}, "fps"),
        ({"fps": -1.0}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"fps": math.inf}, "fps"),
        ({"fps": "5"}, "fps"),
        ({"fps": 5.0, "every": 2}, "exclude"),
        ({"start_s": -1.0}, "start_s"),
        ({"start_s": math.nan}, "start_s"),
        ({"end_s": math.inf}, "end_s"),
        ({"end_s": 0.0}, "after"),
        ({"start_s": 2.0, "end_s": 2.0}, "after"),
        ({"hold": 1}, "hold"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(BadSettingError, match=word):
        Sampling(**settings)
