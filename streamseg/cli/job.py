"""What ``streamseg segment`` is asked to do, and to which files."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from streamseg.cli.console import WrongUsageError
from streamseg.cli.outputs import OutputFolder, read_formats
from streamseg.cli.prompt_options import read_prompts, read_time, read_window
from streamseg.cli.samples import Sample, find_samples
from streamseg.errors import BadPromptError, BadSettingError, NotFoundError, StreamsegError

if TYPE_CHECKING:
    from streamseg.media.sampling import Sampling
    from streamseg.media.video import VideoLimits
    from streamseg.media.writer import VideoOptions
    from streamseg.segmentation.prompts import Prompt
    from streamseg.segmentation.segmenter import Mode


@dataclass(frozen=True)
class Job:
    """What is asked for, checked as far as that goes without a file."""

    inputs: tuple[str, ...]
    samples: tuple[Sample, ...]
    prompts: tuple[Prompt, ...]
    out: OutputFolder
    mode: Mode
    backwards: bool
    multimask: bool
    second_look: bool
    score_threshold: float | None
    window: tuple[float, float] | None
    refine: Mapping[str, Any]
    no_refine: bool
    sampling: Sampling
    video: VideoOptions
    untrusted: bool

    @classmethod
    def from_options(
        cls,
        *,
        inputs: Sequence[str],
        prompt_options: Sequence[tuple[str, str]],
        sample: bool,
        sample_clip: bool,
        out: Path,
        formats: str,
        mode: Mode,
        backwards: bool,
        multimask: bool,
        second_look: bool,
        score_threshold: float | None,
        window: str | None,
        refine: Mapping[str, Any],
        no_refine: bool,
        sampling: Mapping[str, Any],
        video: Mapping[str, Any],
        untrusted: bool,
    ) -> Self:
        """Raises WrongUsageError or another StreamsegError."""
        from streamseg.media.sampling import Sampling
        from streamseg.media.writer import VideoOptions

        with_samples = sample or sample_clip
        if not inputs and not with_samples:
            raise WrongUsageError("nothing to segment: give pictures, videos, folders or addresses, or --sample")
        prompts = read_prompts(prompt_options)
        if not prompts and not with_samples:
            raise WrongUsageError("say what to segment: --point X,Y, --box X1,Y1,X2,Y2 or --mask FILE")
        if not prompts and inputs:
            raise WrongUsageError("the samples have prompts of their own, your files do not: give --point or --box")
        changed = {name: value for name, value in refine.items() if value is not None}
        if changed and no_refine:
            raise WrongUsageError("--no-refine does not go with other options of the clean-up")
        if backwards and mode != "track":
            raise WrongUsageError("--backwards goes with --mode track")
        times = {name: read_time(f"--{name.removesuffix('_s')}", sampling[name]) for name in ("start_s", "end_s")}
        return cls(
            inputs=tuple(inputs),
            samples=tuple(find_samples(pictures=sample, clip=sample_clip)),
            prompts=tuple(prompts),
            out=OutputFolder(out, read_formats(formats), _needed(inputs, prompt_options)),
            mode=mode,
            backwards=backwards,
            multimask=multimask,
            second_look=second_look,
            score_threshold=score_threshold,
            window=read_window(window),
            refine=changed,
            no_refine=no_refine,
            sampling=Sampling(**{name: value for name, value in {**sampling, **times}.items() if value is not None}),
            video=VideoOptions(**video),
            untrusted=untrusted,
        )

    def prompts_for(self, item: Item, width: int, height: int) -> tuple[Prompt, ...]:
        """What was said, or the sample's own prompts if nothing was, for a ``width`` x ``height`` picture or video."""
        if not self.prompts and item.sample is not None:
            return tuple(item.sample.prompts(width, height))
        return self.prompts


@dataclass(frozen=True, slots=True)
class Item:
    """One file or stream to segment, or the reason why an input is none.

    ``path``: of a stream, only what its results are named after; its address is ``url``.
    """

    path: Path
    kind: Literal["picture", "video"] = "picture"
    sample: Sample | None = None
    problem: StreamsegError | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The input as it may be shown."""
        from streamseg.media.addresses import redacted

        return str(self.path) if self.url is None else redacted(self.url)


def list_items(job: Job) -> list[Item]:
    """Files and addresses as they are, folders as the pictures and videos right in them, by name."""
    from streamseg.media.addresses import is_stream_url
    from streamseg.media.containers import VIDEO_SUFFIXES
    from streamseg.media.image import IMAGE_SUFFIXES

    taken = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    items = [_item(job, one.path, one) for one in job.samples]
    for given in job.inputs:
        if is_stream_url(given):
            items.append(_stream(job, given))
            continue
        path = Path(given)
        if not path.exists():
            items.append(Item(path, problem=NotFoundError("no such file")))
            continue
        if not path.is_dir():
            items.append(_item(job, path))
            continue
        try:
            files = sorted(one for one in path.iterdir() if one.suffix.lower() in taken and one.is_file())
        except OSError as error:
            items.append(Item(path, problem=NotFoundError(f"the folder cannot be read: {error.strerror}")))
            continue
        items.extend(_item(job, one) for one in files)
        if not files:
            items.append(Item(path, problem=NotFoundError("the folder has no pictures or videos in it")))
    return items


def _needed(inputs: Sequence[str], prompt_options: Sequence[tuple[str, str]]) -> tuple[Path, ...]:
    """What the run reads."""
    return tuple(Path(one) for one in (*inputs, *(value for name, value in prompt_options if name == "--mask")))


def _item(job: Job, path: Path, sample: Sample | None = None) -> Item:
    if is_video(path):
        return Item(path, "video", sample)
    later = next((one.frame for one in job.prompts if one.frame != 0), None)
    problem = None
    if later is not None:
        problem = BadPromptError(f"--frame {later} is for videos: a picture has the frame 0 only")
    return Item(path, "picture", sample, problem)


def _stream(job: Job, url: str) -> Item:
    from streamseg.media.addresses import StreamUrl

    problem: StreamsegError | None = None
    name = "stream"
    try:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", StreamUrl.parse(url).host)
    except StreamsegError as error:
        problem = error
    if job.backwards:
        problem = BadSettingError("--backwards is for recordings: a stream cannot be read again")
    elif job.untrusted:
        problem = BadSettingError("--untrusted is for files: a stream is decoded in this process")
    return Item(Path(f"{name}.stream"), "video", problem=problem, url=url)


def own_limits() -> VideoLimits:
    """A video of the user's own may be as long as it likes: memory does not grow with it."""
    from streamseg.media.video import VideoLimits

    return VideoLimits(max_frames=sys.maxsize, max_seconds=math.inf, max_bytes=sys.maxsize)


def is_video(path: Path) -> bool:
    """Whether a file is to be read as a video: by its suffix, or where that does not tell, by what is in it."""
    from streamseg.media.containers import HEAD_BYTES, VIDEO_SUFFIXES, sniff_container
    from streamseg.media.image import IMAGE_SUFFIXES

    suffix = path.suffix.lower()
    if (suffix in VIDEO_SUFFIXES) != (suffix in IMAGE_SUFFIXES):
        return suffix in VIDEO_SUFFIXES
    try:
        with path.open("rb") as file:
            container = sniff_container(file.read(HEAD_BYTES))
    except OSError:
        return False
    return _is_animation(path) if container == "gif" else container is not None


def _is_animation(path: Path) -> bool:
    """Whether a GIF has more than one picture."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return bool(getattr(picture, "is_animated", False))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Reading it as a picture will say what is wrong.
        return False
