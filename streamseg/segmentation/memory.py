"""What the tracker remembers of an object: exactly what SAM 2's video model attends to, and nothing else.

``SAM2VideoPredictor`` keeps every frame's output for ever, but looks only at the conditioning frames, the mask memories
of the six frames before and the object pointers of the fifteen before. A bank that keeps these gives the same masks in
constant memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from sam2.modeling.sam2_base import SAM2Base

    from streamseg.segmentation.memory_attention import Projected

CellBox: TypeAlias = tuple[int, int, int, int]

# After SAMURAI (Yang et al., 2024): only memories with a higher predicted IoU are attended to ...
MIN_SCORE = 0.5
# ... looked for among so many frames.
SELECTION_REACH = 24


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """One frame's outcome for one object.

    ``logits``: the coarse mask (1, 1, 4h, 4w), kept while the frame can be corrected; ``pointer``: (1, C);
    ``features``: mask memory (1, D, h, w) in bfloat16 as the reference keeps it, as long as it may be attended to;
    ``projected``: the same, ready for attention, where that pays;
    ``object_score``: logit, above 0 where the object is seen; ``score``: predicted IoU. ``box_cells``: where the mask
    is, in cells of ``logits``, if that was asked for; ``plausible``: no sudden jump led there.
    """

    logits: torch.Tensor | None
    pointer: torch.Tensor
    features: torch.Tensor | None
    object_score: float
    score: float
    projected: Projected | None = None
    box_cells: CellBox | None = None
    plausible: bool = True

    @property
    def reliable(self) -> bool:
        return self.score > MIN_SCORE and self.object_score > 0 and self.plausible


@dataclass(frozen=True, slots=True)
class MemoryRule:
    """What a model attends to: ``mask_memories`` (the conditioning frames' place included), pointers of as many frames
    with the present one, every ``stride``-th frame. ``selective``: skip unreliable memories, as SAMURAI does."""

    mask_memories: int
    pointers: int
    stride: int
    selective: bool = False

    @classmethod
    def of(cls, model: SAM2Base, selective: bool = False) -> MemoryRule:
        return cls(
            mask_memories=int(model.num_maskmem),
            pointers=int(model.max_obj_ptrs_in_encoder),
            stride=int(model.memory_temporal_stride_for_eval),
            selective=selective,
        )

    @property
    def mask_reach(self) -> int:
        """How many frames back a mask memory may be attended to."""
        plain = (self.mask_memories - 1) * self.stride
        return max(plain, SELECTION_REACH) if self.selective else plain

    @property
    def reach(self) -> int:
        return max(self.mask_reach, self.pointers - 1)

    def places(self, number: int) -> Iterator[tuple[int, int]]:
        """(temporal place, frame number) of the mask memories for frame ``number``, oldest first."""
        for place in range(1, self.mask_memories):
            back = self.mask_memories - place
            if back == 1:
                yield place, number - 1
            else:
                yield place, ((number - 2) // self.stride) * self.stride - (back - 2) * self.stride


@dataclass(frozen=True, slots=True)
class Attended:
    """What one object attends to on one frame, in the reference's order.

    ``masks``: (temporal place, memory); ``pointers``: (frames back, memory).
    """

    masks: tuple[tuple[int, Memory], ...]
    pointers: tuple[tuple[int, Memory], ...]

    @property
    def shape(self) -> tuple[tuple[int, ...], int]:
        """Objects of the same shape can share one batch."""
        return tuple(place for place, _ in self.masks), len(self.pointers)


@dataclass(slots=True, eq=False)
class MemoryBank:
    """The memories of one object by frame number; numbers count the frames that the tracker saw."""

    conditioning: dict[int, Memory] = field(default_factory=dict)
    recent: dict[int, Memory] = field(default_factory=dict)

    def copy(self) -> MemoryBank:
        return MemoryBank(dict(self.conditioning), dict(self.recent))

    def get(self, number: int) -> Memory | None:
        return self.conditioning.get(number) or self.recent.get(number)

    def started(self, number: int) -> bool:
        """Whether the object has a conditioning frame before ``number``."""
        return any(known < number for known in self.conditioning)

    def forget(self, number: int) -> None:
        """Drop the outcome of a frame, so that it can be made again."""
        self.conditioning.pop(number, None)
        self.recent.pop(number, None)

    def condition(self, number: int, memory: Memory, most: int) -> None:
        """Make ``number`` a conditioning frame, at most ``most`` of them.

        Beyond that the first one (what the object is), this one and the newest ones (what it looks like now) stay; one
        that has to leave is attended to like any other frame.
        """
        self.forget(number)
        self.conditioning[number] = memory
        self.conditioning = dict(sorted(self.conditioning.items()))
        while len(self.conditioning) > most:
            others = [known for known in self.conditioning if known != number]
            leaving = others[0] if most == 1 or others[0] != min(self.conditioning) else others[1]
            self.recent[leaving] = self.conditioning.pop(leaving)

    def attended(self, number: int, rule: MemoryRule) -> Attended:
        """What the object attends to on frame ``number``: its conditioning frames up to it, and what is recent."""
        conditioning = [(known, memory) for known, memory in self.conditioning.items() if known <= number]
        masks = [(0, memory) for _, memory in conditioning]
        masks += self._selected(number, rule) if rule.selective else self._latest(number, rule)
        pointers = [(number - known, memory) for known, memory in conditioning]
        for back in range(1, rule.pointers):
            memory = self.recent.get(number - back)
            if memory is not None:
                pointers.append((back, memory))
        return Attended(tuple(masks), tuple(pointers))

    def _latest(self, number: int, rule: MemoryRule) -> list[tuple[int, Memory]]:
        found = ((place, self.recent.get(known)) for place, known in rule.places(number))
        return [(place, memory) for place, memory in found if memory is not None and memory.features is not None]

    def _selected(self, number: int, rule: MemoryRule) -> list[tuple[int, Memory]]:
        chosen: list[Memory] = []
        for back in range(1, rule.mask_reach + 1):
            memory = self.recent.get(number - back)
            # The frame just before is always looked at: it knows best where things are.
            if memory is not None and memory.features is not None and (back == 1 or memory.reliable):
                chosen.append(memory)
            if len(chosen) == rule.mask_memories - 1:
                break
        return [(rule.mask_memories - 1 - place, memory) for place, memory in enumerate(chosen)][::-1]

    def trim(self, newest: int, rule: MemoryRule, window: int) -> None:
        """Drop what neither frame ``newest`` + 1 nor a correction of the last ``window`` frames can ask for."""
        for number, memory in list(self.recent.items()):
            age = newest - number
            if age >= rule.reach + window:
                del self.recent[number]
            elif (age >= rule.mask_reach + window and memory.features is not None) or (
                age >= window and memory.logits is not None
            ):
                gone = age >= rule.mask_reach + window
                self.recent[number] = replace(
                    memory,
                    logits=None,
                    features=None if gone else memory.features,
                    projected=None if gone else memory.projected,
                )
        for number, memory in self.conditioning.items():
            if newest - number >= window and memory.logits is not None:
                self.conditioning[number] = replace(memory, logits=None)
