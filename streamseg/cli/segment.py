"""``streamseg segment``: pictures in, masks and overlays out, here or through a server."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamseg.cli.console import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, WrongUsageError, note, one_line, say
from streamseg.cli.outputs import OutputFolder, read_formats
from streamseg.cli.prompt_options import read_prompts, read_window
from streamseg.cli.samples import Sample, find_samples
from streamseg.errors import NotFoundError, StreamsegError, UnsupportedMediaError

if TYPE_CHECKING:
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.segmentation.prompts import Prompt
    from streamseg.settings import Settings

# A frame and the file that it came from -> its masks.
Segmenter = Callable[["Frame", Path, "Sequence[Prompt]"], "FrameResult"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mjpeg", ".y4m"})


@dataclass(frozen=True)
class Job:
    """What is asked for, checked as far as that goes without a picture."""

    inputs: tuple[Path, ...]
    samples: tuple[Sample, ...]
    prompts: tuple[Prompt, ...]
    out: OutputFolder
    multimask: bool
    score_threshold: float | None
    window: tuple[float, float] | None
    refine: Mapping[str, Any]
    no_refine: bool

    @classmethod
    def from_options(
        cls,
        *,
        inputs: Sequence[Path],
        prompt_options: Sequence[tuple[str, str]],
        sample: bool,
        out: Path,
        formats: str,
        multimask: bool,
        score_threshold: float | None,
        window: str | None,
        refine: Mapping[str, Any],
        no_refine: bool,
    ) -> Self:
        """Raises WrongUsageError or another StreamsegError."""
        if not inputs and not sample:
            raise WrongUsageError("nothing to segment: give pictures or folders, or --sample")
        prompts = read_prompts(prompt_options)
        if not prompts and not sample:
            raise WrongUsageError("say what to segment: --point X,Y, --box X1,Y1,X2,Y2 or --mask FILE")
        if not prompts and inputs:
            raise WrongUsageError("the samples have prompts of their own, your pictures do not: give --point or --box")
        later = next((one.frame for one in prompts if one.frame != 0), None)
        if later is not None:
            raise WrongUsageError(f"--frame {later}: a picture has the frame 0 only")
        changed = {name: value for name, value in refine.items() if value is not None}
        if changed and no_refine:
            raise WrongUsageError("--no-refine does not go with other options of the clean-up")
        return cls(
            inputs=tuple(inputs),
            samples=tuple(find_samples()) if sample else (),
            prompts=tuple(prompts),
            out=OutputFolder(out, read_formats(formats)),
            multimask=multimask,
            score_threshold=score_threshold,
            window=read_window(window),
            refine=changed,
            no_refine=no_refine,
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to segment, or the reason why an input is none."""

    path: Path
    sample: Sample | None = None
    problem: StreamsegError | None = None


def list_items(job: Job) -> list[Item]:
    """Files as they are, folders as the pictures right in them, in the order of their names."""
    from streamseg.media.image import IMAGE_SUFFIXES

    items = [Item(one.path, sample=one) for one in job.samples]
    for path in job.inputs:
        if not path.is_dir():
            items.append(Item(path, problem=_problem(path)))
            continue
        try:
            pictures = sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES and one.is_file())
        except OSError as error:
            items.append(Item(path, problem=NotFoundError(f"the folder cannot be read: {error.strerror}")))
            continue
        items.extend(Item(one) for one in pictures)
        if not pictures:
            items.append(Item(path, problem=NotFoundError("the folder has no pictures in it")))
    return items


def _problem(path: Path) -> StreamsegError | None:
    """What can be said without opening the file."""
    if not path.exists():
        return NotFoundError("no such file")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return UnsupportedMediaError("videos are not taken yet; give pictures, or use the page for a live camera")
    return None


