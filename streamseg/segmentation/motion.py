"""Whether an object can have moved the way its mask did.

After SAMURAI (Yang et al., "Adapting Segment Anything Model for Zero-Shot Visual Tracking with Motion-Aware Memory",
2024), with a constant velocity in place of its Kalman filter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from streamseg.segmentation.memory import CellBox, Memory


def located(memory: Memory, before: Memory | None, two_before: Memory | None) -> Memory:
    """``memory`` with its box, and whether that lies where the boxes of the two frames before lead to."""
    assert memory.logits is not None
    box = box_of_logits(memory.logits)
    expected = None
    if before is not None and before.box_cells is not None:
        expected = before.box_cells
        if two_before is not None and two_before.box_cells is not None:
            expected = _moved_on(two_before.box_cells, before.box_cells)
    return replace(memory, box_cells=box, plausible=box is None or expected is None or overlap(box, expected))


def box_of_logits(logits: torch.Tensor) -> CellBox | None:
    """Cell edges (x1, y1, x2, y2) of the positive part of (1, 1, h, w) logits, None where there is none."""
    positive = logits[0, 0] > 0
    rows, columns = positive.any(dim=1).nonzero().flatten().tolist(), positive.any(dim=0).nonzero().flatten().tolist()
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else None


def overlap(one: CellBox, other: CellBox) -> bool:
    """Whether two boxes share any area."""
    return max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])


def _moved_on(earlier: CellBox, later: CellBox) -> CellBox:
    x1, y1, x2, y2 = (2 * b - a for a, b in zip(earlier, later, strict=True))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
