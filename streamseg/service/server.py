"""The server process: the listening socket, uvicorn's settings, start and end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from streamseg.errors import BadSettingError
from streamseg.models.build import LoadedModel, load_model
from streamseg.service.app import create_app
from streamseg.service.link import ABORT_EXTENSION
from streamseg.service.security import check_bind
from streamseg.settings import Settings, TlsSettings

logger = logging.getLogger(__name__)

# Page, health and metrics need connections beside those of the sessions.
OTHER_CONNECTIONS = 64
CLOSE_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 10
START_TIMEOUT_S = 30.0
BACKLOG = 128


def bind(settings: Settings) -> socket.socket:
    """The bound socket of ``settings``.

    Raises BadSettingError, in one line, where the address cannot be had or must not be.
    """
    check_bind(settings)
    check_tls(settings.tls)
    host, port = settings.host.strip("[]"), settings.port
    sock = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        # Only what still lingers from a former server is taken over, never another one that listens.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        # uvicorn listens once it is ready; until then another program could bind the same port unnoticed.
        sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise BadSettingError(_why_not(error, host, port)) from None
    return sock


def check_tls(tls: TlsSettings) -> None:
    """Raise BadSettingError, in one line, for a certificate or key that cannot be used."""
    if tls.certificate is None:
        if tls.key is not None:
            raise BadSettingError("setting tls.certificate: missing, though there is a tls.key")
        return
    for name, path in (("certificate", tls.certificate), ("key", tls.key)):
        if path is not None and not path.is_file():
            raise BadSettingError(f"setting tls.{name}: the file {path} does not exist")
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, lambda: _password(tls) or "")
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        raise BadSettingError(
            f"setting tls: {tls.certificate} and its key cannot be used ({why}); both are PEM, and belong together"
        ) from None


def _password(tls: TlsSettings) -> str | None:
    return None if tls.key_password is None else tls.key_password.get_secret_value()


def _why_not(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host {host} is not known here; 127.0.0.1 serves this machine, 0.0.0.0 every network"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken by another program; end it or take another port"
        case errno.EACCES:
            return f"port {port} needs privileges that this process does not have; take one from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; 127.0.0.1 serves this machine, 0.0.0.0 every network"
        case _:
            return f"cannot listen on {host}, port {port}: {error.strerror or error}"


class Server:
    """The service on a socket of its own.

    Raises BadSettingError if the address of ``settings`` cannot be had. ``on_start`` is called once requests are
    answered. Either ``serve`` blocks until a signal or ``stop``, or ``start`` and ``stop`` run it in a thread:

        with Server(settings, model) as server:
            server.url
    """

    def __init__(
        self,
        settings: Settings,
        model: LoadedModel,
        *,
        sock: socket.socket | None = None,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._socket = bind(settings) if sock is None else sock
        self.settings = settings
        try:
            self.app = create_app(settings, model)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._uvicorn = _Uvicorn(_config(self.app, settings), on_start)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a browser of this machine finds the page."""
        return _url(self.settings, self.port)

    def serve(self) -> None:
        """Serve until SIGINT, SIGTERM or ``stop``; a second SIGINT does not wait for what is in work."""
        self._uvicorn.run(sockets=[self._socket])

    def start(self) -> None:
        """Serve in a thread; returns once requests are answered."""
        self._thread = threading.Thread(target=self.serve, name="streamseg-server", daemon=True)
        self._thread.start()
        if not self._uvicorn.wait_until_started(self._thread, START_TIMEOUT_S):
            raise RuntimeError("the server did not start; its log says why")

    def stop(self) -> None:
        """End the server, websockets with 1012; returns once it has ended, if ``start`` started it."""
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * SHUTDOWN_TIMEOUT_S)
            self._thread = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run(settings: Settings, on_ready: Callable[[str, LoadedModel], None] | None = None) -> None:
    """Load the model and serve until SIGINT or SIGTERM.

    ``on_ready`` gets the address and the model once requests are answered. Raises BadSettingError (before the model is
    loaded) if the address cannot be had, and what ``load_model`` raises.
    """
    sock = bind(settings)
    try:
        wanted = settings.model
        model = load_model(
            wanted.name,
            checkpoint=wanted.checkpoint,
            device=wanted.device,
            precision=wanted.precision,
            compile=wanted.compile,
            threads=wanted.threads,
            cache_dir=wanted.cache_dir,
        )
        url = _url(settings, sock.getsockname()[1])
        Server(settings, model, sock=sock, on_start=None if on_ready is None else lambda: on_ready(url, model)).serve()
    finally:
        sock.close()


def _url(settings: Settings, port: int) -> str:
    scheme = "http" if settings.tls.certificate is None else "https"
    name = settings.host.strip("[]")
    if name in ("", "0.0.0.0", "::"):  # noqa: S104
        name = "127.0.0.1"
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, that tells when it is up, and ends on signals without passing them on."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._up = threading.Event()

    def wait_until_started(self, thread: threading.Thread, timeout_s: float) -> bool:
        for _ in range(round(timeout_s / 0.05)):
            if self._up.wait(0.05):
                return True
            if not thread.is_alive():
                return False
        return False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._up.set()
        if self._on_start is not None:
            self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal once more after the shutdown, which a clean end has no use for.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.should_exit and number == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _config(app: Any, settings: Settings) -> uvicorn.Config:
    limits = settings.limits
    return uvicorn.Config(
        app,
        http=_http_protocol(limits.handshake_timeout_s),
        ws=_WebSocketProtocol,
        ws_max_size=limits.max_message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=60.0,
        limit_concurrency=limits.max_sessions + OTHER_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        backlog=BACKLOG,
        ssl_certfile=settings.tls.certificate,
        ssl_keyfile=settings.tls.key,
        ssl_keyfile_password=_password(settings.tls),
        lifespan="on",
        # What is logged and where is decided by the program, not by its web server.
        log_config=None,
        log_level="debug" if settings.log_level == "debug" else "warning",
        access_log=False,
        server_header=False,
        # X-Forwarded-* would let anyone on this machine name another address as their own.
        proxy_headers=False,
    )


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's websocket, with an end for peers that do not read: a close that waits for them would never come."""

    _abort_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Its log of headers and messages would hold tokens and the ids of sessions.
        self.conn.debug = False

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][ABORT_EXTENSION] = self.transport.abort  # type: ignore[assignment]

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # The refusal is the handshake's end; uvicorn would log each one as an error of the application.
            self.handshake_complete = True
        if message["type"] == "websocket.close" and self._abort_timer is None:
            self._abort_timer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_timer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.conn.close_rcvd is None:
            # uvicorn tells a connection that broke by the same code as one that was closed without any.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)
        if self._abort_timer is not None:
            self._abort_timer.cancel()


def _http_protocol(timeout_s: float) -> type[asyncio.Protocol]:
    class Http(H11Protocol):
        """uvicorn's HTTP, with a limit on the time that a request may take to arrive."""

        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._unwatch()
            super().handle_websocket_upgrade(event)

        def _watch(self) -> None:
            """Run the clock exactly while a request is on its way."""
            upgraded = self.transport.get_protocol() is not self
            answering = self.cycle is not None and not self.cycle.response_complete
            idle = self.timeout_keep_alive_task is not None
            if upgraded or answering or idle:
                self._unwatch()
            elif self._late is None:
                self._late = self.loop.call_later(timeout_s, self.transport.abort)

        def _unwatch(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Http
