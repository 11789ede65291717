"""The files of ``streamseg segment``: a folder for each input, a picture's files each replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.errors import BadSettingError

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult

FORMATS = ("overlay", "rle", "png", "polygons", "cutout")
# A video has no transparency to cut out of it.
PICTURE_FORMATS = {"cutout"}
OVERLAY_QUALITY = 90
# All that a run may have left in the folder of an input, and in the folder of a video's masks.
_OUR_FILE = re.compile(
    r"overlay\.(jpg|mp4|webm)|cutout\.png|masks\.jsonl|polygons\.jsonl?|mask_\d+(_candidate_\d+)?\.png", re.ASCII
)
_OUR_FRAME_MASK = re.compile(r"\d{6,}_\d+\.png", re.ASCII)


def read_formats(text: str) -> tuple[str, ...]:
    """``overlay,rle`` -> the formats, each once; raises BadSettingError."""
    formats = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [one for one in formats if one not in FORMATS]
    if unknown or not formats:
        raise BadSettingError(f"--format takes some of {','.join(FORMATS)}, not {text!r}")
    return formats


@dataclass
class OutputFolder:
    """The ``--out`` folder: gives each input a folder of its own in it, named after its stem.

    Inputs of the same stem become ``photo``, ``photo-2``, ...; nothing is written outside. What a former run left there
    goes, so that nobody takes it for this one's. ``needed``: files and folders of files that stay,
    whatever they are called, because they are what is segmented, or prompts.
    """

    path: Path
    formats: tuple[str, ...]
    needed: tuple[Path, ...] = ()
    _taken: set[str] = field(default_factory=set)

    @property
    def video_formats(self) -> frozenset[str]:
        """Those that a video has; raises BadSettingError if that is none."""
        formats = frozenset(self.formats) - PICTURE_FORMATS
        if not formats:
            raise BadSettingError(f"--format {','.join(self.formats)} is for pictures; a video has none of that")
        return formats

    def create(self) -> None:
        """Make the folder; raises BadSettingError if that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSettingError(f"the output folder {self.path} cannot be made: {error.strerror}") from None

    def folder_for(self, stem: str) -> Path:
        """The folder for the next input of this stem."""
        # A name like "..jpg" has the stem "."; and names that differ in case only are one folder on some disks.
        base = stem.strip(". ") or "picture"
        name, number = base, 2
        while name.casefold() in self._taken:
            name, number = f"{base}-{number}", number + 1
        self._taken.add(name.casefold())
        return self.path / name

    def check(self, folder: Path) -> None:
        """Raise OSError if the folder of an input is a link to elsewhere."""
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise OSError(f"{folder} leads out of the output folder")

    def make(self, folder: Path) -> None:
        """Make the folder of one input; raises OSError."""
        self.check(folder)
        folder.mkdir(exist_ok=True)

    def make_for_video(self, folder: Path) -> None:
        """Make the folder of a video, without the results of a former run."""
        self.make(folder)
        self.clear(folder)

    def clear(self, folder: Path, written: Container[str] = ()) -> None:
        """Remove the results in the folder of an input that are not among ``written``; raises OSError."""
        needed = {path.resolve() for path in self.needed}
        masks = folder / "masks"
        stale = [path for path in folder.iterdir() if _OUR_FILE.fullmatch(path.name) and path.name not in written]
        if masks.is_dir() and not masks.is_symlink():
            stale += [path for path in masks.iterdir() if _OUR_FRAME_MASK.fullmatch(path.name)]
        for path in stale:
            whole = path.resolve()
            if path.is_symlink() or (path.is_file() and needed.isdisjoint((whole, whole.parent))):
                path.unlink()
        # With a file of somebody else's in it, it stays.
        with contextlib.suppress(OSError):
            masks.rmdir()

    def write(self, folder: Path, frame: Frame, result: FrameResult) -> None:
        """Write one picture's files; raises OSError."""
        self.make(folder)
        files: dict[str, bytes] = {}
        if "overlay" in self.formats:
            from streamseg.render import draw_overlay, encode_jpeg

            files["overlay.jpg"] = encode_jpeg(draw_overlay(frame, result), quality=OVERLAY_QUALITY)
        if "rle" in self.formats:
            files["masks.jsonl"] = _line(_to_json(result))
        if "polygons" in self.formats:
            files["polygons.json"] = _line(_to_polygons(result))
        if "png" in self.formats:
            files |= _pngs(result)
        if "cutout" in self.formats:
            from streamseg.render import cut_out, encode_png

            files["cutout.png"] = encode_png(cut_out(frame, result))
        for name, data in files.items():
            replace_file(folder / name, data)
        self.clear(folder, files)


def _pngs(result: FrameResult) -> dict[str, bytes]:
    """The masks of a picture by the names of their files."""
    pngs = {}
    for one in result.objects:
        pngs[f"mask_{one.object_id}.png"] = one.region.to_png()
        for number, other in enumerate(one.candidates, start=1):
            pngs[f"mask_{one.object_id}_candidate_{number}.png"] = other.region.to_png()
    return pngs


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or as it was; raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _to_json(result: FrameResult) -> dict[str, Any]:
    line = result.to_json()
    for fields, one in zip(line["objects"], result.objects, strict=True):
        if one.candidates:
            fields["candidates"] = [
                {"score": round(other.score, 4), "rle": other.region.to_rle()} for other in one.candidates
            ]
    return line


def _to_polygons(result: FrameResult) -> dict[str, Any]:
    polygons = result.to_polygons()
    return {
        "index": result.index,
        "width": result.width,
        "height": result.height,
        "objects": [
            {"object_id": one.object_id, "state": one.state, "polygons": polygons[one.object_id]}
            for one in result.objects
        ],
    }
