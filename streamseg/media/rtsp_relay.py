"""Between FFmpeg's RTSP client and a camera: one connection that was checked, opened and encrypted by us.

FFmpeg looks hosts up by itself, goes wherever a server redirects it to, trusts every certificate, and reads as slowly
as its pictures are decoded without telling how late they are. So it is given an address on loopback; what it sends
there goes to the camera, and what the camera sends comes back through ``ReplyFilter``.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from typing import Final

from streamseg.errors import StreamsegError, StreamUnavailableError
from streamseg.media.addresses import StreamUrl
from streamseg.media.guarded import SLICE_S, Guard, encrypt, passing

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
# Of what came and was not read yet; the camera has to wait beyond it.
MAX_WAITING_BYTES: Final = 8 * 2**20
_READ_BYTES: Final = 64 * 1024
# The system shall keep little, so that what waits is here, where its age is known.
_SEND_BUFFER_BYTES: Final = 32 * 1024

_DATA: Final = 0x24  # "$": RTP between the messages
_RTP_LEAST_BYTES: Final = 8
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})( .*)?")
_REQUEST = re.compile(rb"[A-Z_]{1,32} \S+ RTSP/\d\.\d")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,9})[ \t]*", re.IGNORECASE)


class ReplyFilter:
    """What a camera sends, in the one way in which it can be understood, and without redirects.

    ``status``: of the last reply. Raises StreamUnavailableError for what is no RTSP, and for a redirect.
    """

    def __init__(self) -> None:
        self.status = 0
        self._bytes = bytearray()
        self._passes = 0
        self._drops = 0

    def feed(self, data: bytes) -> bytes:
        """Bytes from the camera; those that may go on."""
        self._bytes += data
        out = bytearray()
        while self._bytes:
            if self._drops:
                self._drops -= self._take(self._drops, None)
            elif self._passes:
                self._passes -= self._take(self._passes, out)
            elif self._bytes[0] == _DATA:
                if len(self._bytes) < 4:
                    break
                length = 4 + int.from_bytes(self._bytes[2:4], "big")
                # FFmpeg loses its place behind a packet that is too short to be one.
                if length < 4 + _RTP_LEAST_BYTES:
                    self._drops = length
                else:
                    self._passes = length
            elif self._bytes[0] in b"\r\n":
                del self._bytes[0]
            elif (end := _END_OF_HEADER.search(self._bytes)) is not None:
                header = bytes(self._bytes[: end.start()])
                del self._bytes[: end.end()]
                out += self._message(header)
            elif len(self._bytes) > MAX_HEADER_BYTES:
                raise StreamUnavailableError("the server sends something else than RTSP")
            else:
                break
        return bytes(out)

    def _take(self, count: int, out: bytearray | None) -> int:
        part = self._bytes[:count]
        del self._bytes[:count]
        if out is not None:
            out += part
        return len(part)

    def _message(self, header: bytes) -> bytes:
        lines = re.split(rb"\r?\n", header)
        status = _STATUS.fullmatch(lines[0])
        if status is None and _REQUEST.fullmatch(lines[0]) is None:
            raise StreamUnavailableError("the server sends something else than RTSP")
        if any(line[:1] == b"$" or b"\r" in line or b"\0" in line for line in lines):
            raise StreamUnavailableError("the server sends damaged RTSP")
        if status is not None:
            self.status = int(status[1])
            if 300 <= self.status < 400:
                raise StreamUnavailableError("the server redirects to another address; open that one itself")
        kept = [line for line in lines if not line.lstrip().lower().startswith(b"location")]
        lengths = [line for line in kept if line.lstrip().lower().startswith(b"content-length")]
        if lengths:
            length = _LENGTH.fullmatch(lengths[0])
            if len(lengths) > 1 or length is None or int(length[1]) > MAX_BODY_BYTES:
                raise StreamUnavailableError("the server sends damaged RTSP")
            self._passes = int(length[1])
        return b"\r\n".join(kept) + b"\r\n\r\n"


class RtspRelay:
    """One connection to a camera. ``local_url`` is FFmpeg's address for it, with the credentials of ``url``.

    Raises AddressRefusedError and StreamUnavailableError.
    """

    def __init__(self, url: StreamUrl, guard: Guard, tls: ssl.SSLContext | None) -> None:
        self._guard = guard
        self._filter = ReplyFilter()
        self._waiting: deque[tuple[float, memoryview]] = deque()
        self._waiting_bytes = 0
        self._upwards = bytearray()
        self._ended = threading.Event()
        self._camera = guard.connect(url.host, url.port)
        if tls is not None:
            self._camera = encrypt(self._camera, tls, url.host, guard)
        self._camera.setblocking(False)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.settimeout(SLICE_S)
        self._local: socket.socket | None = None
        user = f"{url.userinfo}@" if url.userinfo else ""
        self.local_url = f"rtsp://{user}127.0.0.1:{self._listener.getsockname()[1]}{url.target}"
        self._thread = threading.Thread(target=self._run, name="streamseg-rtsp", daemon=True)
        self._thread.start()

    @property
    def status(self) -> int:
        """Of the camera's last reply; 0 before the first."""
        return self._filter.status

    def behind_s(self) -> float:
        """How long ago came what FFmpeg reads next."""
        try:
            return time.monotonic() - self._waiting[0][0]
        except IndexError:
            return 0.0

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._accept()
            self._pump()
        except StreamsegError as error:
            # Kept in the guard, for whoever reads the pictures.
            self._guard.note(error)
        except OSError as error:
            self._guard.note(passing(f"the connection broke: {(error.strerror or 'unknown reason').lower()}"))
        finally:
            for one in (self._listener, self._camera, self._local):
                if one is not None:
                    one.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            self._guard.check()
            try:
                self._local, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._listener.close()
            self._local.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._local.setblocking(False)
            return

    def _pump(self) -> None:
        local = self._local
        if local is None:
            return
        camera_open = True
        with selectors.DefaultSelector() as selector:
            selector.register(self._camera, selectors.EVENT_READ)
            selector.register(local, selectors.EVENT_READ)
            while not self._ended.is_set() and (camera_open or self._waiting):
                self._guard.check()
                reads = camera_open and self._waiting_bytes < MAX_WAITING_BYTES
                wants = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if self._upwards else 0)
                _watch(selector, self._camera, wants if camera_open else 0)
                _watch(selector, local, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0))
                # What TLS has decrypted already is not seen by the selector.
                decrypted = reads and isinstance(self._camera, ssl.SSLSocket) and self._camera.pending() > 0
                selector.select(0 if decrypted else SLICE_S)
                if reads:
                    camera_open = self._from_camera()
                if camera_open:
                    self._to_camera()
                self._to_local(local)
                if not self._from_local(local):
                    return

    def _from_camera(self) -> bool:
        try:
            data = self._camera.recv(_READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        if not data:
            return False
        self._guard.count(len(data))
        passed = self._filter.feed(data)
        if passed:
            self._waiting_bytes += len(passed)
            self._waiting.append((time.monotonic(), memoryview(passed)))
        return True

    def _to_local(self, local: socket.socket) -> None:
        while self._waiting:
            came_s, data = self._waiting[0]
            try:
                sent = local.send(data)
            except BlockingIOError:
                return
            self._waiting_bytes -= sent
            if sent < len(data):
                self._waiting[0] = came_s, data[sent:]
                return
            self._waiting.popleft()

    def _from_local(self, local: socket.socket) -> bool:
        try:
            data = local.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        self._upwards += data
        return bool(data)

    def _to_camera(self) -> None:
        while self._upwards:
            try:
                sent = self._camera.send(self._upwards)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._upwards[:sent]


def _watch(selector: selectors.BaseSelector, one: socket.socket, events: int) -> None:
    known = selector.get_map().get(one)
    if known is None:
        if events:
            selector.register(one, events)
    elif not events:
        selector.unregister(one)
    elif known.events != events:
        selector.modify(one, events)
