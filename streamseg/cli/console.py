"""How the commands speak: results on stdout, progress and errors on stderr, an error in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from streamseg.errors import StreamsegError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def say(text: str = "") -> None:
    """A line of result, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result (progress, error), on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    return " ".join(text.split())


class WrongUsageError(TyperException):
    """Options that do not go together or cannot be read."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, command: str = "streamseg segment") -> None:
        super().__init__(message)
        self.command = command


class Commands(TyperGroup):
    """The group of commands; whatever goes wrong ends in one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        del standalone_mode  # the errors are shown here
        code: Any
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except TyperException as error:
            context: Any = getattr(error, "ctx", None)
            command = getattr(context, "command_path", None) or getattr(error, "command", "streamseg")
            note(f"{command}: {one_line(error.format_message())} (see {command} --help)")
            code = error.exit_code
        except StreamsegError as error:
            note(f"{prog_name or 'streamseg'}: {one_line(error.message)}")
            code = EXIT_USAGE
        except typer.Abort:
            code = EXIT_INTERRUPTED
        code = code if isinstance(code, int) else 0
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.exit(code)
