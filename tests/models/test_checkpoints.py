"""Downloads against a hub on the loopback address, with real files, digests and broken connections."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from streamseg.errors import BadCheckpointError, ModelUnavailableError
from streamseg.models import checkpoints
from streamseg.models.catalog import MODELS
from streamseg.models.checkpoints import fetch_checkpoint, find_cached

if TYPE_CHECKING:
    from conftest import Hub

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SPEC = replace(MODELS["sam2.1-hiera-tiny"], sha256=DIGEST)
FILE = "facebook/sam2.1-hiera-tiny/sam2.1_hiera_tiny.pt"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library writes 10 MB at a time, and what is not written yet is lost with the connection."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)


@pytest.fixture
def hub(serve_hub: Callable[..., Hub]) -> Hub:
    return serve_hub(FILE, CONTENT)


def partial_files(cache: Path) -> list[Path]:
    return list(cache.rglob("*.incomplete"))


def test_a_download_lands_verified_in_the_hubs_own_cache_layout(hub: Hub, tmp_path: Path) -> None:
    path = fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    assert path.read_bytes() == CONTENT
    assert path.name == "sam2.1_hiera_tiny.pt"
    assert path.resolve().name == DIGEST
    assert find_cached(SPEC, tmp_path) == path
    found = huggingface_hub.try_to_load_from_cache("facebook/sam2.1-hiera-tiny", path.name, cache_dir=tmp_path)
    assert found == str(path)
    assert not huggingface_hub.scan_cache_dir(tmp_path).warnings
    assert not partial_files(tmp_path)


def test_the_content_may_lie_on_another_host_that_gets_no_token(
    hub: Hub, serve_hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    storage = serve_hub("blob", CONTENT, cut_after=100_000)
    hub.storage_url = f"{storage.url}/blob"
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT
    assert [line.split("/blob")[1].strip() for line in storage.gets()] == ["", "bytes=100000-"]
    assert storage.tokens == set()
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_cached_file_needs_no_network_and_is_hashed_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    asked = len(hub.requests)
    monkeypatch.setattr(checkpoints, "_verify", lambda *_: pytest.fail("hashed a second time"))
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url) == path
    assert len(hub.requests) == asked


def test_a_broken_connection_is_taken_up_again_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = 100_000
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT
    first, second = hub.gets()
    assert "bytes=" not in first
    assert second.endswith("bytes=100000-")


def test_a_failed_download_goes_on_in_the_next_call(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.fail_with = 100_000, 500
    with pytest.raises(ModelUnavailableError, match=r"HTTP status 500.*--checkpoint FILE"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    assert [file.stat().st_size for file in partial_files(tmp_path)] == [100_000]
    assert find_cached(SPEC, tmp_path) is None
    hub.status = 200
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT
    assert hub.gets()[-1].endswith("bytes=100000-")
    assert not partial_files(tmp_path)


def test_a_complete_partial_file_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    blobs = tmp_path / "models--facebook--sam2.1-hiera-tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{DIGEST}.incomplete").write_bytes(CONTENT)
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT
    assert not hub.gets()


def test_a_partial_file_that_is_too_long_is_started_over(hub: Hub, tmp_path: Path) -> None:
    blobs = tmp_path / "models--facebook--sam2.1-hiera-tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{DIGEST}.incomplete").write_bytes(CONTENT + b"more")
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT


def test_damage_on_the_way_is_found_and_the_file_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(BadCheckpointError, match=r"sam2\.1_hiera_tiny\.pt.*not the published file.*deleted"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    assert find_cached(SPEC, tmp_path) is None
    assert not partial_files(tmp_path)


def test_another_file_than_the_catalogs_is_refused_before_the_download(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpointError, match=r"The hub offers another sam2\.1_hiera_tiny\.pt"):
        fetch_checkpoint(MODELS["sam2.1-hiera-tiny"], tmp_path, endpoint=hub.url)
    assert not hub.gets()


def test_without_a_digest_in_the_catalog_the_hubs_own_is_verified(hub: Hub, tmp_path: Path) -> None:
    unpinned = replace(SPEC, sha256=None)
    assert fetch_checkpoint(unpinned, tmp_path / "good", endpoint=hub.url).read_bytes() == CONTENT
    hub.content = CONTENT[::-1]
    with pytest.raises(BadCheckpointError, match="not the published file"):
        fetch_checkpoint(unpinned, tmp_path / "bad", endpoint=hub.url)


def test_a_hub_without_sha256_cannot_be_verified(hub: Hub, tmp_path: Path) -> None:
    hub.etag = "a" * 40
    with pytest.raises(BadCheckpointError, match="states no SHA-256"):
        fetch_checkpoint(replace(SPEC, sha256=None), tmp_path, endpoint=hub.url)


@pytest.mark.parametrize("etag", ["../../evil", "x" * 64, "W/"])
def test_an_answer_that_is_not_a_hubs_is_refused(hub: Hub, tmp_path: Path, etag: str) -> None:
    hub.etag = etag
    with pytest.raises(ModelUnavailableError, match="HF_ENDPOINT"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)


def test_a_changed_file_in_the_cache_is_found_and_deleted(hub: Hub, tmp_path: Path) -> None:
    path = fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    path.resolve().write_bytes(b"something else")
    with pytest.raises(BadCheckpointError, match="deleted"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    assert find_cached(SPEC, tmp_path) is None
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url).read_bytes() == CONTENT


def test_a_file_that_another_program_downloaded_is_used_after_verifying(hub: Hub, tmp_path: Path) -> None:
    theirs = huggingface_hub.hf_hub_download(
        "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt", cache_dir=tmp_path, endpoint=hub.url
    )
    asked = len(hub.requests)
    assert fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url) == Path(theirs)
    assert len(hub.requests) == asked
    assert (tmp_path / "models--facebook--sam2.1-hiera-tiny/.streamseg/sam2.1_hiera_tiny.pt.verified").is_file()


@pytest.mark.parametrize(
    ("status", "error_code", "says"),
    [
        (401, "GatedRepo", "hf auth login"),
        (401, "RepoNotFound", "does not have it"),
        (404, "EntryNotFound", "does not have it"),
        (403, "", "HTTP status 403"),
    ],
)
def test_a_refusal_says_what_to_do(hub: Hub, tmp_path: Path, status: int, error_code: str, says: str) -> None:
    hub.status, hub.error_code = status, error_code
    with pytest.raises(ModelUnavailableError, match=rf"{says}.*--checkpoint FILE"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)


def test_an_unreachable_hub_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ModelUnavailableError, match=r"cannot be reached.*--checkpoint FILE"):
            fetch_checkpoint(SPEC, tmp_path, endpoint=endpoint)


def test_a_disk_without_space_is_noticed_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("streamseg.models.checkpoints.shutil.disk_usage", lambda _: free)
    with pytest.raises(ModelUnavailableError, match="the disk is full"):
        fetch_checkpoint(SPEC, tmp_path, endpoint=hub.url)
    assert not hub.gets()


def test_a_cache_that_is_a_file_is_no_crash(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(ModelUnavailableError):
        fetch_checkpoint(SPEC, tmp_path / "cache", endpoint=hub.url)


FETCH = f"""
import sys
from dataclasses import replace
from streamseg.errors import StreamsegError
from streamseg.models.catalog import MODELS
from streamseg.models.checkpoints import fetch_checkpoint
assert "torch" not in sys.modules
try:
    print(fetch_checkpoint(replace(MODELS["sam2.1-hiera-tiny"], sha256={DIGEST!r})))
except StreamsegError as error:
    print(type(error).__name__, error)
"""


def fetch_in_a_process(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", FETCH],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_the_hubs_environment_variables_are_honoured(hub: Hub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    offline = fetch_in_a_process({**environment, "HF_HUB_OFFLINE": "1"})
    assert "ModelUnavailableError" in offline.stdout
    assert "HF_HUB_OFFLINE is set" in offline.stdout
    assert not hub.requests
    online = fetch_in_a_process({**environment, "TQDM_POSITION": "-1"})  # shows the bar without a terminal, too
    path = Path(online.stdout.strip())
    assert path.is_relative_to(tmp_path / "hub")
    assert path.read_bytes() == CONTENT
    assert "sam2.1_hiera_tiny.pt" in online.stderr, "the progress bar"
    assert fetch_in_a_process({**environment, "HF_HUB_OFFLINE": "1"}).stdout == online.stdout
