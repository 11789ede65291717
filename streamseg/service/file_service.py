"""What the file sessions of one server share: places, a line to wait in, threads, and the files themselves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from streamseg.errors import OverloadedError
from streamseg.service.files import RETRY_AFTER_S, FileStore
from streamseg.service.line import Line

if TYPE_CHECKING:
    from streamseg.service.metrics import Metrics
    from streamseg.settings import Settings

# Files being uploaded or waiting, for each one that may be processed.
WAITING_FOR_EACH = 3


class FileService:
    """What the file sessions of one server share."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        limits = settings.limits
        self.store = FileStore(settings.data_dir, limits.files_quota_bytes, limits.files_ttl_s)
        self.line = Line(limits.max_file_jobs)
        self.executor = ThreadPoolExecutor(limits.max_file_jobs, "streamseg-file")
        self._most = (1 + WAITING_FOR_EACH) * limits.max_file_jobs
        self._open = 0
        self._sweep_every_s = min(max(limits.files_ttl_s / 4, 0.1), 60.0)
        metrics.watch_files(lambda: float(self.store.held_bytes), lambda: float(self.line.waiting))

    def enter(self) -> None:
        """Take one of the places for files that are uploaded, wait or are processed; raises OverloadedError."""
        if self._open >= self._most:
            raise OverloadedError(
                f"{self._open} files are in work or wait already; try again later", retry_after_s=RETRY_AFTER_S
            )
        self._open += 1

    def leave(self) -> None:
        """Give the place back."""
        self._open -= 1

    async def sweep(self) -> None:
        """Delete what is over, for as long as the server runs."""
        while True:
            await asyncio.sleep(self._sweep_every_s)
            await asyncio.to_thread(self.store.sweep)

    def close(self) -> None:
        """Delete everything, once the threads have ended."""
        self.executor.shutdown(wait=True)
        self.store.close()
