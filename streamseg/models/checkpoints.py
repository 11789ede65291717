"""Finding, downloading and verifying the published checkpoints, in the cache of the Hugging Face hub."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path

import httpx2
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]  # re-exported plainly

from streamseg.errors import BadCheckpointError, ModelUnavailableError
from streamseg.models.catalog import ModelSpec

logger = logging.getLogger(__name__)

_ETAG = re.compile(r"[0-9a-f]{40,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ANSWER_TIMEOUT_S = 10.0


def find_cached(spec: ModelSpec, cache_dir: Path | None = None) -> Path | None:
    """The checkpoint in the hub's cache, not verified; None where it is not there."""
    if spec.repo_id is None or spec.filename is None:
        return None
    found = try_to_load_from_cache(spec.repo_id, spec.filename, cache_dir=cache_dir)
    return Path(found) if isinstance(found, str) else None


def fetch_checkpoint(spec: ModelSpec, cache_dir: Path | None = None, *, endpoint: str | None = None) -> Path:
    """The verified checkpoint of a published model, downloaded unless it is in the cache.

    The download shows the hub's progress bar on stderr and goes on where an earlier one was interrupted, in this
    process or another. The file becomes visible in the cache after its SHA-256 was found right; a small marker
    beside it saves the next start that work.

    Args:
        spec: a published model.
        cache_dir: the hub's cache folder; None takes the hub's default (``HF_HUB_CACHE``, ``HF_HOME``).
        endpoint: another address of the hub; None takes ``HF_ENDPOINT`` or the hub's own.

    Raises:
        ModelUnavailableError: offline, unreachable, refused, no space; the message says what to do.
        BadCheckpointError: the file is not the published one; it was deleted.
    """
    assert spec.repo_id is not None
    assert spec.filename is not None
    cached = find_cached(spec, cache_dir)
    if cached is not None:
        _verify_cached(spec, cached, cache_dir)
        return cached
    try:
        return _download(spec, cache_dir, endpoint)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, EntryNotFoundError) as error:
        logger.info("download of %s failed: %r", spec.filename, error)
        raise ModelUnavailableError(
            f"The checkpoint of {spec.name!r} cannot be had: {_explain(error)} Or get {spec.filename} from "
            f"{spec.repo_id} on another machine and give it with --checkpoint FILE."
        ) from error


def _explain(error: Exception) -> str:
    """What went wrong and what would help, as a sentence or two."""
    match error:
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set and the file is not in the cache. Unset it for the first start."
        case GatedRepoError():
            return "the hub wants a login for it. Accept its terms there and run `hf auth login`."
        case LocalEntryNotFoundError():
            return "the hub stopped answering. Start again: the download goes on where it stopped."
        case RepositoryNotFoundError() | EntryNotFoundError():
            return "the hub does not have it, or wants a login (`hf auth login`)."
        case HfHubHTTPError():
            return f"the hub answered with HTTP status {error.response.status_code}. Try again later."
        case httpx2.ProxyError():
            return "the proxy refuses the connection. Check HTTPS_PROXY."
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "the hub cannot be reached. Check the network, HF_ENDPOINT and HTTPS_PROXY."
        case httpx2.HTTPError() | httpx2.InvalidURL():
            return "the connection broke. Start again: the download goes on where it stopped."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "the disk is full. Free some space, or choose another cache folder with HF_HOME."
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return "the cache folder cannot be written. Choose another one with HF_HOME."
    return "the download failed or ended early. Start again: it goes on where it stopped."


def _download(spec: ModelSpec, cache_dir: Path | None, endpoint: str | None) -> Path:
    assert spec.repo_id is not None
    assert spec.filename is not None
    headers = build_hf_headers(library_name="streamseg")
    url = hf_hub_url(spec.repo_id, spec.filename, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, timeout=_ANSWER_TIMEOUT_S, headers=headers, endpoint=endpoint)
    digest = _digest_to_expect(spec, metadata)
    folder = _repo_folder(spec, cache_dir)
    blob = folder / "blobs" / digest
    partial = blob.with_name(f"{blob.name}.incomplete")
    lock = folder.parent / ".locks" / folder.name / f"{blob.name}.lock"
    blob.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not blob.exists():
            # The commit, not the branch: a push between the two requests must not mix two files.
            url = hf_hub_url(spec.repo_id, spec.filename, revision=metadata.commit_hash, endpoint=endpoint)
            _download_to(partial, url, headers, metadata.size, spec.filename)
            _verify(spec, partial, digest)
            partial.replace(blob)
            _mark(spec, blob, digest, cache_dir)
    # The hub links what lies under its name in blobs/ into its cache, so that other programs find it too.
    path = Path(hf_hub_download(spec.repo_id, spec.filename, cache_dir=cache_dir, endpoint=endpoint))
    _verify_cached(spec, path, cache_dir)
    return path


