"""``streamseg segment`` with a model in this process."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from streamseg.cli.backend import Backend, Outcome
from streamseg.cli.console import note
from streamseg.cli.job import Item, Job, own_limits
from streamseg.cli.progress import VideoProgress

if TYPE_CHECKING:
    from streamseg.api import Model
    from streamseg.media.frame import Frame
    from streamseg.media.video import VideoInfo
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.prompts import Prompt
    from streamseg.segmentation.refine import RefineOptions
    from streamseg.settings import Settings


@contextlib.contextmanager
def here(job: Job, settings: Settings) -> Iterator[Backend]:
    """A model in this process."""
    from streamseg.api import Model
    from streamseg.models.build import load_model
    from streamseg.segmentation.refine import RefineOptions

    refine = RefineOptions.NONE if job.no_refine else dataclasses.replace(settings.refine, **job.refine)
    note("loading the model ...")
    loaded = load_model(**settings.model.model_dump(exclude={"min_work_ms"}), warm_up=False)
    note(f"model {loaded.name} on {loaded.device}: {loaded.reason}")
    with Model(loaded) as model:
        yield _Here(job, settings, model, refine)


@dataclasses.dataclass(frozen=True)
class _Here:
    job: Job
    settings: Settings
    model: Model
    refine: RefineOptions

    def picture(self, frame: Frame, path: Path, prompts: Sequence[Prompt]) -> FrameResult:
        del path
        return self.model.segment(
            frame.rgb,
            prompts=prompts,
            multimask=self.job.multimask,
            second_look=self.job.second_look,
            score_threshold=self.job.score_threshold,
            refine=self.refine,
            limits=self.settings.limits.image(),
        )

    def video(self, item: Item, folder: Path, progress: VideoProgress, cancelled: Event) -> Outcome:
        from streamseg.media.network import NetworkOptions
        from streamseg.media.video import VideoReader
        from streamseg.pipeline import Pipeline, StreamOptions
        from streamseg.recording import Progress, RecordingJob

        job, limits = self.job, self.settings.limits.prompts()
        prompts: Sequence[Prompt] = job.prompts
        if not prompts:
            with VideoReader(item.path, limits=own_limits()) as reader:
                prompts = job.prompts_for(item, reader.info.width, reader.info.height)

        def prepare(info: VideoInfo) -> None:
            for prompt in prompts:
                prompt.check(info.width, info.height, limits)
            job.out.make_for_video(folder)

        def tell(now: Progress) -> None:
            if now.backwards:
                progress.backwards(now.backwards)
            else:
                progress.update(now.frames, now.total, now.fps, now.eta_s)

        options = StreamOptions(
            mode=job.mode, score_threshold=job.score_threshold, refine=self.refine, track=self.settings.track
        )
        recording = RecordingJob(
            item.path if item.url is None else item.url,
            prompts,
            folder,
            formats=job.out.video_formats,
            sampling=job.sampling,
            video=job.video,
            limits=self.settings.limits.video() if job.untrusted else own_limits(),
            untrusted=job.untrusted,
            backwards=job.backwards,
            network=None if item.url is None else NetworkOptions(),
        )
        with contextlib.closing(Pipeline(self.model.engine, options, limits)) as pipeline:
            done = recording.run(pipeline, on_info=prepare, on_progress=tell, cancelled=cancelled)
        return Outcome(
            done.frames, done.seconds, done.took_s, done.interrupted, done.problems, done.lost, done.last_index
        )
