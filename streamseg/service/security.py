"""Who may use the service: the Host, the Origin and the token of a request, and where the server may listen.

A web page of another site must not reach a service on its visitor's own machine: its Origin gives it away, and the
Host does where it hides behind a name of its own that resolves to loopback (DNS rebinding).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamseg.errors import (
    BadMessageError,
    BadSettingError,
    ForbiddenOriginError,
    StreamsegError,
    UnauthorizedError,
)
from streamseg.service.protocol import SUBPROTOCOL
from streamseg.settings import Settings

_TOKEN = re.compile("[!-~]([ -~]*[!-~])?")
TOKEN_SUBPROTOCOL = f"{SUBPROTOCOL.partition('.')[0]}.token."

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; a name other than localhost could be anything."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(settings: Settings) -> None:
    """Raise BadSettingError where listening would let strangers in."""
    if settings.token is not None and not settings.token.get_secret_value():
        raise BadSettingError("the token is empty: set STREAMSEG_TOKEN to a long random text, or leave it unset")
    if settings.token is not None and not _TOKEN.fullmatch(settings.token.get_secret_value()):
        raise BadSettingError(
            "the token has characters that a browser cannot send: take ASCII letters, digits and signs"
        )
    if settings.token is None and not settings.insecure and not is_loopback(settings.host):
        raise BadSettingError(
            f"will not listen on {settings.host} without a token: set STREAMSEG_TOKEN, "
            "or give --insecure (STREAMSEG_INSECURE=1) if everyone who can reach this address may use the service"
        )


class Guard:
    """The rules of one server."""

    def __init__(self, settings: Settings) -> None:
        token = settings.token
        self._token = None if token is None else token.get_secret_value().encode()
        self._bound_host = settings.host.strip("[]").lower()
        self._everywhere = self._bound_host in ("", "0.0.0.0", "::")  # noqa: S104
        self._hosts = {_without_port(host) for host in settings.allowed_hosts}
        self._origins = {origin for origin in map(_origin, settings.allowed_origins) if origin is not None}

    def check_host(self, headers: Headers) -> None:
        """Raise ForbiddenOriginError unless the request is for this server."""
        values = headers.getlist("host")
        match = _HOST.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            raise ForbiddenOriginError("a request needs one Host header")
        host = match[1].strip("[]").lower()
        # An address cannot be rebound: it is what the client connected to.
        address = self._everywhere and _is_address(host)
        if not (address or is_loopback(host) or host == self._bound_host or host in self._hosts):
            raise ForbiddenOriginError("this host name is not served here; add it to allowed_hosts")

    def check_origin(self, headers: Headers) -> None:
        """Raise ForbiddenOriginError if a web page of another origin sent the request."""
        values = headers.getlist("origin")
        if not values:
            return
        origin = _origin(values[0]) if len(values) == 1 else None
        if origin is not None and (origin in self._origins or origin[1:] == _netloc(headers["host"], origin[0])):
            return
        raise ForbiddenOriginError("pages of this origin may not use the service; add it to allowed_origins")

    def check_token(self, headers: Headers, subprotocols: Sequence[str] = ()) -> None:
        """Raise UnauthorizedError if a token is needed and neither the header nor a subprotocol has it."""
        if self._token is None:
            return
        given = _bearer(headers)
        if given is None:
            given = _token_subprotocol(subprotocols)
        if given is None:
            raise UnauthorizedError("a token is needed: send it as Authorization: Bearer TOKEN")
        if not hmac.compare_digest(given, self._token):
            raise UnauthorizedError("the token is wrong")

    def check_websocket(self, websocket: WebSocket) -> str | None:
        """All rules of a handshake; the subprotocol to select. Raises StreamsegError."""
        offered: list[str] = websocket.scope.get("subprotocols", [])
        self.check_origin(websocket.headers)
        self.check_token(websocket.headers, offered)
        if not offered:
            return None
        if SUBPROTOCOL not in offered:
            raise BadMessageError(f"this server speaks the subprotocol {SUBPROTOCOL}; offer it, or none")
        return SUBPROTOCOL


class SecurityMiddleware:
    """Refuses other Hosts, and adds the headers that keep a browser from doing more than the page needs."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._guard.check_host(headers)
        except ForbiddenOriginError as error:
            await refuse(error, scope, receive, send)
            return
        policy = content_policy(headers["host"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added["Content-Security-Policy"] = policy
                for name, value in _HEADERS.items():
                    added[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)


def content_policy(host: str) -> str:
    """The Content-Security-Policy of the page; ``host`` is a checked Host header."""
    rules = (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        # Not every browser counts the page's own websocket as 'self'.
        f"connect-src 'self' ws://{host} wss://{host} blob: data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(rules)


def error_response(error: StreamsegError) -> JSONResponse:
    """An error as the answer to an HTTP request or a handshake."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    body = {"type": "error", "code": error.code, "message": error.message}
    return JSONResponse(body, status_code=error.http_status, headers=headers)


async def refuse(error: StreamsegError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an HTTP request, or a websocket handshake before it was accepted, with ``error``."""
    response = error_response(error)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    match = _HOST.fullmatch(host.strip())
    return (match[1] if match else host).strip("[]").lower()


def _netloc(host: str, scheme: str) -> tuple[str, int] | None:
    """Host name and port of a Host header, for a page that was loaded over ``scheme``."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    return match[1].strip("[]").lower(), int(match[2]) if match[2] else _DEFAULT_PORTS[scheme]


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin, or None if it is none (such as ``null``)."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/"):
        return None
    return parts.scheme, parts.hostname.lower(), port or _DEFAULT_PORTS[parts.scheme]


def _bearer(headers: Headers) -> bytes | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    # Header values were decoded as latin-1; this gives back the bytes that were sent.
    return value.strip().encode("latin-1") if scheme.lower() == "bearer" else None


def _token_subprotocol(subprotocols: Sequence[str]) -> bytes | None:
    for one in subprotocols:
        if one.startswith(TOKEN_SUBPROTOCOL):
            text = one.removeprefix(TOKEN_SUBPROTOCOL)
            try:
                return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                return None
    return None
