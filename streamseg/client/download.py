"""Results of a video from a server to a folder, by HTTP. Blocking; run it in a thread."""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from streamseg.client.wire import PATH, RemoteFile, error_from, parse
from streamseg.errors import BadMessageError, CancelledWorkError, ConnectionLostError, StreamsegError

PIECE_BYTES = 2**18
MAX_ERROR_BYTES = 2**16

# A server may be anyone's: its names must not lead out of the folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"/v1/files/[0-9a-f]{32}/[A-Za-z0-9._-]+")


def download(
    stream_url: str,
    token: str | None,
    file: RemoteFile,
    folder: Path,
    *,
    timeout_s: float | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Path:
    """Fetch one result into ``folder``, which is made; it is there whole, or not at all.

    ``stream_url``: the websocket address that the file was named on. ``wanted``: asked now and then; False ends it with
    CancelledWorkError. Raises ConnectionLostError, NotFoundError (its time is over) and OSError (it cannot be written).
    """
    if not _NAME.fullmatch(file.name) or not _URL.fullmatch(file.url):
        raise BadMessageError("the server named a result that cannot be fetched")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    part = folder / f".{file.name}.{secrets.token_hex(4)}.part"
    try:
        with contextlib.closing(_connect(stream_url, timeout_s)) as connection, part.open("xb") as output:
            for piece in _pieces(connection, _path(stream_url, file.url), token):
                if not wanted():
                    raise CancelledWorkError("the download was given up")
                output.write(piece)
            got = output.tell()
        if got != file.bytes:
            raise ConnectionLostError(f"{file.name} came with {got} of {file.bytes} bytes")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _connect(stream_url: str, timeout_s: float | None) -> http.client.HTTPConnection:
    parts = urlsplit(stream_url)
    host = parts.hostname or ""
    if parts.scheme == "wss":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)


def _path(stream_url: str, url: str) -> str:
    """The path of a result behind the same prefix as the websocket's."""
    return urlsplit(stream_url).path.removesuffix(PATH) + url


def _pieces(connection: http.client.HTTPConnection, path: str, token: str | None) -> Iterator[bytes]:
    # A token beyond latin-1 goes as its UTF-8 bytes, as on the websocket.
    headers = {"Authorization": f"Bearer {token}".encode().decode("latin-1")} if token else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response)
        while piece := response.read(PIECE_BYTES):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionLostError(f"the download from the server broke ({error})") from None


def _refusal(response: http.client.HTTPResponse) -> StreamsegError:
    try:
        return error_from(parse(response.read(MAX_ERROR_BYTES)))
    except BadMessageError:
        return ConnectionLostError(f"the server answers a download with HTTP {response.status}")
