"""Video over HTTP: what a camera, a file or a playlist at an address sends, handed to FFmpeg as files.

FFmpeg never sees the network here: whatever it wants to have opened, such as the parts of a playlist, is fetched by
one client whose every connection is checked by the guard, and nothing but http and https is.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Generator
from typing import Any, Final

import httpcore2
import httpx2

from streamseg.errors import StreamsegError, StreamUnavailableError, TooLargeError, UnsupportedMediaError
from streamseg.media.addresses import StreamUrl, is_stream_url, redacted
from streamseg.media.containers import HEAD_BYTES, describe, sniff_container
from streamseg.media.guarded import Guard, GuardedBackend, passing

MAX_REDIRECTS: Final = 5
MAX_PLAYLIST_BYTES: Final = 1024 * 1024
# The demuxers that may be reached; a playlist leads to parts of these kinds.
_FORMATS: Final = {"hls": "hls,mpegts,mov,mp4,m4a,3gp,3g2,mj2,aac,webvtt", "mpjpeg": "mpjpeg,jpeg_pipe,mjpeg"}
_PLAYLIST = b"#EXTM3U"
_PLAYLIST_END = b"#EXT-X-ENDLIST"
_TARGET = re.compile(rb"#EXT-X-TARGETDURATION:[ ]*(\d{1,6})")
_LONGEST_TARGET_S = 30.0
# Answers that may be other ones soon.
_PASSING_STATUS = frozenset({408, 425, 429}) | frozenset(range(500, 600))


class HttpStream:
    """What is at one http or https address.

    ``container``: FFmpeg's name of its kind: ``mpjpeg``, ``hls`` or one of ``sniff_container``. ``file``: what to give
    to FFmpeg, together with ``open_other`` for what it refers to; neither raises, for PyAV prints what is raised twice:
    after a failure, which the guard knows, there is nothing more to read. Raises AddressRefusedError,
    StreamUnavailableError and UnsupportedMediaError.
    """

    def __init__(self, url: StreamUrl, guard: Guard, tls: ssl.SSLContext) -> None:
        self.target_s = 0.0
        """How long the parts of a playlist last."""
        self.is_finite = False
        """Whether what comes has an end that is no loss."""
        self._url = url
        self._guard = guard
        self._client = httpx2.Client(
            transport=_Transport(guard, tls),
            trust_env=False,
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            timeout=guard.connect_timeout_s,
            headers={"User-Agent": "streamseg", "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        try:
            body = self._fetch(f"{url.origin}{url.target}")
            self.container = _tell_container(body)
            self.is_finite |= self.container not in ("mpjpeg", "hls") and body.has_length
            self.file = _File(body, guard)
        except BaseException:
            self.close()
            raise

    @property
    def format_whitelist(self) -> str:
        return _FORMATS.get(self.container, self.container)

    def open_other(self, url: str, flags: int, options: dict[str, str]) -> _File:
        """PyAV's ``io_open``: a part of a playlist, or the playlist again."""
        del flags, options
        try:
            self._guard.check()
            if not is_stream_url(url) or StreamUrl.parse(url).scheme not in ("http", "https"):
                raise UnsupportedMediaError("the playlist refers to something else than http:// or https://")
            return _File(self._fetch(url), self._guard)
        except StreamsegError as error:
            self._guard.note(error)
            return _File(None, self._guard)

    def close(self) -> None:
        self._client.close()

    def _fetch(self, url: str) -> HttpBody:
        # FFmpeg puts parts together with the address of the playlist as it knows it, which is without its secrets.
        request = self._client.build_request("GET", url)
        given = self._url.credentials
        own = str(request.url).startswith(f"{_origin(self._url.origin)}/")
        auth = _Login(*given) if given is not None and own else None
        failure: StreamsegError
        try:
            response = self._client.send(request, auth=auth, stream=True)
        except StreamsegError:
            raise
        except httpx2.TooManyRedirects:
            failure = StreamUnavailableError("the server redirects without end")
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            failure = StreamUnavailableError("the server redirects to something else than http:// or https://")
        except (httpx2.HTTPError, httpcore2.ProtocolError):
            failure = passing("the server's answer is no HTTP")
        else:
            if response.status_code == 200:
                return HttpBody(response, self)
            failure = _refusal(response)
            response.close()
        raise failure

    def note_playlist(self, part: bytes) -> None:
        """A playlist comes; it says how long one must wait for news, or that there will be none."""
        target = _TARGET.search(part)
        if target is not None:
            self.target_s = min(float(target[1]), _LONGEST_TARGET_S)
        self.is_finite |= _PLAYLIST_END in part