def _digest_to_expect(spec: ModelSpec, metadata: HfFileMetadata) -> str:
    """The SHA-256 that the file must have: the catalog's, which the hub must not contradict, or else the hub's."""
    stated = metadata.etag or ""
    if metadata.commit_hash is None or not _ETAG.fullmatch(stated):
        raise httpx2.ConnectError("the answer is not from a Hugging Face hub")
    if not _SHA256.fullmatch(stated):
        raise BadCheckpointError(
            f"The hub states no SHA-256 for {spec.filename}; it was not downloaded. Give the file with --checkpoint."
        )
    if spec.sha256 is not None and stated != spec.sha256:
        raise BadCheckpointError(
            f"The hub offers another {spec.filename} than the published one of {spec.name!r} (SHA-256 "
            f"{stated[:12]}..., not {spec.sha256[:12]}...); it was not downloaded. Check HF_ENDPOINT, or give the "
            "file with --checkpoint."
        )
    return stated


def _download_to(partial: Path, url: str, headers: dict[str, str], size: int | None, label: str) -> None:
    """Download what is missing of a file, appending to what is there."""
    have = partial.stat().st_size if partial.exists() else 0
    if size is not None:
        if have > size:
            partial.unlink()
            have = 0
        if shutil.disk_usage(partial.parent).free < size - have:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with partial.open("ab") as file:
        http_get(url, file, resume_size=have, headers=headers, expected_size=size, displayed_filename=label)


def _verify_cached(spec: ModelSpec, path: Path, cache_dir: Path | None) -> None:
    """Verify a file of the cache unless its marker says that this was done and the file has not changed since."""
    blob = path.resolve()
    digest = spec.sha256 or (blob.name if _SHA256.fullmatch(blob.name) else None)
    if digest is None or _read_marker(spec, cache_dir) == _marker(blob, digest):
        return
    try:
        _verify(spec, blob, digest)
    except BadCheckpointError:
        path.unlink(missing_ok=True)
        raise
    _mark(spec, blob, digest, cache_dir)


def _verify(spec: ModelSpec, path: Path, digest: str) -> None:
    """Compare a file's SHA-256; what does not match is deleted.

    Raises:
        BadCheckpointError: it does not match.
    """
    logger.info("verifying %s", spec.filename)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        path.unlink(missing_ok=True)
        raise BadCheckpointError(
            f"The checkpoint {spec.filename} of {spec.name!r} is not the published file (SHA-256 {found[:12]}..., not "
            f"{digest[:12]}...) and was deleted; start again to download it anew."
        )


def _repo_folder(spec: ModelSpec, cache_dir: Path | None) -> Path:
    assert spec.repo_id is not None
    root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    return root / repo_folder_name(repo_id=spec.repo_id, repo_type="model")


def _marker_path(spec: ModelSpec, cache_dir: Path | None) -> Path:
    return _repo_folder(spec, cache_dir) / ".streamseg" / f"{spec.filename}.verified"


def _marker(blob: Path, digest: str) -> dict[str, object]:
    status = blob.stat()
    return {"sha256": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _read_marker(spec: ModelSpec, cache_dir: Path | None) -> object:
    try:
        return json.loads(_marker_path(spec, cache_dir).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _mark(spec: ModelSpec, blob: Path, digest: str, cache_dir: Path | None) -> None:
    marker = _marker_path(spec, cache_dir)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps(_marker(blob, digest)), encoding="utf-8")
    except OSError as error:
        logger.debug("no marker beside %s, it is verified on each start: %s", spec.filename, error)
