"""One websocket to a server: messages in and out, and every way in which it can fail as an error of ours."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from streamseg.client.wire import SESSION_SUBPROTOCOL, SUBPROTOCOL, error_from, pack, parse, unpack
from streamseg.errors import (
    BadMessageError,
    ConnectionLostError,
    ForbiddenOriginError,
    OverloadedError,
    RateLimitedError,
    StreamsegError,
    TooLargeError,
    UnauthorizedError,
)

# A result with 64 masks of a large picture or its overlay stays well below this.
MAX_INCOMING_BYTES = 64 * 2**20
MAX_ATTACHMENTS = 4096
# Pieces of a file from this size on are paced by the server's answers and do not count as messages.
BULK_BYTES = 2**18
OPEN_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0
# A caller's own work may hold up the event loop; only a silence much longer than that means a dead peer.
PING_TIMEOUT_S = 60.0

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the server with the binary messages that belong to it."""

    fields: dict[str, Any]
    attachments: tuple[tuple[dict[str, Any], bytes], ...] = ()

    @property
    def type(self) -> str:
        return str(self.fields["type"])

    def error(self) -> StreamsegError:
        """The error that an ``error`` message stands for."""
        return error_from(self.fields)

    @property
    def request_id(self) -> str | None:
        value = self.fields.get("request_id")
        return None if value is None else str(value)


class Connection:
    """An open websocket. ``send_*`` may be called from several tasks, ``receive`` from one."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._pace = Pace()
        self._counter = 0
        # Whether it ended without a goodbye of the server.
        self.broken = False

    @classmethod
    async def open(cls, url: str, token: str | None, session_id: str | None = None) -> Connection:
        """Connect to a websocket address, to go on with a session if one is named.

        Raises the StreamsegError that says why it failed.
        """
        host = urlsplit(url).hostname
        if token and not token.isprintable():
            # The library's own words for it would quote the token.
            raise UnauthorizedError("the token holds a line break or another control character")
        try:
            socket = await connect(
                url,
                subprotocols=[
                    Subprotocol(SUBPROTOCOL),
                    # A full server then knows that the place of this client is taken by itself.
                    *([Subprotocol(SESSION_SUBPROTOCOL + session_id)] if session_id else []),
                ],
                # Headers are written as latin-1; the server reads the token's bytes as UTF-8.
                additional_headers={"Authorization": f"Bearer {token}".encode().decode("latin-1")} if token else None,
                compression=None,
                # A proxy of the environment cannot reach the caller's own machine.
                proxy=None if host in _LOOPBACK else True,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_timeout=PING_TIMEOUT_S,
                max_size=MAX_INCOMING_BYTES,
            )
        except InvalidStatus as error:
            raise _refusal(url, error, token) from None
        except InvalidMessage as error:
            # To plain http, a server that is spoken to by https answers nothing that could be read.
            hint = "; if it serves https, give https:// with its address" if url.startswith("ws://") else ""
            raise ConnectionLostError(f"{url} does not answer as a streamseg server does: {error}{hint}") from None
        except (InvalidHandshake, InvalidURI) as error:
            raise ConnectionLostError(f"{url} is no streamseg server: {error}") from None
        except TimeoutError:
            raise ConnectionLostError(f"{url} did not answer within {OPEN_TIMEOUT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise ConnectionLostError(
                f"{url}: its certificate is not trusted: {error.verify_message}; "
                "one of your own goes into the file that SSL_CERT_FILE names"
            ) from None
        except ssl.SSLError as error:
            hint = "; if it serves http, give http:// with its address"
            raise ConnectionLostError(f"{url} does not answer by https ({error.reason or error}){hint}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionLostError(f"no server answers at {url} ({reason}); start one: streamseg serve") from None
        if socket.subprotocol != SUBPROTOCOL:
            await socket.close()
            raise ConnectionLostError(f"{url} does not speak {SUBPROTOCOL}: is it a streamseg server?")
        return cls(socket)

    def next_id(self) -> str:
        """A request id that this connection has not used yet."""
        self._counter += 1
        return str(self._counter)

    async def send(self, fields: Mapping[str, Any]) -> None:
        """Send a text message."""
        await self._send(json.dumps(fields, separators=(",", ":"), allow_nan=False))

    async def send_frame(self, header: Mapping[str, Any], picture: bytes) -> None:
        """Send a picture."""
        await self._send(pack({"type": "frame", **header}, picture))

    async def send_chunk(self, header: Mapping[str, Any], piece: bytes) -> None:
        """Send a piece of a file."""
        await self._send(pack({"type": "chunk", **header}, piece), paced=len(piece) < BULK_BYTES)

    async def _send(self, message: str | bytes, paced: bool = True) -> None:
        if paced:
            await self._pace.wait()
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise self._lost(error) from None

    async def receive(self) -> Incoming:
        """The next message, with its attachments; raises the reason if the connection ends."""
        try:
            message = await self._socket.recv()
            if isinstance(message, bytes):
                raise BadMessageError("the server sent a binary message that belongs to no result")
            fields = parse(message)
            attachments = []
            if fields["type"] == "result":
                count = fields.get("attachments", 0)
                if not isinstance(count, int) or not 0 <= count <= MAX_ATTACHMENTS:
                    raise BadMessageError("the server sent a result with an impossible number of attachments")
                for _ in range(count):
                    attachment = await self._socket.recv()
                    if not isinstance(attachment, bytes):
                        raise BadMessageError("the server sent text where a result's attachment was due")
                    attachments.append(unpack(attachment))
        except ConnectionClosed as error:
            raise self._lost(error) from None
        if fields["type"] == "ready":
            self._pace.learn(fields.get("limits"))
        return Incoming(fields, tuple(attachments))

    async def receive_within(self, timeout_s: float | None) -> Incoming:
        """``receive`` with a time limit; after one passed the connection is of no more use."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.receive()
        except TimeoutError:
            raise ConnectionLostError(f"the server did not answer within {timeout_s:g} s") from None

    async def close(self) -> None:
        await self._socket.close()

    def _lost(self, error: ConnectionClosed) -> StreamsegError:
        self.broken = error.rcvd is None
        return _lost(error)


