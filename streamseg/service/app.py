"""The ASGI application: the page, health, metrics, and the websocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope
from starlette.websockets import WebSocket

from streamseg import __version__
from streamseg.engine import Engine
from streamseg.errors import NotFoundError, OverloadedError, StreamsegError
from streamseg.models.build import LoadedModel
from streamseg.segmentation.segmenter import MODES
from streamseg.service.file_service import FileService
from streamseg.service.files import check_data_dir
from streamseg.service.link import Link
from streamseg.service.metrics import CONTENT_TYPE, Metrics
from streamseg.service.places import Place, Places
from streamseg.service.protocol import VERSION
from streamseg.service.protocol.client_messages import SOURCES, Source
from streamseg.service.protocol.server_messages import ModelInfo
from streamseg.service.resumable import Registry, named_session
from streamseg.service.security import Guard, SecurityMiddleware, check_bind, error_response, refuse
from streamseg.service.streams import Streams
from streamseg.service.terms import told
from streamseg.service.websocket import Conversation
from streamseg.service.whip_http import WhipHttp
from streamseg.settings import Settings

logger = logging.getLogger(__name__)

# Connections without a place: those that are about to go on with their session, and those that it went on from.
MAX_GUESTS = 32

# What the page is made of; the machine's own table of types may lack or misname these.
_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}


def web_root() -> Path:
    """The folder of the page: inside an installed package, else in the source tree."""
    package = Path(__file__).parent.parent
    installed = package / "_web"
    return installed if installed.is_dir() else package.parent / "clients" / "web"


class Service:
    """What the handlers of one application share."""

    def __init__(self, settings: Settings, model: LoadedModel, page: Path) -> None:
        self.settings = settings
        self.model = model
        self.guard = Guard(settings)
        self.engine: Engine | None = None
        self.files: FileService | None = None
        self.streams: Streams | None = None
        self.whip = WhipHttp(self)
        self.metrics = Metrics(lambda: 0.0 if self.engine is None else float(self.engine.depth))
        self.model_info = ModelInfo(
            name=model.name, device=str(model.device), reason=model.reason, licence=model.licence
        )
        self._samples = _samples(page)
        self.registry = Registry(settings.limits.resume_s, self.metrics.sessions_kept)
        self._places = Places(settings.limits.max_sessions)
        self._connected: set[Place] = set()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Run the inference thread as long as the application."""
        self.files = await asyncio.to_thread(FileService, self.settings, self.metrics)
        self.engine = Engine(self.model, self.settings.limits.queue_length, min_work_ms=self.settings.model.min_work_ms)
        self.streams = Streams(self.engine, self.settings)
        sweeping = asyncio.create_task(self.files.sweep(), name="streamseg-sweep")
        try:
            yield
        finally:
            sweeping.cancel()
            await self.registry.close()
            await self.whip.close()
            await self.streams.close()
            # Waits for the frame that is in work.
            await asyncio.to_thread(self.engine.close)
            await asyncio.to_thread(self.files.close)

    @contextlib.contextmanager
    def connection(self, subprotocols: Sequence[str]) -> Iterator[Place]:
        """The place of a connection, one of ``max_sessions``; raises OverloadedError if all are taken.

        A handshake that names a session needs none: that one has its place, and a client must always find back to it.
        """
        place = Place(self._places)
        session_id = named_session(subprotocols)
        guests = sum(not other.held for other in self._connected)
        if session_id is None or guests >= MAX_GUESTS or not self.registry.has(session_id):
            place.take()
        self._connected.add(place)
        self.metrics.connections.inc()
        try:
            yield place
        finally:
            place.give_back()
            self._connected.discard(place)
            self.metrics.connections.dec()

    def place(self) -> Place:
        """One of the ``max_sessions`` places, for what is no connection; not taken yet."""
        return Place(self._places)

    @property
    def ready(self) -> bool:
        return self.engine is not None and self.engine.alive

    def _takes(self, source: Source) -> bool:
        settings = self.settings
        match source:
            case "webrtc":
                return settings.webrtc.enabled
            case "url":
                return settings.network.enabled
            case "stream":
                return settings.webrtc.enabled or settings.network.enabled or bool(settings.streams.cameras)
            case _:
                return True

    def info(self) -> dict[str, Any]:
        """What a client may want to know before it opens a session."""
        return {
            "version": __version__,
            "protocol": VERSION,
            "model": self.model_info.model_dump() | {"image_size": self.model.image_size},
            "modes": list(MODES),
            "sources": [source for source in SOURCES if self._takes(source)],
            "limits": told(self.settings.limits).model_dump(),
            "samples": self._samples,
        }


async def _page(request: Request) -> Response:
    files: PageFiles = request.app.state.files
    return await files.get_response("index.html", request.scope)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


