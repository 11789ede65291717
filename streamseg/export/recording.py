"""The results of a recording as files: an overlay video, masks.jsonl, polygons.jsonl, PNG masks.

What was written so far is valid whenever it is closed, also after an interruption.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from streamseg.errors import BadSettingError
from streamseg.media.writer import VideoOptions, VideoWriter
from streamseg.render import draw_overlay

if TYPE_CHECKING:
    from typing import TextIO

    from streamseg.media.frame import Frame
    from streamseg.render import RenderOptions
    from streamseg.segmentation.masks import FrameResult

RecordingFormat: TypeAlias = Literal["overlay", "rle", "polygons", "png"]
RECORDING_FORMATS: frozenset[str] = frozenset(get_args(RecordingFormat))


class RecordingSink:
    """Writes into ``folder``, which must exist; former results there are replaced.

    ``audio``: a file with the sound for the overlay, see ``media.audio``. Also a context manager, which keeps what was
    written when it is left by an error.
    """

    def __init__(
        self,
        folder: Path,
        formats: frozenset[str],
        *,
        width: int,
        height: int,
        video: VideoOptions | None = None,
        render: RenderOptions | None = None,
        audio: Path | None = None,
    ) -> None:
        unknown = formats - RECORDING_FORMATS
        if unknown:
            known = ", ".join(sorted(RECORDING_FORMATS))
            raise BadSettingError(f"unknown format {sorted(unknown)[0]!r}; there are {known}")
        options = video or VideoOptions()
        self._folder = folder
        self._render = render
        self._png = "png" in formats
        self._video: VideoWriter | None = None
        self._lines: dict[str, TextIO] = {}
        self._overlay_path = folder / f"overlay.{options.container}"
        self._files: list[Path] = []
        for name, file in (("rle", "masks.jsonl"), ("polygons", "polygons.jsonl")):
            if name in formats:
                self._lines[name] = (folder / file).open("w", encoding="utf-8")
                self._files.append(folder / file)
        if self._png:
            (folder / "masks").mkdir(exist_ok=True)
            self._files.append(folder / "masks")
        if "overlay" in formats:
            self._video = VideoWriter(self._overlay_path, width, height, options=options, audio=audio)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame."""
        if self._video is not None:
            self._video.write(draw_overlay(frame, result, self._render), frame.time_s)
        if "rle" in self._lines:
            self._write_line("rle", result.to_json())
        if "polygons" in self._lines:
            objects = [{"object_id": one, "polygons": lines} for one, lines in result.to_polygons().items()]
            self._write_line("polygons", {"index": result.index, "time_s": result.time_s, "objects": objects})
        if self._png:
            for one in result.objects:
                name = f"{result.index:06d}_{one.object_id}.png"
                (self._folder / "masks" / name).write_bytes(one.region.to_png())

    def close(self) -> list[Path]:
        """Finish all files; which ones there are."""
        with contextlib.ExitStack() as ending:
            # Each of them, whatever becomes of the others: a video that nobody closes keeps its thread.
            for lines in self._lines.values():
                ending.callback(lines.close)
            self._lines.clear()
            video, self._video = self._video, None
            if video is not None and video.close():
                self._files.insert(0, self._overlay_path)
        return self._files

    def __enter__(self) -> RecordingSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        # The first error is the one to tell.
        with contextlib.suppress(Exception):
            self.close()

    def _write_line(self, name: str, line: object) -> None:
        self._lines[name].write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