class Pace:
    """Keeps a fast client below the server's message rate, which would otherwise close the connection."""

    def __init__(self) -> None:
        self._per_s: float | None = None
        self._next_s = 0.0

    def learn(self, limits: Any) -> None:
        """Take over ``messages_per_s`` from the limits of a ``ready`` message, where it is named."""
        rate = limits.get("messages_per_s") if isinstance(limits, Mapping) else None
        if isinstance(rate, int | float) and rate > 0:
            self._per_s = 0.9 * rate

    async def wait(self) -> None:
        """Return when the next message may be sent: on average at the known rate, in bursts of up to half a second."""
        if self._per_s is None:
            return
        now = time.monotonic()
        self._next_s = max(self._next_s + 1 / self._per_s, now - 0.5)
        if self._next_s > now:
            await asyncio.sleep(self._next_s - now)


def _refusal(url: str, error: InvalidStatus, token: str | None) -> StreamsegError:
    response = error.response
    if response.status_code == 401 and not token:
        # The server speaks of headers, which are none of the caller's business.
        return UnauthorizedError(f"{url} wants a token: --token or STREAMSEG_TOKEN (in Python: token=...)")
    try:
        return error_from(parse(bytes(response.body)))
    except BadMessageError:
        pass
    match response.status_code:
        case 401:
            return UnauthorizedError(f"{url} does not accept this token")
        case 403:
            return ForbiddenOriginError(f"{url} refuses this host name: see allowed_hosts in its settings")
        case 503:
            retry_after = response.headers.get("Retry-After", "")
            wait_s = float(retry_after) if retry_after.isdigit() else 1.0
            return OverloadedError(f"{url} has no room for another session; try again", retry_after_s=wait_s)
        case status:
            return ConnectionLostError(f"{url} answers with HTTP {status}: is it a streamseg server?")


def _lost(error: ConnectionClosed) -> StreamsegError:
    close = error.rcvd
    if close is None:
        return ConnectionLostError("the connection to the server broke")
    reason = f": {close.reason}" if close.reason else ""
    match close.code:
        case 1008:
            return RateLimitedError(f"the server closed the connection because of its rules{reason}")
        case 1009:
            return TooLargeError(f"the message is larger than the server takes{reason}")
        case 1012:
            return ConnectionLostError(f"the server is shutting down{reason}")
        case code:
            return ConnectionLostError(f"the server closed the connection ({code}{reason})")
