"""Connections to network streams: opened to addresses that a rule allows, bounded in time and bytes, ended at once."""

from __future__ import annotations

import errno
import math
import os
import selectors
import socket
import ssl
import threading
import time
from typing import Any, Final

import httpcore2

from streamseg.errors import CancelledWorkError, StreamsegError, StreamUnavailableError, TooLargeError
from streamseg.media.addresses import AddressRule, IpAddress, resolve

# How long a wait for the network may go on before it is looked whether it shall.
SLICE_S: Final = 0.1
# No picture takes more bytes than this: an intra-coded 8K frame, or a segment of HLS before its first picture.
MAX_BYTES_A_PICTURE: Final = 64 * 2**20
# When it is worth while to try again after a failure that may pass.
AGAIN_S: Final = 1.0


def passing(message: str) -> StreamUnavailableError:
    """A failure that may be over at the next try."""
    return StreamUnavailableError(message, retry_after_s=AGAIN_S)


class Guard:
    """What one connection may take: seconds and bytes until the next picture. And whether it is to end at all.

    The first failure is kept, so that whoever sees its consequences can say why. Used by several threads.
    """

    def __init__(self, stop: threading.Event, rule: AddressRule | None, connect_timeout_s: float) -> None:
        self.connect_timeout_s = connect_timeout_s
        self._stop = stop
        self._rule = rule
        self._failure: StreamsegError | None = None
        self.allow(connect_timeout_s)

    def allow(self, seconds: float) -> None:
        """From now on, so long and MAX_BYTES_A_PICTURE."""
        self._seconds = seconds
        self._until_s = time.monotonic() + seconds
        self._bytes = 0

    def pause(self) -> None:
        """Time does not count until the next ``allow``: somebody is at work with a picture."""
        self._until_s = math.inf

    def count(self, number: int) -> None:
        """Bytes have come. Raises TooLargeError."""
        self._bytes += number
        if self._bytes > MAX_BYTES_A_PICTURE:
            self._fail(TooLargeError(f"{MAX_BYTES_A_PICTURE // 2**20} MiB came without a picture in them"))
        self.check()

    def check(self) -> None:
        """Raises what ends the connection: CancelledWorkError, StreamUnavailableError, TooLargeError."""
        if self._failure is not None:
            # One object per raise: an exception grows with every place that it passes.
            raise type(self._failure)(self._failure.message, retry_after_s=self._failure.retry_after_s)
        if self._stop.is_set():
            self._fail(CancelledWorkError("the stream was closed"))
        if time.monotonic() > self._until_s:
            self._fail(passing(f"no picture came for {self._seconds:g} s"))

    def note(self, failure: StreamsegError) -> None:
        """End the connection for this reason, unless there is one already; ``check`` raises it."""
        self._failure = self._failure or failure

    def _fail(self, failure: StreamsegError) -> None:
        self.note(failure)
        self.check()

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to one of the addresses of ``host`` that the rule allows, and to no other.

        Raises AddressRefusedError and StreamUnavailableError.
        """
        until_s = time.monotonic() + self.connect_timeout_s
        addresses = (
            resolve(host, port, self.connect_timeout_s)
            if self._rule is None
            else self._rule.resolve(host, port, self.connect_timeout_s)
        )
        reason = ""
        for count, address in enumerate(addresses):
            self.check()
            left_s = max(until_s - time.monotonic(), SLICE_S)
            try:
                return self._connect(address, port, left_s / (len(addresses) - count))
            except TimeoutError:
                reason = reason or f"no answer within {self.connect_timeout_s:g} s"
            except OSError as error:
                reason = reason or (error.strerror or "it cannot be reached").lower()
        raise passing(f"{host}:{port}: {reason}")

    def _connect(self, address: IpAddress, port: int, timeout_s: float) -> socket.socket:
        until_s = time.monotonic() + timeout_s
        one = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        try:
            one.setblocking(False)
            error = one.connect_ex((str(address), port))
            with selectors.DefaultSelector() as selector:
                selector.register(one, selectors.EVENT_WRITE)
                while error == errno.EINPROGRESS:
                    self.check()
                    if selector.select(SLICE_S):
                        error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    elif time.monotonic() > until_s:
                        raise TimeoutError
            if error:
                raise OSError(error, os.strerror(error))
            one.setblocking(True)
        except BaseException:
            one.close()
            raise
        return one


class GuardedStream(httpcore2.NetworkStream):
    """One connection of the HTTP client's, under a guard."""

    def __init__(self, inner: socket.socket, guard: Guard) -> None:
        self._socket = inner
        self._guard = guard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout  # the guard knows how long
        while True:
            self._guard.check()
            self._socket.settimeout(SLICE_S)
            try:
                data = self._socket.recv(max_bytes)
            except TimeoutError:
                continue
            except OSError as error:
                raise passing(f"the connection broke: {_reason(error)}") from None
            self._guard.count(len(data))
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._guard.check()
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(buffer)
        except OSError as error:
            raise passing(f"the connection broke: {_reason(error)}") from None

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> GuardedStream:
        del timeout
        return GuardedStream(encrypt(self._socket, ssl_context, server_hostname or "", self._guard), self._guard)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return None


class GuardedBackend(httpcore2.NetworkBackend):
    """Where the HTTP client gets its connections from: a redirect leads no further than any other address."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> GuardedStream:
        del timeout, local_address, socket_options
        return GuardedStream(self._guard.connect(host, port), self._guard)


def encrypt(plain: socket.socket, context: ssl.SSLContext, host: str, guard: Guard) -> ssl.SSLSocket:
    """TLS to the server that ``host`` names; raises StreamUnavailableError, also for a certificate of another name."""
    plain.settimeout(guard.connect_timeout_s)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        failure = StreamUnavailableError(f"{host}: its certificate is not trusted: {error.verify_message}")
    except (ssl.SSLError, OSError) as error:
        plain.close()
        failure = passing(f"{host}: no TLS connection: {_reason(error)}")
    raise failure


def _reason(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or "unknown reason").lower().replace("_", " ")
