"""Ctrl-C while a video is in work: once, and its files are finished as far as they are; twice, and that is all."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamseg.cli.console import EXIT_INTERRUPTED

SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def interrupts_as_event() -> Iterator[threading.Event]:
    """Within the block a first SIGINT sets the event, a second one ends the process at once with exit status 130."""
    asked = threading.Event()
    on_terminal = sys.stderr.isatty()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; others never see one.
        yield asked
        return

    def handle(number: int, frame: Any) -> None:
        del number, frame
        # Past Python's own buffers: the signal may have come while those were being written.
        if asked.is_set():
            _tell(SHOW_CURSOR * on_terminal)
            os._exit(EXIT_INTERRUPTED)
        asked.set()
        # A bar is drawn over the lines below: two of them are left for that.
        _tell(b"\ninterrupted: finishing the files of this video; once more quits at once\n" + b"\n" * on_terminal)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(text: bytes) -> None:
    try:
        os.write(2, text)
    except OSError:
        # Nobody listens any more.
        return
