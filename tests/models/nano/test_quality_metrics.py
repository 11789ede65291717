from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.benchmark_module import load_benchmark


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    return load_benchmark("metrics")


def square(left: int, side: int = 40, shape: tuple[int, int] = (100, 200)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[30 : 30 + side, left : left + side] = True
    return mask


EMPTY = np.zeros((100, 200), bool)


def test_equal_masks_score_one_and_disjoint_masks_nothing(metrics: ModuleType) -> None:
    assert metrics.iou(square(20), square(20)) == 1
    assert metrics.contour_accuracy(square(20), square(20)) == 1
    assert metrics.iou(square(20), square(120)) == 0
    assert metrics.contour_accuracy(square(20), square(120)) == 0


def test_iou_counts_pixels(metrics: ModuleType) -> None:
    assert metrics.iou(square(20), square(40)) == pytest.approx(20 / 60)


def test_an_absent_object_found_absent_is_right(metrics: ModuleType) -> None:
    assert metrics.iou(EMPTY, EMPTY) == 1
    assert metrics.contour_accuracy(EMPTY, EMPTY) == 1
    assert metrics.contour_accuracy(EMPTY, square(20)) == 0
    assert metrics.contour_accuracy(square(20), EMPTY) == 0


def test_contours_within_the_tolerance_agree(metrics: ModuleType) -> None:
    # The diagonal is 223.6 px, so 0.008 of it is rounded up to 2 px.
    assert metrics.contour_accuracy(square(20), square(22)) == 1
    assert metrics.contour_accuracy(square(20), square(23)) < 0.8


def test_the_contour_lies_at_the_edge_and_not_along_the_image_border(metrics: ModuleType) -> None:
    half = np.zeros((5, 6), bool)
    half[:, :3] = True
    expected = np.zeros((5, 6), bool)
    expected[:, 2] = True
    np.testing.assert_array_equal(metrics.contour(half), expected)


def test_first_and_last_frame_do_not_count(metrics: ModuleType) -> None:
    wanted = [square(20)] * 4
    predicted = [EMPTY, square(20), square(20), EMPTY]
    assert metrics.clip_j_and_f(predicted, wanted) == (1, 1)


@pytest.mark.parametrize(("predicted", "wanted"), [(2, 2), (3, 4)])
def test_short_or_uneven_clips_are_refused(metrics: ModuleType, predicted: int, wanted: int) -> None:
    with pytest.raises(ValueError, match="three"):
        metrics.clip_j_and_f([square(20)] * predicted, [square(20)] * wanted)
