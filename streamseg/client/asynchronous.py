"""The client for asyncio programs."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self

from streamseg.client.connection import Connection, Incoming
from streamseg.client.kept import AsyncImageSession
from streamseg.client.live import AsyncStream
from streamseg.client.pictures import ImageLike, picture_bytes
from streamseg.client.recorded import AsyncRecording, RemoteProgress
from streamseg.client.wire import RemoteResult, gather_prompts, result_from, start_fields, stream_url
from streamseg.closable import AsyncClosable
from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadStateError,
    ConnectionLostError,
    StreamsegError,
    TooLargeError,
)
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt
from streamseg.segmentation.segmenter import Mode

# A larger picture waits for the server's limits, so that it is refused by name and not by a broken connection.
PROMPT_PICTURE_BYTES = 2**20


class AsyncClient(AsyncClosable):
    """A client of one streamseg server.

    ``url``: ws://, wss://, http://, https:// or host:port. ``token``: what the server asks of clients, if anything.
    ``reconnect``: whether ``segment`` connects again, once, when its kept connection turns out to be gone, and whether
    a ``stream`` goes on with its session after its connection broke (see ``AsyncStream``).
    ``timeout_s``: how long an answer may take before ConnectionLostError; None waits for ever.

    All errors are StreamsegErrors: those of the server with its code, and ConnectionLostError.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8000",
        token: str | None = None,
        *,
        reconnect: bool = True,
        timeout_s: float | None = 120.0,
    ) -> None:
        self.url = stream_url(url)
        self._token = token
        self._reconnect = reconnect
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._turn = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def connect(self) -> None:
        """Connect now; otherwise the first ``segment`` does."""
        async with self._turn:
            await self._connected()

    async def close(self) -> None:
        """Close all connections, those of image sessions and streams too. The client cannot be used again."""
        self._closed = True
        opened, self._connection = list(self._opened), None
        await asyncio.gather(*(connection.close() for connection in opened))

    async def segment(
        self,
        image: ImageLike,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        multimask: bool = False,
        second_look: bool = True,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
        window: tuple[float, float] | None = None,
    ) -> RemoteResult:
        """Segment one picture, over a connection that is kept from call to call.

        ``image``: a path or bytes (sent as they are), a PIL image or uint8 (H, W, 3) RGB (see ``picture_bytes``).
        ``points_xy_px``: [(x, y), ...] pixels with ``labels`` 1 (object, the default) or 0 (background) and
        ``box_xyxy_px`` speak of object 1; for several objects give ``prompts``. ``refine``: a RefineOptions or a
        mapping with its fields; default: the server's. ``overlay``: also fetch the picture with the masks drawn over
        it. ``window``: of 16-bit pictures, the values that become black and white. ``second_look``: let a model that
        gains from it look at the objects a second time, for a second encoding.
        Calls from several tasks take turns.
        """
        asked = gather_prompts(points_xy_px, labels, box_xyxy_px, prompts)
        if not asked:
            raise BadPromptError("say what to segment: points_xy_px, box_xyxy_px or prompts")
        start = start_fields(
            "image",
            asked,
            overlay=overlay,
            multimask=multimask,
            second_look=second_look,
            score_threshold=score_threshold,
            refine=refine,
            window=window,
        )
        picture = await asyncio.to_thread(picture_bytes, image)
        async with self._turn:
            fresh = self._connection is None
            try:
                return await self._one_picture(start, picture)
            except ConnectionLostError:
                if fresh or self._closed or not self._reconnect:
                    raise
            return await self._one_picture(start, picture)

    async def image_session(
        self,
        image: ImageLike,
        *,
        multimask: bool = False,
        second_look: bool = True,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
        window: tuple[float, float] | None = None,
    ) -> AsyncImageSession:
        """Send a picture once and keep it at the server, to click again and again: a connection of its own.

        Use it with ``async with await client.image_session(...) as session``.
        """
        start = start_fields(
            "image",
            (),
            overlay=overlay,
            multimask=multimask,
            second_look=second_look,
            score_threshold=score_threshold,
            refine=refine,
            window=window,
            keep=True,
        )
        picture = await asyncio.to_thread(picture_bytes, image)
        session = AsyncImageSession(self._open, start, picture, timeout_s=self._timeout_s, reconnect=self._reconnect)
        await session.open()
        return session

    async def stream(
        self,
        *,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode = "track",
        carry: bool = True,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
    ) -> AsyncStream:
        """Open a session for live frames, on a connection of its own; the newest frame wins.

        ``mode``: ``track`` follows objects with the video model; ``image`` segments each frame by itself. ``carry``: in
        the mode ``image``, each object goes on from its previous mask; otherwise its prompts are applied to every frame
        anew.
        Use it with ``async with await client.stream(...) as stream``.
        """
        start = start_fields(
            "frames",
            list(prompts or ()),
            overlay=overlay,
            mode=mode,
            carry=carry,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine,
        )
        return await self._open_stream(start)

    async def look(
        self,
        name: str | None = None,
        *,
        url: str | None = None,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode | None = None,
        picture: bool = False,
        overlay: bool = False,
    ) -> AsyncStream:
        """Look at a stream of the server's, on a connection of its own: results come, and no frames are sent.

        ``name``: a stream that is published, or a camera of the server's settings. ``url``: the address of a network
        camera, where the server opens addresses; ``name`` is then what others find it under, and ``mode`` how it is
        segmented (default: ``track``). ``picture``: also the frame itself, as ``result.picture_jpeg``. Objects are
        shared with all who look at the stream. The iteration ends with the stream; see ``AsyncStream.source``.

        Raises NotFoundError, AddressRefusedError, StreamUnavailableError, BadStateError (the name is taken).
        """
        if name is None and url is None:
            raise BadMessageError("look needs the name of a stream, or the url of a camera")
        start = start_fields(
            "stream" if url is None else "url",
            list(prompts or ()),
            overlay=overlay,
            mode=mode or (None if url is None else "track"),
        )
        start |= {"picture": True} if picture else {}
        start |= {field: value for field, value in (("name", name), ("url", url)) if value is not None}
        return await self._open_stream(start)

    async def _open_stream(self, start: Mapping[str, Any]) -> AsyncStream:
        reopen = self._open if self._reconnect else None
        return await AsyncStream.open(await self._open(), start, timeout_s=self._timeout_s, reopen=reopen)

    async def segment_file(
        self,
        path: str | Path,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        time_s: float | None = None,
        every: int = 1,
        fps: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        hold: bool = False,
        backwards: bool = False,
        video: bool = True,
        container: Literal["mp4", "webm"] = "mp4",
        quality: int = 75,
        max_side_px: int | None = None,
        mode: Mode = "track",
        carry: bool = True,
        score_threshold: float | None = None,
        refine: Any = None,
        out: str | Path | None = None,
        on_progress: Callable[[RemoteProgress], None] | None = None,
        cancelled: Event | None = None,
    ) -> AsyncRecording:
        """Segment a video file, on a connection of its own.

        ``points_xy_px``, ``labels``, ``box_xyxy_px`` speak of object 1 on the first frame, or on the one that is shown
        at ``time_s``; each of ``prompts`` speaks of the frame that it names, unless ``time_s`` is given. ``every``,
        ``fps``, ``start_s``, ``end_s``, ``hold``: see ``Sampling``; only segmented frames have results, held ones are
        in the files alone. ``backwards``: also track each object from its first prompt back to the start.
        ``mode``, ``carry``: see ``stream``. ``video``: make an overlay video, in ``container`` (see
        ``VideoOptions``).
        ``out``: a folder into which overlay and masks.jsonl are fetched at the end; default: they stay at the server,
        for a while. ``on_progress``: called while the file is sent and processed. ``cancelled``: set it, from any
        thread, to end early as ``stop`` does.

        Use it with ``async with await client.segment_file(...) as recording``, then ``async for result in recording``
        or ``await recording.finish()``.
        """
        asked = gather_prompts(points_xy_px, labels, box_xyxy_px, prompts)
        if not asked:
            raise BadPromptError("say what to segment: points_xy_px, box_xyxy_px or prompts")
        start = start_fields(
            "file",
            asked,
            mode=mode,
            carry=carry,
            score_threshold=score_threshold,
            refine=refine,
            prompts_time_s=time_s,
        )
        start["sampling"] = {"every": every, "fps": fps, "start_s": start_s, "end_s": end_s, "hold": hold}
        options = {"container": container, "quality": quality, "max_side_px": max_side_px}
        start["video"] = options if video else None
        if backwards:
            start["backwards"] = True
        return await AsyncRecording.open(
            await self._open(),
            start,
            Path(path),
            url=self.url,
            token=self._token,
            out=None if out is None else Path(out),
            on_progress=on_progress,
            cancelled=cancelled,
            timeout_s=self._timeout_s,
        )

    async def _open(self, session_id: str | None = None) -> Connection:
        if self._closed:
            raise BadStateError("this client is closed: make a new one")
        connection = await Connection.open(self.url, self._token, session_id)
        self._opened.add(connection)
        return connection

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await self._open()
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _one_picture(self, start: Mapping[str, Any], picture: bytes) -> RemoteResult:
        connection = await self._connected()
        try:
            outcome = await _PictureExchange(connection, start, picture, self._timeout_s).run()
        except BaseException:
            # What was under way would be read as the next call's answer.
            await self._drop()
            raise
        if isinstance(outcome, StreamsegError):
            raise outcome
        return outcome


