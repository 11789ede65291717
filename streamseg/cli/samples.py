"""The sample pictures and the clip that come with the page, so that there is something to try."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.errors import NotFoundError

if TYPE_CHECKING:
    from streamseg.segmentation.prompts import Prompt

_PACKAGE = Path(__file__).resolve().parent.parent
# In an installed wheel, and in a checkout.
_FOLDERS = (_PACKAGE / "_web" / "samples", _PACKAGE.parent / "clients" / "web" / "samples")

# Where the main object is, for samples whose entry in the list has no "prompt".
_PROMPTS: dict[str, dict[str, Any]] = {
    "coffee.jpg": {"box_xyxy_px": (157, 15, 415, 310)},
    "cat.jpg": {"points_xy_px": [(200, 150)]},
    "rocket.jpg": {"box_xyxy_px": (300, 120, 342, 415)},
    "astronaut.jpg": {"box_xyxy_px": (0, 5, 405, 512)},
    "clip.mp4": {"box_xyxy_px": (22, 106, 170, 244)},
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample file; ``prompt``: fields of a Prompt that point at its main object, where they are known."""

    path: Path
    prompt: dict[str, Any] | None

    def prompts(self, width: int, height: int) -> list[Prompt]:
        """What to point at if the user does not say: the known prompt, or the middle."""
        from streamseg.segmentation.prompts import Prompt

        if self.prompt is None:
            return [Prompt(points_xy_px=[(width / 2, height / 2)], labels=[1])]
        points = self.prompt.get("points_xy_px", [])
        return [
            Prompt(
                points_xy_px=points,
                labels=self.prompt.get("labels", [1] * len(points)),
                box_xyxy_px=self.prompt.get("box_xyxy_px"),
            )
        ]


def find_samples(*, pictures: bool = True, clip: bool = False) -> list[Sample]:
    """The samples of the kinds asked for; raises NotFoundError if this installation has none."""
    if not pictures and not clip:
        return []
    folder = next((one for one in _FOLDERS if (one / "index.json").is_file()), None)
    if folder is None:
        raise NotFoundError("this installation has no samples; give a picture or a video of your own")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    entries = index["images"] if pictures else []
    if clip and index.get("clip") is not None:
        entries = [*entries, index["clip"]]
    return [Sample(folder / one["file"], one.get("prompt", _PROMPTS.get(one["file"]))) for one in entries]
