"""``streamseg segment`` through a server: the files go there as they are."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.cli.backend import Backend, Outcome
from streamseg.cli.console import note
from streamseg.cli.job import Item, Job, own_limits
from streamseg.cli.progress import VideoProgress
from streamseg.errors import BadMessageError, BadSettingError

if TYPE_CHECKING:
    from streamseg.client import Client, RemoteProgress, RemoteSummary
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.prompts import Prompt


@contextlib.contextmanager
def at_server(job: Job, server: str, token: str | None) -> Iterator[Backend]:
    """A running server."""
    from streamseg.client import Client
    from streamseg.segmentation.refine import RefineOptions

    refine: Any = RefineOptions.NONE if job.no_refine else (job.refine or None)
    with Client(server, token) as client:
        note(f"server {client.url}")
        yield _AtServer(job, client, refine)


@dataclasses.dataclass(frozen=True)
class _AtServer:
    job: Job
    client: Client
    refine: Any

    def picture(self, frame: Frame, path: Path, prompts: Sequence[Prompt]) -> FrameResult:
        del frame
        return self.client.segment(
            path,
            prompts=prompts,
            multimask=self.job.multimask,
            second_look=self.job.second_look,
            score_threshold=self.job.score_threshold,
            refine=self.refine,
            window=self.job.window,
        )

    def video(self, item: Item, folder: Path, progress: VideoProgress, cancelled: Event) -> Outcome:
        from streamseg.media.video import VideoReader

        if item.url is not None:
            raise BadSettingError("a server is sent files: leave out --server to segment a stream in this process")
        job, formats = self.job, self.job.out.video_formats
        prompts: Sequence[Prompt] = job.prompts
        if not prompts or not job.untrusted:
            # A prompt beside the picture is told before the file is sent.
            with VideoReader(item.path, limits=own_limits()) as reader:
                width, height = reader.info.width, reader.info.height
            prompts = job.prompts_for(item, width, height)
            for prompt in prompts:
                prompt.check(width, height)
        job.out.check(folder)

        def tell(now: RemoteProgress) -> None:
            if now.waiting is not None:
                progress.wait(now.waiting)
            elif now.backwards:
                progress.backwards(now.backwards)
            elif now.stage == "upload":
                progress.upload(now.sent_bytes, now.size_bytes)
            else:
                progress.update(now.frames, now.total, now.fps, now.eta_s)

        recording = self.client.segment_file(
            item.path,
            prompts=prompts,
            every=job.sampling.every,
            fps=job.sampling.fps,
            start_s=job.sampling.start_s,
            end_s=job.sampling.end_s,
            hold=job.sampling.hold,
            video="overlay" in formats,
            container=job.video.container,
            quality=job.video.quality,
            max_side_px=job.video.max_side_px,
            backwards=job.backwards,
            mode=job.mode,
            score_threshold=job.score_threshold,
            refine=self.refine,
            out=folder,
            on_progress=tell,
            cancelled=cancelled,
        )
        with recording:
            for _ in itertools.islice(recording, 1):
                job.out.make_for_video(folder)
            done = recording.finish()
        masks = folder / "masks.jsonl"
        if masks not in done.files:
            return Outcome(0, 0.0, done.took_s, done.interrupted, done.problems, {}, None)
        return self._expand(masks, done)

    def _expand(self, masks: Path, done: RemoteSummary) -> Outcome:
        """What the server does not make from the masks: PNGs and polygons, and the counts with held frames."""
        from streamseg.export.recording import RecordingSink
        from streamseg.media.frame import Frame
        from streamseg.segmentation.masks import FrameResult

        formats = self.job.out.video_formats
        frames, times_s, lost, last_index = 0, (0.0, 0.0), Counter[int](), None
        with contextlib.ExitStack() as stack:
            sink: RecordingSink | None = None
            for line in stack.enter_context(masks.open(encoding="utf-8")):
                try:
                    result = FrameResult.from_json(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise BadMessageError("the server sent a masks.jsonl that this client cannot read") from error
                times_s = (times_s[0] if frames else result.time_s, result.time_s)
                frames, last_index = frames + 1, result.index
                for one in result.objects:
                    lost[one.object_id] += one.state != "tracked"
                if sink is None:
                    width, height = result.width, result.height
                    sink = RecordingSink(masks.parent, formats & {"png", "polygons"}, width=width, height=height)
                    stack.enter_context(sink)
                    # No overlay is drawn here, so that any picture will do.
                    blank = np.zeros((height, width, 3), np.uint8)
                sink.write(Frame(blank, result.index, result.time_s), result)
        if "rle" not in formats:
            masks.unlink()
        seconds = times_s[1] - times_s[0]
        return Outcome(frames, seconds, done.took_s, done.interrupted, done.problems, lost, last_index)
