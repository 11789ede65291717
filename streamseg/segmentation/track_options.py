"""The settings of tracking. Known to the command line and the settings without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.errors import BadSettingError

MOST_FRAMES = 256


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """How objects are tracked.

    ``max_conditioning_frames``: prompted frames that an object keeps for ever; each costs about as much as one of the
    six recent frames does, on every frame. Beyond it the first and the newest ones stay. ``correction_window_frames``:
    so many of the last frames can still be corrected; the features of each are kept (1.2 MB with `nano`, 16 MB with the
    1024 px models). ``keep_corrections``: a corrected frame becomes a conditioning frame (what ``sam2`` calls
    ``add_all_frames_to_correct_as_cond``); otherwise the correction fades with the frame's memory.
    ``select_memories``: skip memories with a low predicted IoU, a low object score or an implausible jump, after
    SAMURAI. ``bit_exact``: one object after the other and nothing rearranged, which gives the logits of ``sam2`` to the
    last bit and takes longer; otherwise they differ by rounding (masks do not).

    Raises BadSettingError.
    """

    max_conditioning_frames: int = 8
    correction_window_frames: int = 8
    keep_corrections: bool = True
    select_memories: bool = False
    bit_exact: bool = False

    def __post_init__(self) -> None:
        for name in ("max_conditioning_frames", "correction_window_frames"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_FRAMES:
                raise BadSettingError(f"{name} must be a whole number from 1 to {MOST_FRAMES}, not {value!r}")
        for name in ("keep_corrections", "select_memories", "bit_exact"):
            if not isinstance(getattr(self, name), bool):
                raise BadSettingError(f"{name} must be true or false, not {getattr(self, name)!r}")