def run_segment(
    job: Job,
    *,
    config: Path | None,
    model: str | None,
    checkpoint: Path | None,
    device: str | None,
    server: str | None,
    token: str | None,
) -> int:
    """Do it; the exit status."""
    from streamseg.settings import load_settings

    chosen = {"name": model, "checkpoint": checkpoint, "device": device}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if server is not None and chosen:
        raise WrongUsageError("--server has its model loaded already: leave out --model, --checkpoint and --device")
    settings = load_settings(config, {"model": chosen} if chosen else None)
    items = list_items(job)
    job.out.create()
    with contextlib.ExitStack() as stack:
        segment: Segmenter | None = None
        if any(item.problem is None for item in items):
            backend = _here(job, settings) if server is None else _at_server(job, server, token)
            segment = stack.enter_context(backend)
        return _run_all(job, items, settings, segment)


def _run_all(job: Job, items: Sequence[Item], settings: Settings, segment: Segmenter | None) -> int:
    began_s = time.perf_counter()
    done = failed = 0
    interrupted = False
    with _progress(len(items)) as advance:
        try:
            for item in items:
                try:
                    say(_run_one(job, item, settings, segment))
                    done += 1
                except StreamsegError as error:
                    failed += 1
                    note(f"{item.path}: {error.code}: {one_line(error.message)}")
                except BrokenPipeError:
                    # Whoever read our lines has gone; that is no failure of a picture.
                    raise
                except OSError as error:
                    failed += 1
                    note(f"{item.path}: the results cannot be written: {error.strerror or error}")
                advance()
        except KeyboardInterrupt:
            interrupted = True
    took_s = time.perf_counter() - began_s
    rest = ", interrupted" if interrupted else ""
    say(f"{done} of {len(items)} segmented, {failed} failed{rest}, in {took_s:.1f} s; results in {job.out.path}/")
    if interrupted:
        return EXIT_INTERRUPTED
    if failed == 0:
        return 0
    return EXIT_FAILED if done else EXIT_USAGE


def _run_one(job: Job, item: Item, settings: Settings, segment: Segmenter | None) -> str:
    """Segment a picture and write its files; the line about it."""
    from streamseg.media.image import decode_image

    if item.problem is not None:
        raise item.problem
    assert segment is not None
    frame = decode_image(item.path, limits=settings.limits.image(), window=job.window)
    prompts = job.prompts
    if not prompts and item.sample is not None:
        prompts = tuple(item.sample.prompts(frame.width, frame.height))
    for prompt in prompts:
        prompt.check(frame.width, frame.height, settings.limits.prompts())
    result = segment(frame, item.path, prompts)
    folder = job.out.folder_for(item.path.stem)
    job.out.write(folder, frame, result)
    objects = "; ".join(
        f"object {one.object_id} {one.state}, score {one.score:.2f}, {one.area_px} px" for one in result.objects
    )
    return f"{item.path} -> {folder}/: {objects}"


@contextlib.contextmanager
def _here(job: Job, settings: Settings) -> Iterator[Segmenter]:
    """A model in this process."""
    from streamseg.api import Model
    from streamseg.models.build import load_model
    from streamseg.segmentation.refine import RefineOptions

    refine = RefineOptions.NONE if job.no_refine else dataclasses.replace(settings.refine, **job.refine)
    note("loading the model ...")
    loaded = load_model(**settings.model.model_dump(), warm_up=False)
    note(f"model {loaded.name} on {loaded.device}: {loaded.reason}")
    with Model(loaded) as model:
        yield lambda frame, _path, prompts: model.segment(
            frame.rgb,
            prompts=prompts,
            multimask=job.multimask,
            score_threshold=job.score_threshold,
            refine=refine,
            limits=settings.limits.image(),
        )


@contextlib.contextmanager
def _at_server(job: Job, server: str, token: str | None) -> Iterator[Segmenter]:
    """A running server; the files go there as they are."""
    from streamseg.client import Client
    from streamseg.segmentation.refine import RefineOptions

    refine: Any = RefineOptions.NONE if job.no_refine else (job.refine or None)
    with Client(server, token) as client:
        note(f"server {client.url}")
        yield lambda _frame, path, prompts: client.segment(
            path,
            prompts=prompts,
            multimask=job.multimask,
            score_threshold=job.score_threshold,
            refine=refine,
            window=job.window,
        )


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr where a person watches and there is more than one picture."""
    if count < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines on stdout are moved above the bar on a terminal; into a pipe they must go as they are.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as progress:
        task = progress.add_task("", total=count)
        yield lambda: progress.advance(task)
