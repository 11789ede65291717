"""Tiny masks as text: # object, . background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def drawn(text: str) -> NDArray[np.bool_]:
    return np.array([[mark == "#" for mark in line] for line in text.split()])


def text(mask: NDArray[np.bool_]) -> str:
    return " ".join("".join(".#"[int(bit)] for bit in row) for row in mask)
