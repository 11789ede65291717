"""Clock: stored times of any kind become seconds that start at 0 and strictly increase."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streamseg.media.clock import Clock


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ([0.0, 0.1, 0.2], [0.0, 0.1, 0.2]),
        ([95443.7, 95443.8, 95444.5], [0.0, 0.1, 0.8]),
        ([-0.5, -0.4, 0.1], [0.0, 0.1, 0.6]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, None, None, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([None, None, 5.0, 5.1], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, None, 0.05, 0.2], [0.0, 0.1, 0.15, 0.2]),
        ([0.0, 0.1, 0.1, 0.2], [0.0, 0.1, 0.15, 0.2]),
        ([0.0, 0.1, 0.05, 0.2], [0.0, 0.1, 0.15, 0.2]),
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.05, 0.15, 0.25]),
        ([7.0, 7.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 60.0], [0.0, 0.1, 60.0]),
    ],
)
def test_times_at_ten_frames_a_second(stored: list[float | None], wanted: list[float]) -> None:
    clock = Clock(0.1)
    assert [clock.next(time_s) for time_s in stored] == pytest.approx(wanted)


def test_a_jump_forward_is_a_joint_only_where_parts_are_joined() -> None:
    clock = Clock(0.1, joins=True)
    assert [clock.next(time_s) for time_s in (0.0, 0.1, 900.0, 900.1, 905.0)] == pytest.approx([0, 0.1, 0.2, 0.3, 5.2])
    assert clock.restarts == 1


def test_the_duration_of_the_frame_before_fills_a_gap() -> None:
    clock = Clock(0.1)
    assert [clock.next(0.0, 0.4), clock.next(None, 0.2), clock.next(None)] == pytest.approx([0.0, 0.4, 0.6])
    assert clock.end_s == pytest.approx(0.7)
    assert clock.missing == 2


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e9, float("nan")])
def test_impossible_durations_are_ignored(duration_s: float) -> None:
    clock = Clock(0.1)
    clock.next(0.0, duration_s)
    assert clock.end_s == pytest.approx(0.1)


def test_whatever_is_stored_times_strictly_increase() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        clock = Clock(0.04, joins=bool(random.integers(2)))
        stored = [None if random.random() < 0.2 else float(random.normal(0, 3)) for _ in range(100)]
        times_s = [clock.next(time_s) for time_s in stored]
        assert times_s[0] == 0.0
        assert all(earlier < later for earlier, later in pairwise(times_s))
