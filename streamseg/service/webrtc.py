"""The WebRTC side of one session: its peer connection, replaced when the client comes anew, and what goes over it."""

from __future__ import annotations

from collections.abc import Callable

import av

from streamseg.errors import BadMessageError, StreamsegError, WebrtcFailedError
from streamseg.media.frame import Frame
from streamseg.render import draw_overlay
from streamseg.segmentation.masks import FrameResult
from streamseg.service.effects import CameraFrame, Segmented
from streamseg.service.encoding import encode_result
from streamseg.service.protocol.client_messages import Candidate, Offer, Start
from streamseg.service.protocol.server_messages import Answer, Result
from streamseg.service.webrtc_media import to_frame, to_picture, tune
from streamseg.service.webrtc_peer import Peer
from streamseg.service.webrtc_rules import check_offer, mask_form, without_hidden_candidates
from streamseg.settings import Settings

INSTEAD = "the session goes on: send frames over this websocket, or another offer"


class Webrtc:
    """``on_frame`` gets every frame of the camera and must not keep them all; ``on_failure`` hears why no more come."""

    def __init__(
        self,
        start: Start,
        settings: Settings,
        max_pixels: int,
        on_frame: Callable[[CameraFrame], None],
        on_failure: Callable[[WebrtcFailedError], None],
    ) -> None:
        if not settings.webrtc.enabled:
            raise WebrtcFailedError('WebRTC is off on this server; start with the source "frames"')
        tune(settings.webrtc, settings.limits.max_image_pixels)
        self._start = start
        self._still = start.model_copy(update={"masks": mask_form(start), "overlay": False})
        self._settings = settings
        self._max_pixels = max_pixels
        self._on_frame = on_frame
        self._on_failure = on_failure
        self._peer: Peer | None = None

    async def negotiate(self, signal: Offer | Candidate) -> Answer | None:
        """Take an offer or a candidate.

        Raises BadMessageError for one that is none, and WebrtcFailedError where no connection comes of it.
        """
        if isinstance(signal, Candidate):
            if self._peer is None:
                raise BadMessageError("a candidate before the first offer")
            await self._peer.add_candidate(signal)
            return None
        name = check_offer(signal.sdp)
        peer = self._peer
        if peer is not None and (peer.closed or peer.remote_name != name):
            # The client's network or page is another one now; aiortc does not restart ICE.
            await self.close()
            peer = None
        if peer is None:
            peer = self._peer = Peer(name, self._start.overlay, self._settings, self._on_frame, self._failed)
        try:
            answer = await peer.answer(without_hidden_candidates(signal.sdp))
        except WebrtcFailedError as error:
            await self.close()
            raise WebrtcFailedError(f"{error.message}; {INSTEAD}") from None
        except StreamsegError:
            await self.close()
            raise
        return Answer(type="answer", sdp=answer, request_id=signal.request_id)

    def load(self, frame: CameraFrame, index: int, time_s: float) -> Frame:
        """The pixels of a frame; takes milliseconds, off the event loop."""
        size = self._start.size_px
        return to_frame(frame.picture, index, time_s, None if size is None else (size[0], size[1]), self._max_pixels)

    def finish(self, camera: CameraFrame, frame: Frame, result: FrameResult) -> tuple[Segmented, av.VideoFrame | None]:
        """A segmented frame as it is told, and its overlay if one was asked for. Off the event loop."""
        segmented = encode_result(frame, result, self._still)
        if not self._start.overlay:
            return segmented, None
        return segmented, to_picture(draw_overlay(frame, result), camera.picture)

    def show(self, overlay: av.VideoFrame | None) -> None:
        """Send an overlay, unless the next one comes before that."""
        if self._peer is not None and overlay is not None:
            self._peer.overlay.show(overlay)

    def send(self, result: Result) -> bool:
        """Send a result over the data channel; whether there is one that takes it."""
        return self._peer is not None and self._peer.send(result)

    async def close(self) -> None:
        """End the peer connection, if there is one; nothing of it stays behind."""
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.close()

    def _failed(self, peer: Peer, why: str) -> None:
        if peer is self._peer:
            self._on_failure(WebrtcFailedError(f"{why}; {INSTEAD}"))
