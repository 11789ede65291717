"""What a tracker remembers, as bytes: safetensors with a JSON description, no pickles.

The frames that could still be corrected are not kept; everything that later masks depend on is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from streamseg.errors import BadStateError
from streamseg.segmentation.memory import Memory, MemoryBank

VERSION = 1
_LENGTH = struct.Struct("<Q")
_KINDS = ("conditioning", "recent")


@dataclass(frozen=True, slots=True)
class SavedObject:
    """One object: ``points`` said of it in all, and what it remembers."""

    object_id: int
    points: int
    bank: MemoryBank


@dataclass(frozen=True, slots=True)
class SavedTracker:
    """``model``, ``image_size``: what made the memories; ``frames``: how many were seen, the last one with ``index``
    and of ``width`` x ``height`` pixels (0 if there was none)."""

    model: str
    image_size: int
    frames: int
    index: int
    width: int
    height: int
    objects: tuple[SavedObject, ...]


def to_bytes(saved: SavedTracker) -> bytes:
    """The state as bytes; ``from_bytes`` reads them."""
    tensors: dict[str, torch.Tensor] = {}
    objects = []
    for one in saved.objects:
        described: dict[str, Any] = {"object_id": one.object_id, "points": one.points}
        for kind in _KINDS:
            described[kind] = {}
            for number, memory in getattr(one.bank, kind).items():
                described[kind][str(number)] = {
                    "object_score": memory.object_score,
                    "score": memory.score,
                    "box_cells": memory.box_cells,
                    "plausible": memory.plausible,
                }
                name = f"{one.object_id}.{kind}.{number}"
                tensors[f"{name}.pointer"] = memory.pointer.contiguous()
                if memory.features is not None:
                    tensors[f"{name}.features"] = memory.features.contiguous()
        objects.append(described)
    head = {
        "version": VERSION,
        "model": saved.model,
        "image_size": saved.image_size,
        "frames": saved.frames,
        "index": saved.index,
        "size": [saved.width, saved.height],
        "objects": objects,
    }
    return safetensors.torch.save(tensors, {"streamseg": json.dumps(head)})


def from_bytes(data: bytes) -> SavedTracker:
    """Raises BadStateError for anything but what ``to_bytes`` makes."""
    try:
        head = json.loads(_metadata(data)["streamseg"])
        if head["version"] != VERSION:
            raise BadStateError(f"the state has the version {head['version']}; this program reads {VERSION}")
        tensors = safetensors.torch.load(data)
        objects = tuple(
            SavedObject(
                int(one["object_id"]),
                int(one["points"]),
                MemoryBank(*(_memories(one, kind, tensors) for kind in _KINDS)),
            )
            for one in head["objects"]
        )
        width, height = head["size"]
        return SavedTracker(
            str(head["model"]),
            int(head["image_size"]),
            int(head["frames"]),
            int(head["index"]),
            int(width),
            int(height),
            objects,
        )
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise BadStateError("this is no saved state of a tracker") from error


def _memories(one: Mapping[str, Any], kind: str, tensors: Mapping[str, torch.Tensor]) -> dict[int, Memory]:
    found = {}
    for number, described in one[kind].items():
        name = f"{one['object_id']}.{kind}.{number}"
        box = described["box_cells"]
        found[int(number)] = Memory(
            logits=None,
            pointer=tensors[f"{name}.pointer"],
            features=tensors.get(f"{name}.features"),
            object_score=float(described["object_score"]),
            score=float(described["score"]),
            box_cells=None if box is None else (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
            plausible=bool(described["plausible"]),
        )
    return found


def _metadata(data: bytes) -> Mapping[str, str]:
    (length,) = _LENGTH.unpack_from(data)
    if length > len(data) - _LENGTH.size:
        raise ValueError("the header is longer than the data")
    metadata = json.loads(data[_LENGTH.size : _LENGTH.size + length])["__metadata__"]
    if not isinstance(metadata, dict):
        raise ValueError("the header has no description")
    return metadata
