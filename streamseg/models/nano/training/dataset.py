"""The training sets: images with instance ids and clips, read from tar files into memory."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORED_ID = 255
_HELD_OUT_ONE_IN = 20
# Sources whose annotation is one whole object per id; in the others ids are parts or regions.
WHOLE_OBJECT_SOURCES = frozenset({"ecssd", "duts", "horse", "human"})
# Sources in which the union of all ids is a valid larger object.
UNION_SOURCES = frozenset({"ccp", "ecssd", "duts"})
_SMALLEST_OBJECT_PX = 100

ImageRgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """One object of an image.

    Attributes:
        mask: bool (H, W).
        weight: how often to ask for it, relative to the image's other targets.
        whole: it is a whole object, fit to be cut out and pasted elsewhere.
    """

    mask: Mask
    weight: float
    whole: bool


def is_held_out(key: str) -> bool:
    """Whether an image belongs to the 5 % on which choices are made and nothing is trained.

    Args:
        key: the image's name without extension. Annotations of one BSDS image by several people
            fall on the same side.
    """
    identity = key.rsplit("_", 1)[0] if key.startswith("bsds_") else key
    return int(hashlib.sha256(identity.encode()).hexdigest(), 16) % _HELD_OUT_ONE_IN == 0


def source_of(key: str) -> str:
    """The data set an image comes from: the part of its name before the first underscore."""
    return key.split("_", 1)[0]


def _decode_rgb(data: bytes) -> ImageRgb:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("not a readable image")
    return np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8, copy=False)


def _decode_ids(data: bytes) -> NDArray[np.uint8]:
    ids = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.ndim != 2:
        raise ValueError("not a single-channel id map")
    return ids.astype(np.uint8, copy=False)


def _members(paths: list[Path]) -> Iterator[tuple[PurePosixPath, bytes]]:
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    yield PurePosixPath(member.name), file.read()


class AnnotatedImages:
    """Images with instance ids, kept encoded in memory.

    Args:
        paths: tar files with `KEY.jpg` and `KEY.png` (uint8 ids; 0 background, 255 ignored).

    Raises:
        FileNotFoundError: a file is missing, or no file is given.
        ValueError: an image has no id map or the other way round.
    """

    def __init__(self, paths: list[Path]) -> None:
        if not paths:
            raise FileNotFoundError("no tar files of annotated images")
        images: dict[str, bytes] = {}
        ids: dict[str, bytes] = {}
        for name, data in _members(paths):
            (images if name.suffix == ".jpg" else ids)[name.stem] = data
        if images.keys() != ids.keys():
            odd = sorted(images.keys() ^ ids.keys())[:3]
            raise ValueError(f"image or id map missing for {', '.join(odd)}")
        self._images, self._ids = images, ids
        self.keys = sorted(images)

    def load(self, key: str) -> tuple[ImageRgb, NDArray[np.uint8]]:
        """Decode one image: RGB (H, W, 3) and ids (H, W), both uint8."""
        return _decode_rgb(self._images[key]), _decode_ids(self._ids[key])

    def targets(self, key: str, ids_hw: NDArray[np.uint8]) -> list[Target]:
        """The objects to ask for in an image, without specks."""
        source = source_of(key)
        whole = source in WHOLE_OBJECT_SOURCES
        found: list[Target] = []
        for value in np.unique(ids_hw):
            if value in (0, IGNORED_ID):
                continue
            mask = ids_hw == value
            if mask.sum() >= _SMALLEST_OBJECT_PX:
                found.append(Target(mask, 1.0, whole))
        if source == "ccp" and found:
            # People are asked for as a whole far more often than by a garment.
            union = (ids_hw != 0) & (ids_hw != IGNORED_ID)
            parts = [Target(target.mask, 0.25 / len(found), False) for target in found]
            return [Target(union, 1.0, True), *parts]
        if source in UNION_SOURCES and len(found) > 1:
            found.append(Target((ids_hw != 0) & (ids_hw != IGNORED_ID), 0.5, False))
        return found


class AnnotatedClips:
    """Clips with one object each, kept encoded in memory.

    Args:
        paths: tar files with `CLIP/FRAME.jpg` and `CLIP/FRAME.png` (object = 1).

    Raises:
        FileNotFoundError: a file is missing.
    """

    def __init__(self, paths: list[Path]) -> None:
        frames: dict[str, dict[str, dict[str, bytes]]] = {}
        for name, data in _members(paths):
            clip = frames.setdefault(name.parent.name, {})
            clip.setdefault(name.stem, {})[name.suffix] = data
        self._frames = {
            clip: [named[stem] for stem in sorted(named) if len(named[stem]) == 2] for clip, named in frames.items()
        }
        self.names = sorted(self._frames)

    def length(self, name: str) -> int:
        """Number of annotated frames of a clip."""
        return len(self._frames[name])

    def load(self, name: str, index: int) -> tuple[ImageRgb, Mask]:
        """Decode one frame: RGB uint8 (H, W, 3) and the object's mask (H, W)."""
        frame = self._frames[name][index]
        ids = _decode_ids(frame[".png"])
        return _decode_rgb(frame[".jpg"]), (ids != 0) & (ids != IGNORED_ID)


def training_images(data_dir: Path) -> AnnotatedImages:
    """The annotated images of a data folder (`train-NN.tar`).

    Raises:
        FileNotFoundError: the folder holds none.
    """
    return AnnotatedImages(sorted(data_dir.glob("train-[0-9]*.tar")))
