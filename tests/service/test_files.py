"""Uploads and results on disk: room, time, names, and what a former server left behind."""

from __future__ import annotations

import tempfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.errors import BadSettingError, NotFoundError, OverloadedError, TooLargeError
from streamseg.service import files
from streamseg.service.files import FileStore, Job, check_data_dir


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FileStore]:
    """Room for 100 bytes, for 10 s."""
    one = FileStore(tmp_path / "data", 100, 10.0, clock)
    yield one
    one.close()


def finish(store: FileStore, job: Job, name: str = "masks.jsonl", size: int = 5) -> str:
    """Publish one result; its id."""
    path = job.results / name
    path.write_bytes(bytes(size))
    store.publish(job, [path])
    return job.id


def test_a_job_has_a_random_id_and_a_folder_of_its_own(store: FileStore) -> None:
    first, second = store.create(10), store.create(10)
    assert first.id != second.id
    assert len(bytes.fromhex(first.id)) == 16
    assert (first.folder.stat().st_mode & 0o777) == 0o700
    assert first.folder != second.folder


def test_an_upload_is_written_as_it_comes_and_deleted_when_results_are_there(store: FileStore) -> None:
    job = store.create(6)
    job.write(b"abc")
    job.write(b"def")
    assert job.upload.read_bytes() == b"abcdef"
    job_id = finish(store, job)
    assert not job.upload.exists()
    path, file = store.find(job_id, "masks.jsonl")
    assert path.read_bytes() == bytes(5)
    assert (file.url, file.bytes, file.media_type) == (f"/v1/files/{job_id}/masks.jsonl", 5, "application/jsonl")
    assert store.held_bytes == 5


def test_a_job_without_results_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    job = store.create(6)
    job.write(b"abc")
    store.remove(job)
    assert store.held_bytes == 0
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["lock"]


@pytest.mark.parametrize("name", ["upload", "../upload", "results", "", ".", "masks.jsonl/", "MASKS.JSONL", "\0"])
def test_only_results_are_found(store: FileStore, name: str) -> None:
    job_id = finish(store, store.create(6))
    with pytest.raises(NotFoundError):
        store.find(job_id, name)


def test_a_job_is_found_by_its_exact_id_once_it_has_results(store: FileStore) -> None:
    job = store.create(6)
    with pytest.raises(NotFoundError):
        store.find(job.id, "masks.jsonl")
    finish(store, job)
    for wrong in (job.id.upper() if job.id.upper() != job.id else "x", job.id + "/", "../" + job.id, "", "0" * 32):
        with pytest.raises(NotFoundError):
            store.find(wrong, "masks.jsonl")


def test_results_are_gone_when_their_time_is_over(store: FileStore, clock: Clock) -> None:
    job = store.create(6)
    job_id = finish(store, job)
    clock.now = 9.0
    store.sweep()
    store.find(job_id, "masks.jsonl")
    clock.now = 10.0
    with pytest.raises(NotFoundError, match="10 s"):
        store.find(job_id, "masks.jsonl")
    store.sweep()
    assert not job.folder.exists()
    assert store.held_bytes == 0


def test_a_job_in_work_has_no_end(store: FileStore, clock: Clock) -> None:
    job = store.create(6)
    clock.now = 1000.0
    store.sweep()
    assert job.folder.exists()


def test_the_oldest_results_give_way_to_a_new_file(store: FileStore, clock: Clock) -> None:
    jobs = []
    for now in range(3):
        clock.now = float(now)
        jobs.append(store.create(30))
        finish(store, jobs[-1], size=30)
    store.create(25)
    assert [job.folder.exists() for job in jobs] == [False, True, True]


def test_files_in_work_do_not_give_way(store: FileStore) -> None:
    job = store.create(60)
    with pytest.raises(OverloadedError, match="no room"):
        store.create(41)
    assert job.folder.exists()
    assert store.held_bytes == 60
    store.create(40)


def test_a_file_larger_than_all_room_displaces_nothing(store: FileStore) -> None:
    job = store.create(6)
    job_id = finish(store, job)
    with pytest.raises(TooLargeError, match="room for 100"):
        store.create(101)
    store.find(job_id, "masks.jsonl")


def test_results_that_outgrow_the_room_are_refused(store: FileStore) -> None:
    old = store.create(6)
    finish(store, old)
    job = store.create(50)
    (job.results / "overlay.mp4").write_bytes(bytes(48))
    store.account(job)
    assert not old.folder.exists()
    assert store.held_bytes == 98
    (job.results / "overlay.mp4").write_bytes(bytes(51))
    with pytest.raises(TooLargeError, match="files_quota_bytes"):
        store.account(job)


def test_a_full_disk_is_named(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(1, 1, 0))
    with pytest.raises(OverloadedError, match="disk is full"):
        store.create(6)
    assert store.held_bytes == 0


def test_a_disk_that_becomes_full_is_named(store: FileStore) -> None:
    job = store.create(6)
    job.upload.symlink_to("/dev/full")
    job._file = job.upload.open("wb", buffering=0)
    with pytest.raises(OverloadedError, match="disk is full"):
        job.write(b"abc")


def test_what_a_former_server_left_is_swept_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    left, other = tmp_path / ("0f" * 16), tmp_path / "mine"
    for folder in (left, other):
        folder.mkdir()
        (folder / "upload").write_bytes(b"x")
    store = FileStore(tmp_path, 100, 10.0)
    assert not left.exists()
    assert other.exists()
    store.close()
    assert other.exists()


def test_a_temporary_folder_goes_with_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = FileStore(None, 100, 10.0)
    store.create(5)
    (root,) = tmp_path.iterdir()
    assert (root.stat().st_mode & 0o777) == 0o700
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_folder_of_a_killed_server_is_swept_but_not_that_of_a_running_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = FileStore(None, 100, 10.0)
    killed = tmp_path / "streamseg-files-killed"
    killed.mkdir()
    (killed / "lock").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "streamseg-files-link").symlink_to(elsewhere)
    second = FileStore(None, 100, 10.0)
    assert not killed.exists()
    assert (elsewhere / "lock").exists()
    running.create(5)
    second.close()
    running.close()


def test_a_folder_is_for_one_server(tmp_path: Path) -> None:
    store = FileStore(tmp_path, 100, 10.0)
    with pytest.raises(BadSettingError, match="in use by another server"):
        check_data_dir(tmp_path)
    store.close()
    check_data_dir(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettingError, match="cannot be used"):
        check_data_dir(tmp_path / "file")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
