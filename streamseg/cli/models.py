"""``streamseg models``: the known models, and which of them are on this machine."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def run_models() -> None:
    """Print the table on stdout."""
    from streamseg.models.listing import describe_models

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("licence", "on this machine", "note"):
        table.add_column(name, overflow="fold")
    for row in describe_models():
        table.add_row(
            row.name,
            f"{row.parameters_m:.1f} M",
            f"{row.size_mb:.0f} MB",
            row.licence,
            "yes" if row.cached else "no: downloaded on first use",
            row.note,
        )
    # Into a pipe each model stays one line, whatever the terminal's width.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
