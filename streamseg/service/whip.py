"""Publishers of shared streams (WHIP, RFC 9725) and players of them (WHEP), each with a WebRTC connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streamseg.errors import BadStateError, NotFoundError, OverloadedError
from streamseg.pipeline import StreamOptions
from streamseg.service.protocol.client_messages import Candidate
from streamseg.service.stream_rules import check_name
from streamseg.service.watcher import SharedOverlay, Watcher
from streamseg.service.webrtc_media import to_frame, tune
from streamseg.service.webrtc_peer import Peer
from streamseg.service.whip_rules import Role, candidates_of, take

if TYPE_CHECKING:
    import av

    from streamseg.media.frame import Frame
    from streamseg.segmentation.segmenter import Mode
    from streamseg.service.effects import CameraFrame
    from streamseg.service.metrics import Metrics
    from streamseg.service.places import Place
    from streamseg.service.shared_stream import SharedStream
    from streamseg.service.streams import Streams
    from streamseg.settings import Settings

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0
ID_BYTES = 16


class Whip:
    """All publishers and players of one server. ``place``: makes a place of the server's. ``close`` is owed to it."""

    def __init__(self, streams: Streams, settings: Settings, metrics: Metrics, place: Callable[[], Place]) -> None:
        tune(settings.webrtc, settings.limits.max_image_pixels)
        self._streams = streams
        self._settings = settings
        self._metrics = metrics
        self._place = place
        self._publications: dict[str, _Publication] = {}
        self._watchers: set[Watcher] = set()
        self._overlays: dict[SharedStream, SharedOverlay] = {}
        self._resources: dict[str, _Resource] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def publish(self, name: str, sdp: str, mode: Mode | None) -> tuple[str, str]:
        """Begin or go on with a stream; its resource's id and the answer.

        ``mode`` of a new stream; None: ``track``, or that of the stream which goes on. Raises StreamsegError.
        """
        check_name(name)
        taken = take(sdp, "whip")
        publication = self._publications.get(name)
        if publication is None:
            publication = self._open(name, mode or "track")
        elif publication.peer is not None:
            raise BadStateError(
                f"the stream {name} is being published already", retry_after_s=self._settings.webrtc.lost_after_s
            )
        elif mode is not None and mode != publication.stream.options.mode:
            raise BadStateError(f"the stream {name} still waits for its publisher, with another mode; leave it out")
        left = partial(self._unpublish, name)
        peer = Peer(taken.remote_name, False, self._settings, publication.take, left, publishes=True)
        publication.enter(peer, left)
        try:
            answer = await peer.answer(taken.sdp)
        except BaseException:
            await asyncio.shield(left(peer, "its publisher made no connection"))
            raise
        resource_id = self._register("whip", name, peer, lambda: left(peer, "its publisher has left"))
        return resource_id, taken.answer(answer)

    async def watch(self, name: str, sdp: str) -> tuple[str, str]:
        """Begin to watch a stream; its resource's id and the answer. Raises StreamsegError."""
        check_name(name)
        taken = take(sdp, "whep")
        self._check_watchers()
        try:
            stream = await self._streams.look(name)
        except NotFoundError as error:
            # Players that come before the publisher try again.
            raise NotFoundError(error.message, retry_after_s=RETRY_AFTER_S) from None
        # Others may have come while a camera was opened.
        self._check_watchers()
        peer = Peer(taken.remote_name, True, self._settings, lambda _: None, lambda *_: self._unwatch(watcher))
        overlay = self._overlays.setdefault(stream, SharedOverlay())
        watcher = Watcher(stream, peer, overlay, lambda: self._unwatch(watcher))
        self._watchers.add(watcher)
        self._metrics.watchers.set(len(self._watchers))
        try:
            answer = await peer.answer(taken.sdp)
            stream.enter(watcher)
            if stream.state == "ended":
                raise NotFoundError(f"the stream {name} has ended")
        except BaseException:
            await asyncio.shield(self._unwatch(watcher))
            raise
        return self._register("whep", name, peer, lambda: self._unwatch(watcher)), taken.answer(answer)

    async def trickle(self, role: Role, name: str, resource_id: str, fragment: str) -> None:
        """Take more addresses of a peer. Raises StreamsegError."""
        peer = self._find(role, name, resource_id).peer
        for candidate in candidates_of(fragment, peer.remote_name):
            # Whichever section they were named for: all are bundled, and the peer knows but one.
            await peer.add_candidate(Candidate(type="candidate", candidate=candidate, sdp_mline_index=0))

    async def end(self, role: Role, name: str, resource_id: str) -> None:
        """End a connection. Raises NotFoundError."""
        await self._find(role, name, resource_id).end()

    async def close(self) -> None:
        """End all connections."""
        for watcher in tuple(self._watchers):
            self._unwatch(watcher)
        for publication in tuple(self._publications.values()):
            publication.stream.close("the server is shutting down")
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _find(self, role: Role, name: str, resource_id: str) -> _Resource:
        resource = self._resources.get(resource_id)
        if resource is None or (resource.role, resource.name) != (role, name):
            raise NotFoundError("there is no such connection, or it has ended")
        return resource

    def _register(self, role: Role, name: str, peer: Peer, end: Callable[[], Awaitable[None]]) -> str:
        resource_id = secrets.token_hex(ID_BYTES)
        if not peer.closed:
            self._resources[resource_id] = _Resource(role, name, peer, end)
        return resource_id

    def _forget(self, peer: Peer) -> None:
        for resource_id in [one for one, resource in self._resources.items() if resource.peer is peer]:
            del self._resources[resource_id]

    def _close(self, peer: Peer) -> asyncio.Task[None]:
        """Close a connection, whether or not somebody waits for it."""
        self._forget(peer)
        task = asyncio.create_task(peer.close(), name="streamseg-whip-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    # Publishers

    def _open(self, name: str, mode: Mode) -> _Publication:
        place = self._place()
        place.take()
        options = StreamOptions(mode=mode, refine=self._settings.refine, track=self._settings.track)
        try:
            stream = self._streams.open(name, options)
        except BaseException:
            place.give_back()
            raise
        publication = self._publications[name] = _Publication(stream, self._settings)
        self._metrics.publications.inc()

        def ended() -> None:
            del self._publications[name]
            self._metrics.publications.dec()
            publication.ended()
            place.give_back()
            if publication.peer is not None:
                self._close(publication.peer)

        stream.on_close(ended)
        return publication

    def _unpublish(self, name: str, peer: Peer, why: str) -> asyncio.Task[None]:
        publication = self._publications.get(name)
        if publication is not None and publication.peer is peer:
            publication.leave(why)
        return self._close(peer)

    # Players

    def _check_watchers(self) -> None:
        most = self._settings.streams.max_watchers
        if len(self._watchers) >= most:
            raise OverloadedError(f"{most} players watch already; try again later", retry_after_s=RETRY_AFTER_S)

    def _unwatch(self, watcher: Watcher) -> asyncio.Task[None]:
        watcher.stream.leave(watcher)
        self._watchers.discard(watcher)
        self._metrics.watchers.set(len(self._watchers))
        if all(one.stream is not watcher.stream for one in self._watchers):
            self._overlays.pop(watcher.stream, None)
        return self._close(watcher.peer)


@dataclass(frozen=True, slots=True)
class _Resource:
    """A connection as its client addresses it."""

    role: Role
    name: str
    peer: Peer
    end: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Picture:
    picture: av.VideoFrame
    time_s: float
    max_pixels: int

    def frame(self, index: int) -> Frame:
        return to_frame(self.picture, index, self.time_s, None, self.max_pixels)


class _Publication:
    """A stream with its publisher, or without one for a while."""

    def __init__(self, stream: SharedStream, settings: Settings) -> None:
        self.stream = stream
        self.peer: Peer | None = None
        self._max_pixels = settings.limits.max_image_pixels
        self._idle_s = settings.limits.idle_timeout_s
        self._keep_s = settings.streams.keep_s
        self._began_s: float | None = None
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, peer: Peer, on_idle: Callable[[Peer, str], object]) -> None:
        """``peer`` publishes from now on; ``on_idle`` is called if it sends nothing."""
        self.peer = peer
        self._heard_s = time.monotonic()
        self._later(self._idle_s, lambda: self._check_idle(peer, on_idle))

    def take(self, camera: CameraFrame) -> None:
        self._heard_s = time.monotonic()
        if self._began_s is None:
            self._began_s = self._heard_s
        # By this machine's clock: a publisher that comes back begins its own anew.
        self.stream.take(_Picture(camera.picture, self._heard_s - self._began_s, self._max_pixels))

    def leave(self, why: str) -> None:
        """The publisher is gone; the stream waits for it, if there has been anything to see."""
        self.peer = None
        if self._began_s is None:
            self.stream.close(why)
            return
        self.stream.tell("lost", why)
        self._later(self._keep_s, lambda: self.stream.close("the publisher of the stream did not come back"))

    def ended(self) -> None:
        """Wait for nothing any more."""
        self._stop_timer()

    def _check_idle(self, peer: Peer, on_idle: Callable[[Peer, str], object]) -> None:
        left_s = self._heard_s + self._idle_s - time.monotonic()
        if left_s > 0:
            self._later(left_s, lambda: self._check_idle(peer, on_idle))
        else:
            on_idle(peer, "its publisher sends no pictures")

    def _later(self, after_s: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(after_s, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
