"""The one picture type that travels along the path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One upright picture of a source.

    ``rgb``: uint8 (H, W, 3), C-contiguous, after any rotation of the source was applied.
    ``index``: from 0 in source order. ``time_s``: presentation time of the source, 0.0 for a photo.
    """

    rgb: RgbImage
    index: int = 0
    time_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {self.rgb.dtype} {self.rgb.shape}")
        if not self.rgb.flags.c_contiguous:
            object.__setattr__(self, "rgb", np.ascontiguousarray(self.rgb))

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])
