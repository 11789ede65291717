"""A whole recording: read it, segment it, write the results. The command line and the service both come here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from streamseg.backwards import EarlierAnswers, track_backwards
from streamseg.errors import BadSettingError, CancelledWorkError, StreamsegError
from streamseg.export.recording import RecordingSink
from streamseg.media.audio import extract_audio
from streamseg.media.network import NetworkOptions
from streamseg.media.network_reader import NetworkReader
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.untrusted import UntrustedVideo, extract_audio_untrusted
from streamseg.media.video import VideoInfo, VideoLimits, VideoReader
from streamseg.media.writer import VideoOptions
from streamseg.streaming import segment_stream

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.pipeline import Pipeline
    from streamseg.render import RenderOptions
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.prompts import Prompt

VideoSource: TypeAlias = "str | Path | BinaryIO"
Reader: TypeAlias = "VideoReader | UntrustedVideo | NetworkReader"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: ``frames`` done of ``total`` (an estimate, where one can be had), at ``time_s`` of the source.

    ``fps``: frames a second so far; ``eta_s``: seconds left. ``backwards``: frames tracked backwards, which comes first
    where it was asked for; the other numbers are of the way forwards.
    """

    frames: int
    total: int | None
    time_s: float
    fps: float
    eta_s: float | None
    backwards: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a recording. ``problems``: what was wrong with it and survivable; ``lost``: frames by object;
    ``last_index``: of the last frame that was segmented, None without one."""

    frames: int
    seconds: float
    took_s: float
    interrupted: bool
    problems: tuple[str, ...]
    files: tuple[Path, ...]
    lost: dict[int, int]
    last_index: int | None


@dataclass(frozen=True, slots=True)
class RecordingJob:
    """What is to be done with one recording.

    ``source``: a path or an open file. ``prompts``: each for its own frame. ``folder``: where results go (it must
    exist), in ``formats`` (see ``RecordingSink``); without formats nothing is written. ``untrusted``: decode in a child
    process. ``backwards``: also track each object from its first prompt to the start (mode ``track``). ``network``:
    ``source`` is the address of a stream, to be read like that; it goes on until ``sampling`` or the caller ends it.
    """

    source: VideoSource
    prompts: Sequence[Prompt]
    folder: Path
    formats: frozenset[str] = frozenset({"overlay", "rle"})
    sampling: Sampling = field(default_factory=Sampling)
    video: VideoOptions = field(default_factory=VideoOptions)
    render: RenderOptions | None = None
    limits: VideoLimits | None = None
    untrusted: bool = False
    backwards: bool = False
    network: NetworkOptions | None = None

    def run(
        self,
        pipeline: Pipeline,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_result: Callable[[Frame, FrameResult], None] | None = None,
        on_info: Callable[[VideoInfo], None] | None = None,
        cancelled: Event | None = None,
    ) -> Summary:
        """Do it, blocking. ``cancelled`` ends it early; what was done so far is kept, whole and valid.

        ``on_result`` is called with every frame in order and may block, which slows the job down to its pace.
        Raises StreamsegError; results written before a failure stay.
        """
        began_s = time.perf_counter()
        stop = cancelled or Event()
        if self.backwards and pipeline.options.mode != "track":
            raise BadSettingError('backwards is for the mode "track"')
        if self.backwards and self.network is not None:
            raise BadSettingError("backwards is for recordings: a stream cannot be read again")
        with self._earlier(pipeline, on_progress, stop) as earlier, _open(self, stop) as reader:
            self._check_prompts(reader.info)
            if on_info is not None:
                on_info(reader.info)
            with self._sound(reader, stop) as audio:
                return self._run(pipeline, reader, audio, earlier, began_s, stop, on_progress, on_result)

    def _check_prompts(self, info: VideoInfo) -> None:
        for prompt in self.prompts:
            prompt.check(info.width, info.height)

    def _run(
        self,
        pipeline: Pipeline,
        reader: Reader,
        audio: Path | None,
        earlier: EarlierAnswers | None,
        began_s: float,
        stop: Event,
        on_progress: Callable[[Progress], None] | None,
        on_result: Callable[[Frame, FrameResult], None] | None,
    ) -> Summary:
        info = reader.info
        frames, first_s = 0, None
        last: Frame | None = None
        lost: dict[int, int] = {}
        sink = RecordingSink(
            self.folder,
            self.formats,
            width=info.width,
            height=info.height,
            video=self.video,
            render=self.render,
            audio=audio,
        )
        with (
            sink,
            closing(
                segment_stream(
                    pipeline,
                    self._frames(reader, stop, self.sampling),
                    self.prompts,
                    None if earlier is None else earlier.get,
                    live=self.network is not None,
                )
            ) as results,
        ):
            started_s = time.perf_counter()
            for frame, result in results:
                sink.write(frame, result)
                frames += 1
                first_s = frame.time_s if first_s is None else first_s
                last = frame
                for one in result.objects:
                    lost[one.object_id] = lost.get(one.object_id, 0) + (one.state != "tracked")
                if on_result is not None:
                    on_result(frame, result)
                if on_progress is not None:
                    on_progress(self._progress(info, frames, first_s, frame.time_s, time.perf_counter() - started_s))
            files = sink.close()
        problems = [*reader.problems, *(f"object {one.object_id}: {one.error}" for one in pipeline.take_rejected())]
        if not stop.is_set():
            problems += [
                f"the prompt for object {prompt.object_id} on frame {prompt.frame} was never reached"
                for prompt in self.prompts
                if last is None or prompt.frame > last.index
            ]
        return Summary(
            frames=frames,
            seconds=0.0 if last is None or first_s is None else last.time_s - first_s,
            took_s=time.perf_counter() - began_s,
            interrupted=stop.is_set(),
            problems=tuple(problems),
            files=tuple(files),
            lost=lost,
            last_index=None if last is None else last.index,
        )

    def _frames(self, reader: Reader, stop: Event, sampling: Sampling) -> Iterator[tuple[Frame, Choice]]:
        always = {prompt.frame for prompt in self.prompts}
        try:
            for chosen in reader.frames(sampling, always):
                if stop.is_set():
                    return
                yield chosen
        except CancelledWorkError:
            # The reader gave up, because this is to end.
            if not stop.is_set():
                raise

    @contextmanager
    def _earlier(
        self, pipeline: Pipeline, on_progress: Callable[[Progress], None] | None, stop: Event
    ) -> Iterator[EarlierAnswers | None]:
        if not self.backwards or not any(prompt.frame for prompt in self.prompts):
            yield None
            return

        @contextmanager
        def reopen() -> Iterator[Iterator[tuple[Frame, Choice]]]:
            with _open(self, stop) as reader:
                # Held frames have no masks of their own.
                yield self._frames(reader, stop, replace(self.sampling, hold=False))

        def tell(frames: int) -> None:
            if on_progress is not None:
                on_progress(Progress(0, None, 0.0, 0.0, None, backwards=frames))

        with _open(self, stop) as reader:
            self._check_prompts(reader.info)
        with closing(pipeline.beside()) as behind:
            answers = track_backwards(
                behind,
                reopen,
                self.prompts,
                on_progress=tell,
                cancelled=stop,
                folder=self.folder if self.folder.is_dir() else None,
                max_wall_s=(self.limits or VideoLimits()).max_wall_s or math.inf,
            )
        with closing(answers):
            yield answers

    @contextmanager
    def _sound(self, reader: Reader, stop: Event) -> Iterator[Path | None]:
        """A temporary file with the sound for the overlay, if there is any."""
        if "overlay" not in self.formats or not reader.info.has_audio:
            yield None
            return
        path = self.folder / ".sound"
        guarded = partial(extract_audio_untrusted, limits=self.limits, cancelled=stop)
        extract = guarded if self.untrusted else extract_audio
        start_s, end_s = self.sampling.start_s, self.sampling.end_s
        if end_s is None and reader.info.duration_s is not None:
            # Hours of sound behind a few pictures are none of ours.
            end_s = max(reader.info.duration_s, start_s or 0.0) + 1.0
        try:
            try:
                found = extract(self.source, path, container=self.video.container, start_s=start_s, end_s=end_s)
            except CancelledWorkError:
                raise
            except StreamsegError as error:
                # A picture without sound is worth more than neither.
                reader.problems.append(f"the sound is left out: {error.message}")
                found = False
            yield path if found else None
        finally:
            path.unlink(missing_ok=True)

    def _progress(self, info: VideoInfo, frames: int, first_s: float, last_s: float, took_s: float) -> Progress:
        fps = frames / took_s if took_s > 0 else 0.0
        ends = [end for end in (info.duration_s, self.sampling.end_s) if end is not None]
        if not ends or last_s <= first_s:
            return Progress(frames, None, last_s, fps, None)
        rate = (frames - 1) / (last_s - first_s)
        total = max(round(rate * (min(ends) - first_s)), frames)
        return Progress(frames, total, last_s, fps, took_s * (total - frames) / frames)


def _open(job: RecordingJob, stop: Event) -> Reader:
    if job.network is not None:
        return NetworkReader(str(job.source), options=job.network, cancelled=stop)
    if job.untrusted:
        return UntrustedVideo(job.source, limits=job.limits, cancelled=stop)
    return VideoReader(job.source, limits=job.limits)
