"""``streamseg segment``: pictures and videos in, masks and overlays out, here or through a server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.cli.backend import Backend, Outcome
from streamseg.cli.console import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, WrongUsageError, note, one_line, say
from streamseg.cli.interrupt import interrupts_as_event
from streamseg.cli.job import Item, Job, list_items
from streamseg.cli.local import here
from streamseg.cli.progress import Display, clock_time
from streamseg.cli.remote import at_server
from streamseg.errors import BadPromptError, BadSettingError, StreamsegError

if TYPE_CHECKING:
    from streamseg.settings import Settings


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
        backend: Backend | None = None
        if any(item.problem is None for item in items):
            backend = stack.enter_context(here(job, settings) if server is None else at_server(job, server, token))
        return _run_all(job, items, settings, backend)


def _run_all(job: Job, items: Sequence[Item], settings: Settings, backend: Backend | None) -> int:
    began_s = time.perf_counter()
    done = failed = 0
    interrupted = False
    with Display(len(items)) as display:
        try:
            for item in items:
                try:
                    if not _run_one(job, item, settings, backend, display):
                        interrupted = True
                        break
                    done += 1
                except StreamsegError as error:
                    failed += 1
                    note(f"{item.shown}: {error.code}: {one_line(error.message)}")
                except BrokenPipeError:
                    # Whoever read our lines has gone; that is no failure of an input.
                    raise
                except OSError as error:
                    failed += 1
                    note(f"{item.shown}: the results cannot be written: {error.strerror or error}")
                display.advance()
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


def _run_one(job: Job, item: Item, settings: Settings, backend: Backend | None, display: Display) -> bool:
    """Segment one input, write its files and say so; False if it was interrupted."""
    if item.problem is not None:
        raise item.problem
    assert backend is not None
    if item.kind == "video":
        return _segment_video(job, item, backend, display)
    _segment_picture(job, item, settings, backend)
    return True


def _segment_picture(job: Job, item: Item, settings: Settings, backend: Backend) -> None:
    from streamseg.media.image import decode_image

    frame = decode_image(item.path, limits=settings.limits.image(), window=job.window)
    prompts = job.prompts_for(item, frame.width, frame.height)
    for prompt in prompts:
        prompt.check(frame.width, frame.height, settings.limits.prompts())
    result = backend.picture(frame, item.path, prompts)
    folder = job.out.folder_for(item.path.stem)
    job.out.write(folder, frame, result)
    objects = "; ".join(
        f"object {one.object_id} {one.state}, score {one.score:.2f}, {one.area_px} px" for one in result.objects
    )
    say(f"{item.path} -> {folder}/: {objects}")


def _segment_video(job: Job, item: Item, backend: Backend, display: Display) -> bool:
    folder = job.out.folder_for(item.path.stem)
    progress = display.video(item.path.name if item.url is None else item.shown)
    try:
        with interrupts_as_event() as cancelled:
            outcome = backend.video(item, folder, progress, cancelled)
    except StreamsegError as error:
        if not cancelled.is_set():
            raise
        note(f"{item.shown}: {error.code}: {one_line(error.message)}")
        return False
    finally:
        progress.close()
    for problem in outcome.problems:
        note(f"{item.shown}: note: {one_line(problem)}")
    if not outcome.frames and not outcome.interrupted:
        raise BadSettingError("there is no frame between --start and --end")
    first = min((prompt.frame for prompt in job.prompts), default=0)
    if not outcome.interrupted and outcome.last_index is not None and first > outcome.last_index:
        # Nothing is to be seen in these files.
        job.out.clear(folder)
        raise BadPromptError(
            f"no prompt was ever reached: the first is for frame {first}, the last frame segmented was"
            f" {outcome.last_index}; see --frame, --start and --end"
        )
    say(f"{item.shown} -> {folder}/: {_describe(outcome)}")
    return not outcome.interrupted


def _describe(outcome: Outcome) -> str:
    fps = outcome.frames / outcome.took_s if outcome.took_s > 0 else 0.0
    whole = "interrupted after " if outcome.interrupted else ""
    frames = f"{whole}{_count(outcome.frames)} over {outcome.seconds:.1f} s"
    objects = "".join(
        f"; object {object_id} lost in {_count(lost)}" if lost else f"; object {object_id} never lost"
        for object_id, lost in outcome.lost.items()
    )
    return f"{frames}, in {clock_time(outcome.took_s)} ({fps:.1f} frames/s){objects}"


def _count(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"
