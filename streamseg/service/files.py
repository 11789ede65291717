"""Uploaded files and what came of them, on disk: bounded by a quota, and deleted after a while.

Every name is the server's own. A job's folder is known by a random id of 128 bits, which is all that a download needs:
a browser cannot send headers for the address of a video.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from streamseg.errors import BadSettingError, NotFoundError, OverloadedError, TooLargeError
from streamseg.service.protocol.server_messages import FileFields

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = "streamseg-files-"
LOCK_NAME = "lock"
# Left free on the disk for everything else.
DISK_RESERVE_BYTES = 64 * 2**20
RETRY_AFTER_S = 60.0

_ID = re.compile(r"[0-9a-f]{32}")
_MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".jsonl": "application/jsonl"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(slots=True)
class Job:
    """The folder of one uploaded file. ``upload``: the file; ``results``: the folder for what comes of it."""

    id: str
    folder: Path
    size_bytes: int
    # What the quota counts for it.
    held_bytes: int
    results_bytes: int = 0
    ends_at: float | None = None
    published: dict[str, FileFields] = field(default_factory=dict)
    _file: BinaryIO | None = None

    @property
    def upload(self) -> Path:
        return self.folder / "upload"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def write(self, data: bytes) -> None:
        """Append to the uploaded file; raises OverloadedError where the disk is full."""
        with full_disk_named():
            if self._file is None:
                self._file = self.upload.open("xb", buffering=0)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """No more comes of the uploaded file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class FileStore:
    """All jobs of one server. Its methods block, and may be called from any thread.

    ``data_dir``: where the jobs are kept, for this server alone; None: a temporary folder, removed by ``close``.
    ``clock``: seconds, monotonic.
    """

    def __init__(
        self, data_dir: Path | None, quota_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quota_bytes = quota_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._temporary = data_dir is None
        self._root, self._held = _temporary_root() if data_dir is None else _own_root(data_dir)
        for entry in self._root.iterdir():
            if _ID.fullmatch(entry.name):
                _remove(entry)

    @property
    def held_bytes(self) -> int:
        """What the quota counts at the moment."""
        with self._lock:
            return sum(job.held_bytes for job in self._jobs.values())

    def create(self, size_bytes: int) -> Job:
        """A new job with room for its upload; raises OverloadedError where there is none, TooLargeError for ever."""
        if size_bytes > self._quota_bytes:
            raise TooLargeError(f"the file has {size_bytes} bytes; this server has room for {self._quota_bytes}")
        job_id = secrets.token_hex(16)
        job = Job(job_id, self._root / job_id, size_bytes, size_bytes)
        with self._lock:
            given_way = self._make_room(size_bytes)
            if given_way is None:
                raise OverloadedError(
                    "the server has no room for this file beside those in work; try again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._jobs[job_id] = job
        for folder in given_way:
            _remove(folder)
        try:
            if shutil.disk_usage(self._root).free < size_bytes + DISK_RESERVE_BYTES:
                raise _disk_full()
            with full_disk_named():
                job.folder.mkdir(mode=0o700)
                job.results.mkdir()
        except BaseException:
            self.remove(job)
            raise
        return job

    def account(self, job: Job) -> None:
        """Count what a job's results have grown to; raises TooLargeError where they outgrow the quota."""
        job.results_bytes = sum(_size(path) for path in job.results.rglob("*"))
        with self._lock:
            more = job.size_bytes + job.results_bytes - job.held_bytes
            given_way = self._make_room(more) if more > 0 else []
            if given_way is None:
                raise TooLargeError("the results outgrow the room that the server has (files_quota_bytes)")
            job.held_bytes += max(more, 0)
        for folder in given_way:
            _remove(folder)
        if shutil.disk_usage(self._root).free < DISK_RESERVE_BYTES:
            raise _disk_full()

    def publish(self, job: Job, paths: list[Path]) -> list[FileFields]:
        """Let the results be downloaded for a while; the upload is deleted."""
        job.close()
        job.upload.unlink(missing_ok=True)
        files = [
            FileFields(
                name=path.name,
                url=f"/v1/files/{job.id}/{path.name}",
                bytes=path.stat().st_size,
                media_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
            )
            for path in paths
        ]
        with self._lock:
            job.held_bytes = sum(one.bytes for one in files)
            job.published = {one.name: one for one in files}
            job.ends_at = self._clock() + self._ttl_s
        return files

    def find(self, job_id: str, name: str) -> tuple[Path, FileFields]:
        """A result to download; NotFoundError for everything that is none."""
        with self._lock:
            job = self._jobs.get(job_id) if _ID.fullmatch(job_id) else None
            file = None if job is None else job.published.get(name)
            if job is None or file is None or (job.ends_at is not None and job.ends_at <= self._clock()):
                raise NotFoundError(f"there is no such file; results are kept for {self._ttl_s:g} s")
            return job.results / file.name, file

    def remove(self, job: Job) -> None:
        """Delete everything of a job."""
        job.close()
        _remove(job.folder)
        with self._lock:
            self._jobs.pop(job.id, None)

    def sweep(self) -> None:
        """Delete the results whose time is over."""
        with self._lock:
            now = self._clock()
            over = [job for job in self._jobs.values() if job.ends_at is not None and job.ends_at <= now]
            for job in over:
                del self._jobs[job.id]
        for job in over:
            _remove(job.folder)

    def close(self) -> None:
        """Delete all jobs: nobody knows their ids any more."""
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.close()
            _remove(job.folder)
        self._held.close()
        if self._temporary:
            _remove(self._root)

    def _make_room(self, more_bytes: int) -> list[Path] | None:
        """Give up the oldest results until so much fits; their folders, or None if it cannot fit."""
        room = self._quota_bytes - sum(job.held_bytes for job in self._jobs.values()) - more_bytes
        given_way: list[Job] = []
        for job in sorted(self._jobs.values(), key=lambda job: job.ends_at or 0.0):
            if room >= 0:
                break
            if job.ends_at is None:
                continue
            given_way.append(job)
            room += job.held_bytes
        if room < 0:
            return None
        for job in given_way:
            logger.info("the results %s gave way to newer files", job.id)
            del self._jobs[job.id]
        return [job.folder for job in given_way]


@contextlib.contextmanager
def full_disk_named() -> Iterator[None]:
    """A full disk as OverloadedError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _disk_full() from error
        raise


def _disk_full() -> OverloadedError:
    return OverloadedError("the server's disk is full; try again later", retry_after_s=RETRY_AFTER_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        # Temporary files come and go meanwhile.
        return 0


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError:
        logger.warning("cannot delete %s", folder, exc_info=True)


def check_data_dir(data_dir: Path | None) -> None:
    """Raise BadSettingError where a server could not keep its files."""
    if data_dir is not None:
        _own_root(data_dir)[1].close()


def _temporary_root() -> tuple[Path, BinaryIO]:
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(TEMPORARY_PREFIX + "*"):
        _remove_if_left(left)
    root = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    held = _hold(root)
    assert held is not None
    return root, held


def _remove_if_left(root: Path) -> None:
    """Delete the temporary folder of a server that was killed; a running one holds its lock."""
    with contextlib.suppress(OSError):
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            return
        # Without a lock it may be one that is just being made.
        if (root / LOCK_NAME).is_file() and (held := _hold(root)) is not None:
            _remove(root)
            held.close()


def _own_root(data_dir: Path) -> tuple[Path, BinaryIO]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = _hold(data_dir)
    except OSError as error:
        raise BadSettingError(f"data_dir {data_dir} cannot be used: {error.strerror or error}") from None
    if held is None:
        raise BadSettingError(f"data_dir {data_dir} is in use by another server; give each its own")
    return data_dir, held


def _hold(root: Path) -> BinaryIO | None:
    """Lock a folder for this process, or None if another one has it."""
    file = (root / LOCK_NAME).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file
