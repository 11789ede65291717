"""``streamseg serve``: the service, and what to tell the person who started it."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamseg.cli.console import EXIT_FAILED, note, one_line, say
from streamseg.cli.samples import find_samples
from streamseg.errors import BadSettingError, NotFoundError, StreamsegError

if TYPE_CHECKING:
    from streamseg.models.build import LoadedModel
    from streamseg.settings import Settings


def run_serve(
    config: Path | None, flags: Mapping[str, Any], model: str | None, checkpoint: Path | None, device: str | None
) -> None:
    """Serve until interrupted. Bad settings, a taken port and an unknown model among them, end with 2, a model that
    fails with 1."""
    from streamseg.settings import load_settings

    chosen = {"name": model, "checkpoint": checkpoint, "device": device}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = load_settings(config, {**flags, "model": chosen} if chosen else flags)
    # Refused before torch is loaded, which takes seconds.
    from streamseg.models.catalog import AUTO, find_model
    from streamseg.service.security import check_bind

    check_bind(settings)
    if settings.model.name != AUTO:
        find_model(settings.model.name)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    # The level is ours; the libraries beside are only heard when something is wrong.
    logging.getLogger("streamseg").setLevel(settings.log_level.upper())
    note("starting ...")
    from streamseg.service.server import run

    try:
        run(settings, on_ready=lambda url, loaded: say(greeting(url, loaded, settings)))
    except BadSettingError:
        raise
    except StreamsegError as error:
        note(f"streamseg serve: {one_line(error.message)}")
        raise typer.Exit(EXIT_FAILED) from None


def greeting(url: str, loaded: LoadedModel, settings: Settings) -> str:
    """The address, three things to try, the model and why it was chosen."""
    token = " --token TOKEN" if settings.token is not None else ""
    in_python = ", token=TOKEN" if settings.token is not None else ""
    picture, prompt = _example()
    code = (
        "from streamseg.client import Client; "
        f"print(Client({url!r}{in_python}).segment({picture!r}, {prompt}).objects[0].score)"
    )
    return "\n".join(
        (
            f"streamseg is ready: {url}",
            "try this:",
            f"  open {url} and click an object",
            f"  {_program()} segment --sample --server {url}{token}",
            f"  {shlex.quote(_shorten(sys.executable))} -c {_quoted(code)}",
            f"model: {loaded.name} on {loaded.device}, licence {loaded.licence}. {loaded.reason}",
        )
    )


def _example() -> tuple[str, str]:
    """A picture of this machine to try and a prompt for it, as Python has it."""
    try:
        sample = find_samples()[0]
    except (NotFoundError, IndexError):
        return "photo.jpg", "points_xy_px=[(500, 375)]"
    prompt = sample.prompt or {"points_xy_px": [(100, 100)]}
    return _shorten(sample.path), ", ".join(f"{name}={value!r}" for name, value in prompt.items())


def _program() -> str:
    """How this program is called from the current folder."""
    called = Path(sys.argv[0])
    if called.name != "streamseg":
        return f"{shlex.quote(_shorten(sys.executable))} -m streamseg"
    found = shutil.which("streamseg")
    if found is not None and Path(found).resolve() == called.resolve():
        return "streamseg"
    return shlex.quote(_shorten(called))


def _quoted(code: str) -> str:
    # Python's single quotes read better inside double ones, where the shell leaves the rest alone.
    return shlex.quote(code) if any(c in code for c in '"$`\\!') else f'"{code}"'


def _shorten(path: str | Path) -> str:
    full = Path(path).absolute()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)