async def _readiness(request: Request) -> Response:
    service: Service = request.app.state.service
    status = "ready" if service.ready else "not ready"
    body = {"status": status, "model": service.model.name}
    return JSONResponse(body, status_code=200 if service.ready else 503, headers={"Cache-Control": "no-store"})


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.guard.check_token(request.headers)
    return Response(service.metrics.render(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


async def _info(request: Request) -> Response:
    service: Service = request.app.state.service
    service.guard.check_origin(request.headers)
    service.guard.check_token(request.headers)
    return JSONResponse(service.info(), headers={"Cache-Control": "no-store"})


async def _streams(request: Request) -> Response:
    service: Service = request.app.state.service
    service.guard.check_origin(request.headers)
    service.guard.check_token(request.headers)
    listed = [] if service.streams is None else service.streams.listed()
    return JSONResponse({"streams": [asdict(one) for one in listed]}, headers={"Cache-Control": "no-store"})


async def _stream(websocket: WebSocket) -> None:
    service: Service = websocket.app.state.service
    try:
        subprotocol = service.guard.check_websocket(websocket)
        with service.connection(websocket.scope["subprotocols"]) as place:
            if service.engine is None or service.files is None or service.streams is None:
                raise OverloadedError("the service is not ready yet")
            await websocket.accept(subprotocol)
            link = Link(websocket, service.settings.limits, place)
            await Conversation(
                link,
                service.engine,
                service.settings,
                service.metrics,
                service.model_info,
                service.files,
                service.registry,
                service.streams,
            ).serve(link)
    except StreamsegError as error:
        service.metrics.error(error.code)
        await refuse(error, websocket.scope, websocket.receive, websocket.send)


async def _download(request: Request) -> Response:
    service: Service = request.app.state.service
    service.guard.check_origin(request.headers)
    if service.files is None:
        raise OverloadedError("the service is not ready yet")
    # The id, which nobody can guess, is the permission: a browser sends no token for the address of a video.
    path, file = service.files.store.find(request.path_params["id"], request.path_params["name"])
    try:
        found = await asyncio.to_thread(path.stat)
    except OSError:
        raise NotFoundError("this file has just been deleted") from None
    saved = request.query_params.get("download") == "1"
    return FileResponse(
        path,
        media_type=file.media_type,
        stat_result=found,
        filename=file.name if saved else None,
        content_disposition_type="attachment" if saved else "inline",
        headers={"Cache-Control": "private, no-cache"},
    )


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StreamsegError)
    service: Service = request.app.state.service
    service.metrics.error(error.code)
    return error_response(error)


class PageFiles(StaticFiles):
    """The files of the page: no listings, nothing hidden, always revalidated."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if any(part.startswith(".") and part != "." for part in Path(path).parts):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        media_type = _MEDIA_TYPES.get(Path(full_path).suffix.lower())
        if media_type is None or isinstance(response, NotModifiedResponse):
            return response
        return FileResponse(full_path, status_code=status_code, stat_result=stat_result, media_type=media_type)


def create_app(settings: Settings, model: LoadedModel) -> Starlette:
    """The service around ``model``; raises BadSettingError for settings that let strangers in or cannot work."""
    check_bind(settings)
    check_data_dir(settings.data_dir)
    page = web_root()
    service = Service(settings, model, page)
    files = PageFiles(directory=page, check_dir=False)
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _health),
            Route("/readyz", _readiness),
            Route("/metrics", _metrics),
            Route("/v1/info", _info),
            Route("/v1/streams", _streams),
            Route("/v1/files/{id}/{name}", _download),
            *service.whip.routes(),
            WebSocketRoute("/v1/stream", _stream),
            Mount("/", files),
        ],
        middleware=[Middleware(SecurityMiddleware, guard=service.guard)],
        exception_handlers={StreamsegError: _on_error},
        lifespan=service.lifespan,
    )
    app.state.service = service
    app.state.files = files
    return app


def _samples(page: Path) -> dict[str, Any]:
    """The samples that come with the page, with their addresses."""
    try:
        listed = json.loads((page / "samples" / "index.json").read_text("utf-8"))
        clip = listed.get("clip")
        return {
            "images": [_sample(one) for one in listed.get("images", [])],
            "clip": None if clip is None else _sample(clip),
        }
    except FileNotFoundError:
        return {"images": [], "clip": None}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        logger.warning("the list of samples cannot be read", exc_info=True)
        return {"images": [], "clip": None}


def _sample(entry: dict[str, str]) -> dict[str, str]:
    file = entry["file"]
    return {
        "name": file,
        "url": f"/samples/{quote(file)}",
        "title": entry.get("title", file),
        "credit": entry.get("credit", ""),
    }
