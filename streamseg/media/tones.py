"""Values of more than 8 bits, brought to 0..255."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamseg.errors import BadSettingError

Window: TypeAlias = tuple[float, float]

_MOST_16_BIT = 65535.0


def check_window(window: Any) -> Window:
    """``window`` as (low, high); raises BadSettingError unless both are finite and low < high."""
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError) as error:
        raise BadSettingError("window must be two numbers (low, high)") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadSettingError(f"window must be finite and low < high, not ({low:g}, {high:g})")
    return low, high


def to_8_bit(values: NDArray[Any], window: Window | None) -> NDArray[np.uint8]:
    """Any real array as uint8: ``window``'s low becomes 0, its high 255, values beyond are clipped.

    Without a window unsigned 16-bit values span 0 to 65535. Signed, 32-bit and float values have no range of their
    own: integers within 0..65535 are read as 16 bit, floats within 0..1 as that, and anything else from its smallest
    to its largest finite value. NaN becomes black.
    """
    low, high = window or _natural_range(values)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        every = np.arange(65536)
        table = _scale(every, low, high)
        return np.take(table, values)
    return _scale(values, low, high)


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled: NDArray[np.float64] = values.astype(np.float64)
    scaled -= low
    scaled *= 255.0 / (high - low)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return scaled.astype(np.uint8)


def _natural_range(values: NDArray[Any]) -> Window:
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return 0.0, _MOST_16_BIT
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    whole = 1.0 if values.dtype.kind == "f" else _MOST_16_BIT
    if low >= 0.0 and high <= whole:
        return 0.0, whole
    # A flat picture has no contrast to spread: it stays mid-grey at worst, never a division by zero.
    return (low, high) if low < high else (low - 1.0, high + 1.0)
