"""WHIP and WHEP over HTTP: ``/v1/whip/{name}`` to publish a stream, ``/v1/whep/{name}`` to watch one.

RFC 9725 and draft-ietf-wish-whep. ICE is not restarted, so there are no entity tags; pages of ``allowed_origins`` may
use both (CORS).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, get_args

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streamseg.errors import (
    BadMessageError,
    OverloadedError,
    StreamsegError,
    TooLargeError,
    UnsupportedMediaError,
    WebrtcFailedError,
)
from streamseg.segmentation.segmenter import Mode
from streamseg.service.security import Guard, error_response
from streamseg.service.whip_rules import FRAGMENT_TYPE, SDP_TYPE, Role, ice_links

if TYPE_CHECKING:
    from streamseg.service.metrics import Metrics
    from streamseg.service.places import Place
    from streamseg.service.streams import Streams
    from streamseg.service.whip import Whip
    from streamseg.settings import Settings

MAX_BODY_BYTES = 64 * 2**10
PREFLIGHT_S = 600
# All of them: what is not named here would be looked for among the files of the page.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

Handler: TypeAlias = Callable[[Request, Role], Awaitable[Response]]


class Host(Protocol):
    """What the application lends to these handlers."""

    settings: Settings
    guard: Guard
    metrics: Metrics
    streams: Streams | None

    def place(self) -> Place: ...


class WhipHttp:
    """The handlers of one application. ``close`` is owed to it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._whip: Whip | None = None

    def routes(self) -> list[Route]:
        """The addresses, for the router."""
        return [route for role in get_args(Role) for route in self._routes_of(role)]

    async def close(self) -> None:
        """End all connections."""
        if self._whip is not None:
            await self._whip.close()

    def _routes_of(self, role: Role) -> list[Route]:
        address = f"/v1/{role}/{{name}}"
        return [
            self._route(address, role, {"POST": self._post}, {"Accept-Post": SDP_TYPE}),
            self._route(
                address + "/{id}",
                role,
                {"PATCH": self._patch, "DELETE": self._delete},
                {"Accept-Patch": FRAGMENT_TYPE},
            ),
        ]

    def _route(self, address: str, role: Role, handlers: dict[str, Handler], accepts: dict[str, str]) -> Route:
        methods = ", ".join([*handlers, "OPTIONS"])

        async def handle(request: Request) -> Response:
            if request.method == "OPTIONS":
                # A browser asks this without the token.
                return Response(
                    status_code=204,
                    headers={
                        **accepts,
                        "Allow": methods,
                        "Access-Control-Allow-Methods": methods,
                        "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
                        "Access-Control-Max-Age": str(PREFLIGHT_S),
                    },
                )
            if request.method not in handlers:
                return Response(status_code=405, headers={"Allow": methods})
            return await handlers[request.method](request, role)

        async def answer(request: Request) -> Response:
            allowed = {"Vary": "Origin"}
            try:
                self._host.guard.check_origin(request.headers)
                if (origin := request.headers.get("origin")) is not None:
                    # A page may read the refusals that follow, too.
                    allowed["Access-Control-Allow-Origin"] = origin
                    allowed["Access-Control-Expose-Headers"] = "Location, Link, Retry-After, WWW-Authenticate"
                response = await handle(request)
            except StreamsegError as error:
                self._host.metrics.error(error.code)
                response = error_response(error)
            response.headers.update(allowed)
            return response

        return Route(address, answer, methods=METHODS)

    async def _post(self, request: Request, role: Role) -> Response:
        offer = await self._body(request, SDP_TYPE)
        name = request.path_params["name"]
        whip = await self._opened()
        if role == "whip":
            resource_id, answer = await whip.publish(name, offer, _mode(request))
        else:
            resource_id, answer = await whip.watch(name, offer)
        response = Response(answer, status_code=201, media_type=SDP_TYPE)
        response.headers["Location"] = f"/v1/{role}/{name}/{resource_id}"
        response.headers["Cache-Control"] = "no-store"
        for link in ice_links(self._host.settings.webrtc.ice_servers):
            response.headers.append("Link", link)
        return response

    async def _patch(self, request: Request, role: Role) -> Response:
        fragment = await self._body(request, FRAGMENT_TYPE)
        whip = await self._opened()
        await whip.trickle(role, request.path_params["name"], request.path_params["id"], fragment)
        return Response(status_code=204)

    async def _delete(self, request: Request, role: Role) -> Response:
        self._host.guard.check_token(request.headers)
        whip = await self._opened()
        await whip.end(role, request.path_params["name"], request.path_params["id"])
        return Response(status_code=200)

    async def _body(self, request: Request, media_type: str) -> str:
        """The text of a request that may be made, of this type."""
        self._host.guard.check_token(request.headers)
        if not self._host.settings.webrtc.enabled:
            raise WebrtcFailedError("WebRTC is off on this server: its setting webrtc.enabled")
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != media_type:
            raise UnsupportedMediaError(f"the body of this request is {media_type}; say so in Content-Type")
        body = b""
        limit_s = self._host.settings.limits.handshake_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise TooLargeError(f"a session description of more than {MAX_BODY_BYTES} bytes")
        except TimeoutError:
            raise BadMessageError(f"the body of this request did not come within {limit_s:g} s") from None
        except ClientDisconnect:
            # Nobody hears it; what goes further is logged as a fault of ours.
            raise BadMessageError("the body of this request ended in the middle") from None
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise BadMessageError("a session description is text in UTF-8") from None

    async def _opened(self) -> Whip:
        if self._host.streams is None:
            raise OverloadedError("the service is not ready yet")
        if self._whip is None:
            kind = await asyncio.to_thread(_load_whip)
            host = self._host
            self._whip = self._whip or kind(self._host.streams, host.settings, host.metrics, host.place)
        return self._whip


def _mode(request: Request) -> Mode | None:
    given = request.query_params.get("mode")
    for mode in get_args(Mode):
        if given == mode:
            return mode  # type: ignore[no-any-return]
    if given is not None:
        raise BadMessageError(f"mode is one of {', '.join(get_args(Mode))}")
    return None


def _load_whip() -> type[Whip]:
    # aiortc takes a while to load, and not every service has a use for it.
    from streamseg.service.whip import Whip

    return Whip
