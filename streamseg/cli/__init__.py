"""The command line: ``streamseg serve | segment | models | bench``."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    from streamseg.cli.app import app

    app(prog_name="streamseg")


__all__ = ["main"]
