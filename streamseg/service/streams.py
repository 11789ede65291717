"""The streams of one server, by name, and their sources.

A stream whose source is gone waits for it; see ``StreamsSettings.keep_s``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamseg.errors import AddressRefusedError, BadStateError, NotFoundError, OverloadedError
from streamseg.pipeline import StreamOptions
from streamseg.service.network_source import NetworkSource
from streamseg.service.shared_stream import SharedStream, Status

if TYPE_CHECKING:
    from streamseg.engine import Engine
    from streamseg.media.addresses import AddressRule
    from streamseg.settings import Limits, Settings

# No client can name a stream so.
_PRIVATE = "~"


class Streams:
    """The shared streams of one server, by name."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._streams: dict[str, SharedStream] = {}
        self._sources: dict[SharedStream, NetworkSource] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Cameras that are being opened: whoever asks for one meanwhile gets the same.
        self._opening: dict[str, asyncio.Task[SharedStream]] = {}

    def __iter__(self) -> Iterator[SharedStream]:
        return iter(tuple(self._streams.values()))

    def listed(self) -> list[Status]:
        """The streams that there are, and the cameras that could be opened; not those that one client has to itself."""
        there = [stream for stream in self if stream.state != "ended" and not stream.name.startswith(_PRIVATE)]
        known = {stream.name: stream.status for stream in there}
        closed = [name for name in self._settings.streams.cameras if name not in known]
        return [*known.values(), *(Status(name, "closed", "track", 0, 0) for name in closed)]

    def open(self, name: str, options: StreamOptions, limits: Limits | None = None) -> SharedStream:
        """A new stream, for whoever has a source for it; raises BadStateError where the name is taken."""
        if name in self._streams or name in self._settings.streams.cameras:
            raise BadStateError(f"there is a stream of the name {name} already")
        return self._open(name, options, limits)

    async def look(self, name: str) -> SharedStream:
        """The stream of that name; a camera of the settings is opened. Raises NotFoundError."""
        # A camera that is being opened has its name already; whether it can be had is not known before that is done.
        if name not in self._opening and (stream := self._streams.get(name)) is not None and stream.state != "ended":
            return stream
        if name not in self._settings.streams.cameras:
            raise NotFoundError(f"there is no stream of the name {name}")
        if name not in self._opening:
            task = asyncio.create_task(self._open_camera(name), name="streamseg-camera")
            self._opening[name] = task
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(self._opening[name])

    async def open_url(
        self, url: str, name: str | None, options: StreamOptions, limits: Limits | None = None
    ) -> SharedStream:
        """A new stream from an address that a client names; ``close_url`` is owed to it.

        Raises AddressRefusedError, StreamUnavailableError and others of StreamsegError.
        """
        network = self._settings.network
        if not network.enabled:
            raise AddressRefusedError("addresses are not opened on this server: its setting network.enabled is off")
        rule = network.rule()
        rule.check(url)
        stream = self.open(name or _PRIVATE + secrets.token_hex(16), options, limits)
        await self._feed(stream, url, rule)
        return stream

    async def close_url(self, stream: SharedStream) -> None:
        """End a stream of ``open_url``."""
        stream.close("whoever opened the stream has left")
        await self._unfeed(stream)

    async def close(self) -> None:
        """End all streams."""
        for task in (*self._opening.values(), *self._tasks):
            task.cancel()
        await asyncio.gather(*self._opening.values(), *self._tasks, return_exceptions=True)
        for stream in self:
            stream.close("the server is shutting down")
        await asyncio.gather(*(self._unfeed(stream) for stream in tuple(self._sources)))

    def _open(self, name: str, options: StreamOptions, limits: Limits | None) -> SharedStream:
        stream = SharedStream(name, self._engine, options, limits or self._settings.limits)
        self._streams[name] = stream

        def forget() -> None:
            self._streams.pop(name, None)

        stream.on_close(forget)
        return stream

    async def _open_camera(self, name: str) -> SharedStream:
        former = self._streams.get(name)
        if former is not None:
            # It has ended, which nobody has seen to yet.
            former.close("the stream is over")
            await self._unfeed(former)
        options = StreamOptions(mode="track", refine=self._settings.refine, track=self._settings.track)
        stream = self._open(name, options, None)
        await self._feed(stream, self._settings.streams.cameras[name].get_secret_value(), None)
        task = asyncio.create_task(self._close_unseen(stream), name="streamseg-unseen")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _feed(self, stream: SharedStream, url: str, rule: AddressRule | None) -> None:
        most = self._settings.network.max_streams
        try:
            if len(self._sources) >= most:
                raise OverloadedError(f"{most} network streams are read already; try again later", retry_after_s=5.0)
            options = self._settings.network.options(self._settings.limits.max_image_pixels)
            source = self._sources[stream] = NetworkSource(stream, url, rule, options)
            await source.connected()
        except BaseException:
            stream.close("the stream could not be opened")
            await asyncio.shield(self._unfeed(stream))
            raise

    async def _unfeed(self, stream: SharedStream) -> None:
        source = self._sources.get(stream)
        if source is not None:
            await source.close()
            self._sources.pop(stream, None)

    async def _close_unseen(self, stream: SharedStream) -> None:
        """Close a camera that nobody has looked at for a while."""
        keep_s = self._settings.streams.keep_s
        seen_at = time.monotonic()
        while stream.state != "ended" and time.monotonic() - seen_at < keep_s:
            await asyncio.sleep(min(1.0, keep_s / 4))
            if stream.viewers:
                seen_at = time.monotonic()
        stream.close("nobody looked at this camera any more")
        await self._unfeed(stream)
