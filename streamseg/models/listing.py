"""What `streamseg models` shows; without torch, so that the command answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamseg.models.catalog import MODELS
from streamseg.models.checkpoints import find_cached

_NANO_WEIGHTS = Path(__file__).parent / "nano" / "weights" / "nano.safetensors"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model. ``parameters_m``: millions of parameters. ``size_mb``: of the checkpoint file, in 10^6 bytes."""

    name: str
    parameters_m: float
    size_mb: float
    licence: str
    cached: bool
    config: str
    note: str


def describe_models(cache_dir: Path | None = None) -> list[ModelRow]:
    """One row per model of the catalog, with whether its weights are on this machine already.

    Args:
        cache_dir: the hub's cache folder; None takes the hub's own default.
    """
    return [
        ModelRow(
            name=spec.name,
            parameters_m=spec.parameters_m,
            size_mb=(spec.size_bytes or _NANO_WEIGHTS.stat().st_size) / 1e6,
            licence=spec.licence,
            cached=spec.embedded or find_cached(spec, cache_dir) is not None,
            config=spec.config,
            note=spec.note,
        )
        for spec in MODELS.values()
    ]
