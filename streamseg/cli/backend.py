"""Who does the work of ``streamseg segment``, and what comes of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from streamseg.cli.job import Item
from streamseg.cli.progress import VideoProgress

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a video. The fields are those of ``recording.Summary``."""

    frames: int
    seconds: float
    took_s: float
    interrupted: bool
    problems: tuple[str, ...]
    lost: Mapping[int, int]
    last_index: int | None


class Backend(Protocol):
    """What segments; raises StreamsegError, and OSError where results cannot be written."""

    def picture(self, frame: Frame, path: Path, prompts: Sequence[Prompt]) -> FrameResult:
        """The masks of one picture, which is ``frame`` and lies in ``path``."""

    def video(self, item: Item, folder: Path, progress: VideoProgress, cancelled: Event) -> Outcome:
        """Segment one video into ``folder``, which need not exist; ``cancelled`` ends that early."""