class _PictureExchange:
    """One picture's start, frame, result and done."""

    def __init__(
        self, connection: Connection, start: Mapping[str, Any], picture: bytes, timeout_s: float | None
    ) -> None:
        self._connection = connection
        self._start = start
        self._picture = picture
        self._timeout_s = timeout_s
        self._began_s = time.perf_counter()
        self._sent = False
        self._stop_id: str | None = None
        self._failure: StreamsegError | None = None
        self._result: RemoteResult | None = None

    async def run(self) -> RemoteResult | StreamsegError:
        """The result, or the server's refusal after which the connection is free again.

        Raises where the connection is of no more use.
        """
        await self._connection.send({**self._start, "request_id": self._connection.next_id()})
        if len(self._picture) <= PROMPT_PICTURE_BYTES:
            await self._send_picture()
        try:
            while not await self._handle(await self._connection.receive_within(self._timeout_s)):
                pass
        except StreamsegError as lost:
            raise self._failure or lost from None
        if self._failure is not None:
            return self._failure
        return self._result or BadMessageError("the server ended the session without a result")

    async def _handle(self, message: Incoming) -> bool:
        """Take in one message; True when the exchange is over."""
        answers_stop = self._stop_id is not None and message.request_id == self._stop_id
        match message.type:
            case "ready" if not self._sent and self._failure is None:
                await self._offer_picture(message.fields.get("limits"))
            case "result":
                latency_ms = 1e3 * (time.perf_counter() - self._began_s)
                self._result = result_from(message.fields, message.attachments, latency_ms)
            case "done":
                return self._stop_id is None or answers_stop
            case "error" if answers_stop:
                # The session had ended by itself.
                return True
            case "error":
                await self._fail(message.error())
        return False

    async def _offer_picture(self, limits: Any) -> None:
        most = limits.get("max_image_bytes") if isinstance(limits, Mapping) else None
        if isinstance(most, int) and len(self._picture) > most:
            await self._fail(TooLargeError(f"the picture has {len(self._picture)} bytes; the server takes {most}"))
        else:
            await self._send_picture()

    async def _send_picture(self) -> None:
        self._sent = True
        await self._connection.send_frame({"request_id": self._connection.next_id()}, self._picture)

    async def _fail(self, error: StreamsegError) -> None:
        # Whether a session still runs depends on what failed: the answer to stop tells where this exchange ends.
        if self._failure is None:
            self._failure = error
            self._stop_id = self._connection.next_id()
            await self._connection.send({"type": "stop", "request_id": self._stop_id})
