"""Frames that come one by one, over the websocket or as a camera's track, and what is said about them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamseg.errors import WebrtcFailedError
from streamseg.media.image import decode_image
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.service.edits import carry_out, check_mask_pixels, say
from streamseg.service.effects import Again, CameraFrame, Change, Segment, Segmented, Signal
from streamseg.service.encoding import encode_result
from streamseg.service.protocol.client_messages import LIVE_SOURCES, FrameMessage, Start
from streamseg.service.protocol.server_messages import Answer, Result

if TYPE_CHECKING:
    from streamseg.engine import Engine
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.service.webrtc import Webrtc
    from streamseg.settings import Limits, Settings


class FrameSession:
    """What a session of the source ``image``, ``frames`` or ``webrtc`` works with. ``close`` is owed to it.

    ``on_frame`` gets the frames of a camera, ``on_failure`` hears why no more come; both on the event loop.
    """

    def __init__(
        self,
        start: Start,
        limits: Limits,
        options: StreamOptions,
        engine: Engine,
        settings: Settings,
        on_frame: Callable[[CameraFrame], None],
        on_failure: Callable[[WebrtcFailedError], None],
    ) -> None:
        self._start = start
        self._limits = limits
        self._settings = settings
        self._on_frame = on_frame
        self._on_failure = on_failure
        self._pipeline = Pipeline(engine, options, limits.prompts())
        self._live = start.source in LIVE_SOURCES
        self._most_px = limits.max_image_pixels
        self._webrtc: Webrtc | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that are followed."""
        return self._pipeline.object_ids

    async def open(self) -> None:
        """Make ready, with the prompts of the start; raises BadPromptError or TooLargeError."""
        check_mask_pixels(self._start.prompts, self._limits.max_mask_pixels)
        if self._start.source == "webrtc":
            kind = await asyncio.to_thread(_load_webrtc)
            self._webrtc = kind(self._start, self._settings, self._most_px, self._on_frame, self._on_failure)
        for prompt in self._start.prompts:
            await say(self._pipeline, prompt, 0, self._most_px, live=self._live, tag=self._start.request_id)

    async def change(self, change: Change) -> None:
        """Carry out a prompt, an undo, a removal or a reset."""
        request = change.request
        await carry_out(
            self._pipeline, request, change.newest_frame, self._most_px, live=self._live, tag=request.request_id
        )

    async def negotiate(self, signal: Signal) -> Answer | None:
        """See ``Webrtc.negotiate``."""
        return await self._opened_webrtc().negotiate(signal)

    async def segment(self, work: Segment | Again) -> Segmented:
        """The objects of a frame, encoded as the start says, with the prompts that did not fit it."""
        if isinstance(work, Again):
            segmented = await self._pipeline.rerun(self._encode)
        elif isinstance(work.frame, CameraFrame):
            segmented = await self._segment_camera(work, work.frame)
        else:
            segmented = await self._segment_picture(work, work.frame)
        rejected = tuple((one.tag, one.error) for one in self._pipeline.take_rejected())
        return dataclasses.replace(segmented, rejected=rejected)

    def send(self, result: Result) -> bool:
        """Send the result of a camera's frame over its data channel; whether there is one that takes it."""
        return self._webrtc is not None and self._webrtc.send(result)

    async def close(self) -> None:
        """Free what the session holds; what is in work ends unused."""
        self._pipeline.close()
        if self._webrtc is not None:
            await self._webrtc.close()

    async def _segment_camera(self, work: Segment, camera: CameraFrame) -> Segmented:
        webrtc = self._opened_webrtc()
        segmented, overlay = await self._pipeline.run(
            lambda: webrtc.load(camera, work.index, work.time_s),
            lambda frame, result: webrtc.finish(camera, frame, result),
        )
        webrtc.show(overlay)
        return segmented

    async def _segment_picture(self, work: Segment, picture: FrameMessage) -> Segmented:
        window = self._start.window

        def load() -> Frame:
            return decode_image(
                picture.payload,
                limits=self._limits.image(),
                window=None if window is None else (window[0], window[1]),
                index=work.index,
                time_s=work.time_s,
            )

        return await self._pipeline.run(load, self._encode)

    def _encode(self, frame: Frame, result: FrameResult) -> Segmented:
        return encode_result(frame, result, self._start)

    def _opened_webrtc(self) -> Webrtc:
        if self._webrtc is None:
            raise RuntimeError("the session machine gave work of WebRTC to another source")
        return self._webrtc


def _load_webrtc() -> type[Webrtc]:
    # aiortc takes a while to load, and not every service has a use for it.
    from streamseg.service.webrtc import Webrtc

    return Webrtc
