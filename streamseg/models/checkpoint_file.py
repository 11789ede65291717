"""Reading a checkpoint file: tensors only, never code."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from streamseg.errors import BadCheckpointError

logger = logging.getLogger(__name__)

_NAMED_KEYS = 3
_WRAPPERS = ("model", "state_dict")
# How torch words its refusal of anything but tensors, as opposed to a broken pickle.
_CODE_IN_PICKLE = re.compile(r"GLOBAL|[Uu]nsupported (global|class|type)|unrecognized function|reduce for")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a checkpoint file.

    Args:
        path: a ``.safetensors`` file, or a ``.pt`` file with a state dict, bare or under ``model`` (as the
            published files have it) or ``state_dict``. The content decides, not the suffix.

    Returns:
        The state dict on the CPU, in the file's own precision.

    Raises:
        BadCheckpointError: no such file, not a checkpoint, damaged, or with pickled code in it. Nothing of a file
            is ever run.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        logger.info("cannot read %s: %s", path, error)
        reason = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "cannot be read"
        raise BadCheckpointError(f"The checkpoint file {name!r} {reason}; give a .pt or .safetensors file.") from error
    if not head:
        raise BadCheckpointError(f"The checkpoint file {name!r} is empty; download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise BadCheckpointError(
            f"The checkpoint file {name!r} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`."
        )
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path, is_zip=head.startswith(b"PK"))
    raise BadCheckpointError(
        f"The file {name!r} is no checkpoint: it is neither a torch file (.pt) nor a .safetensors file."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        logger.info("cannot load %s: %s", path, error)
        raise BadCheckpointError(
            f"The checkpoint file {path.name!r} is damaged or cut short; download it again."
        ) from error
    return state


def _read_torch(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    if is_zip:
        damaged = f"The checkpoint file {path.name!r} is damaged or cut short; download it again."
    else:
        damaged = f"The file {path.name!r} is a damaged checkpoint or a pickle of something else, and was refused."
    if is_zip and not zipfile.is_zipfile(path):
        raise BadCheckpointError(damaged)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        logger.info("cannot load %s: %s", path, error)
        if _CODE_IN_PICKLE.search(str(error)):
            raise BadCheckpointError(
                f"The checkpoint file {path.name!r} holds pickled code or objects and was refused; only tensors are "
                "loaded. Save the plain state dict, best as .safetensors."
            ) from error
        raise BadCheckpointError(damaged) from error
    except Exception as error:  # torch raises half a dozen unrelated types for damaged files
        logger.info("cannot load %s: %s", path, error)
        raise BadCheckpointError(damaged) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    ):
        raise BadCheckpointError(
            f"The checkpoint file {path.name!r} holds no state dict of tensors, neither bare nor under 'model'."
        )
    return dict(content)


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, file: str, config: str, hint: str = "") -> None:
    """Load a state dict into a model, every key and every shape.

    Args:
        file, config: what the message of a misfit names.
        hint: a sentence that ends such a message.

    Raises:
        BadCheckpointError: keys or shapes differ; the first few are named. The model is unchanged then.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    mismatched = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
    parts = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in groups if keys]
    if parts:
        end = f" {hint}" if hint else ""
        raise BadCheckpointError(
            f"The checkpoint {file!r} does not fit the config {config!r}: {'; '.join(parts)}.{end}"
        )
    model.load_state_dict(state)


def _some(keys: list[str]) -> str:
    more = ", ..." if len(keys) > _NAMED_KEYS else ""
    return ", ".join(keys[:_NAMED_KEYS]) + more


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The catalog name of the model that a state dict belongs to, by its trunk; None where none is alike."""
    if any(key.startswith("image_encoder.trunk.stem.") for key in state):
        return "nano"
    patch = state.get("image_encoder.trunk.patch_embed.proj.weight")
    if patch is None:
        return None
    prefix = "image_encoder.trunk.blocks."
    depth = len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
    size = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}.get(
        (patch.shape[0], depth)
    )
    if size is None:
        return None
    generation = "sam2.1" if "no_obj_embed_spatial" in state else "sam2"
    return f"{generation}-hiera-{size}"
