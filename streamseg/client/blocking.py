"""The client for plain scripts and notebooks: the same methods, which wait.

An event loop in a thread of its own does the work, so that it also runs where another event loop already does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from streamseg.client.asynchronous import AsyncClient
from streamseg.client.loop import Loop
from streamseg.client.opened import ImageSession, Recording, Stream
from streamseg.client.pictures import ImageLike
from streamseg.client.recorded import RemoteProgress
from streamseg.client.wire import RemoteResult
from streamseg.closable import Closable
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt
from streamseg.segmentation.segmenter import Mode


class Client(Closable):
    """A client of one streamseg server for plain scripts; see ``AsyncClient`` for the arguments and the errors."""

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8000",
        token: str | None = None,
        *,
        reconnect: bool = True,
        timeout_s: float | None = 120.0,
    ) -> None:
        self._client = AsyncClient(url, token, reconnect=reconnect, timeout_s=timeout_s)
        self.url = self._client.url
        self._loop = Loop(self._client)

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def connect(self) -> None:
        """Connect now; otherwise the first ``segment`` does."""
        self._loop.run(self._client.connect())

    def close(self) -> None:
        """Close everything that was opened through this client; it cannot be used again."""
        self._loop.close()

    def segment(
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
        """Segment one picture; see ``AsyncClient.segment``."""
        return self._loop.run(
            self._client.segment(
                image,
                points_xy_px=points_xy_px,
                labels=labels,
                box_xyxy_px=box_xyxy_px,
                prompts=prompts,
                multimask=multimask,
                second_look=second_look,
                score_threshold=score_threshold,
                refine=refine,
                overlay=overlay,
                window=window,
            )
        )

    def image_session(
        self,
        image: ImageLike,
        *,
        multimask: bool = False,
        second_look: bool = True,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
        window: tuple[float, float] | None = None,
    ) -> ImageSession:
        """Send a picture once, to click on it again and again; see ``AsyncClient.image_session``."""
        session = self._client.image_session(
            image,
            multimask=multimask,
            second_look=second_look,
            score_threshold=score_threshold,
            refine=refine,
            overlay=overlay,
            window=window,
        )
        return ImageSession(self._loop, self._loop.run(session))

    def stream(
        self,
        *,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode = "track",
        carry: bool = True,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: Any = None,
        overlay: bool = False,
    ) -> Stream:
        """Open a session for live frames; see ``AsyncClient.stream``."""
        stream = self._client.stream(
            prompts=prompts,
            mode=mode,
            carry=carry,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine,
            overlay=overlay,
        )
        return Stream(self._loop, self._loop.run(stream))

    def look(
        self,
        name: str | None = None,
        *,
        url: str | None = None,
        prompts: Sequence[Prompt] | None = None,
        mode: Mode | None = None,
        picture: bool = False,
        overlay: bool = False,
    ) -> Stream:
        """Look at a stream of the server's; see ``AsyncClient.look``."""
        looking = self._client.look(name, url=url, prompts=prompts, mode=mode, picture=picture, overlay=overlay)
        return Stream(self._loop, self._loop.run(looking))

    def segment_file(
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
        cancelled: threading.Event | None = None,
    ) -> Recording:
        """Segment a video file; see ``AsyncClient.segment_file``. ``on_progress`` is called in another thread."""
        recording = self._client.segment_file(
            path,
            points_xy_px=points_xy_px,
            labels=labels,
            box_xyxy_px=box_xyxy_px,
            prompts=prompts,
            time_s=time_s,
            every=every,
            fps=fps,
            start_s=start_s,
            end_s=end_s,
            hold=hold,
            backwards=backwards,
            video=video,
            container=container,
            quality=quality,
            max_side_px=max_side_px,
            mode=mode,
            carry=carry,
            score_threshold=score_threshold,
            refine=refine,
            out=out,
            on_progress=on_progress,
            cancelled=cancelled,
        )
        return Recording(self._loop, self._loop.run(recording))
