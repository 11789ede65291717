"""The files of ``streamseg segment``: a folder for each input, a picture's files each replaced as a whole."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamseg.errors import BadSettingError

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult

FORMATS = ("overlay", "rle", "png", "polygons")
OVERLAY_QUALITY = 90
_MASK_FILE = re.compile(r"mask_\d+(_candidate_\d+)?\.png")
_FRAME_MASK_FILE = re.compile(r"\d+_\d+\.png")


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

    Inputs of the same stem become ``photo``, ``photo-2``, ...; nothing is written outside.
    """

    path: Path
    formats: tuple[str, ...]
    _taken: set[str] = field(default_factory=set)

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
        """Make the folder of a video, without what a former run left there that could be taken for this one's."""
        self.make(folder)
        stale = [folder / "overlay.mp4", folder / "overlay.webm"] if "overlay" in self.formats else []
        if "png" in self.formats and (folder / "masks").is_dir() and not (folder / "masks").is_symlink():
            stale += [path for path in (folder / "masks").iterdir() if _FRAME_MASK_FILE.fullmatch(path.name)]
        for path in stale:
            path.unlink(missing_ok=True)

    def write(self, folder: Path, frame: Frame, result: FrameResult) -> None:
        """Write one picture's files; raises OSError."""
        self.make(folder)
        if "overlay" in self.formats:
            from streamseg.render import draw_overlay, encode_jpeg

            replace_file(folder / "overlay.jpg", encode_jpeg(draw_overlay(frame, result), quality=OVERLAY_QUALITY))
        if "rle" in self.formats:
            replace_file(folder / "masks.jsonl", _line(_to_json(result)))
        if "polygons" in self.formats:
            replace_file(folder / "polygons.json", _line(_to_polygons(result)))
        if "png" in self.formats:
            self._write_pngs(folder, result)

    @staticmethod
    def _write_pngs(folder: Path, result: FrameResult) -> None:
        pngs = {}
        for one in result.objects:
            pngs[f"mask_{one.object_id}.png"] = one.region
            for number, other in enumerate(one.candidates, start=1):
                pngs[f"mask_{one.object_id}_candidate_{number}.png"] = other.region
        for name, region in pngs.items():
            replace_file(folder / name, region.to_png())
        # A mask of a former run about other objects would be taken for one of this run.
        for path in folder.iterdir():
            if _MASK_FILE.fullmatch(path.name) and path.name not in pngs:
                path.unlink()


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