class HttpBody:
    """The body of one answer. ``name``: its address, without query and user."""

    def __init__(self, response: httpx2.Response, owner: HttpStream) -> None:
        self.name = str(response.url.copy_with(query=None, fragment=None, username=None, password=None))
        self.content_type = response.headers.get("content-type", "").lower()
        self.has_length = "content-length" in response.headers
        self._response = response
        self._owner = owner
        self._chunks = response.iter_raw()
        self._ahead = b""
        self._first = True
        self._is_playlist = False
        self._read_bytes = 0

    def peek(self, size: int) -> bytes:
        """The first bytes, which stay to be read."""
        while len(self._ahead) < size and (chunk := self._next()):
            self._ahead += chunk
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        if not self._ahead:
            self._ahead = self._next()
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def close(self) -> None:
        self._response.close()

    def _next(self) -> bytes:
        failure: StreamsegError
        try:
            chunk = next(self._chunks, b"")
            if self._first:
                # A playlist is one also where it comes byte by byte.
                while len(chunk) < len(_PLAYLIST) and (more := next(self._chunks, b"")):
                    chunk += more
        except StreamsegError:
            raise
        except (httpx2.HTTPError, httpx2.StreamError, httpcore2.ProtocolError):
            failure = passing("the connection broke in the middle")
        else:
            if self._first:
                self._is_playlist = chunk.startswith(_PLAYLIST)
                self._first = False
            if self._is_playlist:
                self._owner.note_playlist(chunk)
                self._read_bytes += len(chunk)
                if self._read_bytes > MAX_PLAYLIST_BYTES:
                    raise TooLargeError(f"the playlist is longer than {MAX_PLAYLIST_BYTES // 1024} KiB")
            return chunk
        raise failure


class _File:
    """A body as FFmpeg reads it: what is wrong goes to the guard. ``name``: the address, for others beside it."""

    def __init__(self, body: HttpBody | None, guard: Guard) -> None:
        self.name = "" if body is None else body.name
        self._body = body
        self._guard = guard

    def read(self, size: int) -> bytes:
        if self._body is None:
            return b""
        try:
            self._guard.check()
            return self._body.read(size)
        except StreamsegError as error:
            self._guard.note(error)
            return b""

    def close(self) -> None:
        if self._body is not None:
            self._body.close()


class _NoSecrets(logging.Filter):
    """The HTTP client logs every request with its whole address, and its connections what servers answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(redacted(str(one)) if isinstance(one, httpx2.URL) else one for one in record.args)
        # Where a server redirects to.
        return "response_headers.complete" not in str(record.msg)


for _name in ("httpx2", "httpcore2.http11"):
    logging.getLogger(_name).addFilter(_NoSecrets())


class _Transport(httpx2.HTTPTransport):
    """The client's own, with connections of ours."""

    def __init__(self, guard: Guard, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls, trust_env=False)
        # There is no parameter for it.
        self._pool = httpcore2.ConnectionPool(ssl_context=tls, network_backend=GuardedBackend(guard))


class _Login(httpx2.Auth):
    """User and password in the way that the server asks for, once it asks."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        digest = httpx2.DigestAuth(self._user, self._password).auth_flow(request)
        response = yield next(digest)
        if response.status_code != 401:
            return
        kinds = " ".join(response.headers.get_list("www-authenticate")).lower()
        if "digest " in kinds:
            yield digest.send(response)
        elif "basic" in kinds:
            yield from httpx2.BasicAuth(self._user, self._password).auth_flow(request)


def _tell_container(body: HttpBody) -> str:
    if body.content_type.startswith("multipart/"):
        return "mpjpeg"
    head = body.peek(HEAD_BYTES)
    if head.startswith(_PLAYLIST):
        return "hls"
    container = sniff_container(head)
    if container is None or container == "webp":
        raise UnsupportedMediaError(
            "there is no video of an accepted kind at this address: MJPEG (multipart), HLS, MPEG transport stream, "
            f"MP4, WebM or Matroska{describe(head)}"
        )
    return container


def _origin(url: str) -> str:
    return str(httpx2.URL(url)).rstrip("/")


def _refusal(response: httpx2.Response) -> StreamsegError:
    status = response.status_code
    if status == 401:
        return StreamUnavailableError("user or password is missing or wrong (401)")
    if status == 404:
        return StreamUnavailableError("there is no such stream (404)")
    make: Any = passing if status in _PASSING_STATUS else StreamUnavailableError
    failure: StreamsegError = make(f"the server answers with status {status}")
    return failure
