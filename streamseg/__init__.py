"""streamseg: click an object once, get its mask on every frame.

The public Python API, and nothing else. Names are imported when they are first used, so that ``import streamseg`` (and
the client in ``streamseg.client``) does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.api import Model, load
    from streamseg.errors import StreamsegError
    from streamseg.live import Session
    from streamseg.media.frame import Frame
    from streamseg.media.network import NetworkOptions
    from streamseg.segmentation.masks import Candidate, FrameResult, MaskRegion, ObjectResult
    from streamseg.segmentation.prompts import Prompt
    from streamseg.segmentation.refine import RefineOptions
    from streamseg.segmentation.track_options import TrackOptions

__version__ = "0.1.0"

_HOMES = {
    "Model": "streamseg.api",
    "load": "streamseg.api",
    "StreamsegError": "streamseg.errors",
    "Frame": "streamseg.media.frame",
    "NetworkOptions": "streamseg.media.network",
    "Candidate": "streamseg.segmentation.masks",
    "FrameResult": "streamseg.segmentation.masks",
    "MaskRegion": "streamseg.segmentation.masks",
    "ObjectResult": "streamseg.segmentation.masks",
    "Prompt": "streamseg.segmentation.prompts",
    "RefineOptions": "streamseg.segmentation.refine",
    "Session": "streamseg.live",
    "TrackOptions": "streamseg.segmentation.track_options",
}

__all__ = [
    "Candidate",
    "Frame",
    "FrameResult",
    "MaskRegion",
    "Model",
    "NetworkOptions",
    "ObjectResult",
    "Prompt",
    "RefineOptions",
    "Session",
    "StreamsegError",
    "TrackOptions",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
