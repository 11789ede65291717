"""A stream that several look at and click into: one source, one pipeline, any number of viewers.

The newest picture wins twice: one that waits for the model gives way to a newer one, and a viewer that has no room for
a result goes without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from streamseg.errors import BadStateError, InternalError, StreamsegError
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.service.edits import carry_out, say
from streamseg.service.turns import Turns

if TYPE_CHECKING:
    from streamseg.engine import Engine
    from streamseg.media.frame import Frame
    from streamseg.segmentation.masks import FrameResult
    from streamseg.service.effects import Edit
    from streamseg.service.protocol.client_messages import PromptFields
    from streamseg.settings import Limits

logger = logging.getLogger(__name__)

# Changes of the objects that one picture takes, of all viewers together: each may cost the model as much as a picture.
MOST_CHANGES = 2
# Those that the first picture takes after there was none for a while.
MOST_CHANGES_STILL = 16

# live: pictures come. connecting: they never came yet. lost: they may come again. ended: they do not.
SourceState: TypeAlias = Literal["connecting", "live", "lost", "ended"]


class Picture(Protocol):
    """A picture of a source, decoded, not yet RGB: one that is dropped costs nothing."""

    @property
    def time_s(self) -> float: ...

    def frame(self, index: int) -> Frame:
        """Its pixels. Runs off the event loop; raises StreamsegError."""
        ...


class Viewer(Protocol):
    """Someone who looks at a stream. All but ``encode`` run on the event loop."""

    @property
    def has_room(self) -> bool:
        """Whether the viewer takes a result now."""
        ...

    def encode(self, frame: Frame, result: FrameResult) -> Any:
        """What to show of a frame. Runs off the event loop."""
        ...

    def show(self, frame_index: int, time_s: float, shown: Any) -> None:
        """Take what ``encode`` made."""
        ...

    def rejected(self, tag: str | None, error: StreamsegError, frame_index: int) -> None:
        """A prompt of this viewer's did not fit the frame."""
        ...

    def source_changed(self, state: SourceState, why: str) -> None:
        """The source of the stream is in another state."""
        ...

    def failed(self, error: StreamsegError, frame_index: int) -> None:
        """Frames cannot be segmented; said once for all frames with the same fault, and to who comes while it lasts."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """What is told of a stream to whoever asks which there are."""

    name: str
    state: SourceState | Literal["closed"]
    mode: str
    viewers: int
    frames: int


class SharedStream:
    """One stream; made by ``Streams.open``. ``close`` ends it."""

    def __init__(self, name: str, engine: Engine, options: StreamOptions, limits: Limits) -> None:
        self.name = name
        self._limits = limits
        self._pipeline = Pipeline(engine, options, limits.prompts())
        self._viewers: list[Viewer] = []
        self._newest: Picture | None = None
        self._came = asyncio.Event()
        self._state: SourceState = "connecting"
        self._why = ""
        self._index = -1
        self._frames = 0
        # Why frames fail, and the first that did.
        self._fault: tuple[StreamsegError, int] | None = None
        self._turns = Turns(MOST_CHANGES, MOST_CHANGES_STILL)
        # Who a viewer is to the pipeline, which remembers what was said longer than the viewer stays.
        self._authors: dict[Viewer, str] = {}
        # Whose prompt it was that is rejected later.
        self._tags: dict[str, tuple[Viewer, str | None]] = {}
        self._task = asyncio.create_task(self._segment_all(), name="streamseg-stream")
        self._on_close: list[Callable[[], None]] = []
        self._closed = False

    @property
    def options(self) -> StreamOptions:
        return self._pipeline.options

    @property
    def state(self) -> SourceState:
        return self._state

    @property
    def object_ids(self) -> tuple[int, ...]:
        return self._pipeline.object_ids

    @property
    def status(self) -> Status:
        return Status(self.name, self._state, self.options.mode, len(self._viewers), self._frames)

    # The source

    def take(self, picture: Picture) -> None:
        """A picture came; it is segmented unless a newer one comes before that."""
        if self._state == "ended":
            return
        self._index += 1
        self._newest = picture
        self._came.set()
        self.tell("live", "")

    def tell(self, state: SourceState, why: str) -> None:
        """The source is in another state, or in the same one for another reason."""
        if self._state == "ended" or (state, why) == (self._state, self._why):
            return
        self._state, self._why = state, why
        if state != "live":
            self._turns.stand_still()
        for viewer in tuple(self._viewers):
            viewer.source_changed(state, why)

    # The viewers

    def enter(self, viewer: Viewer) -> None:
        """Show the stream to ``viewer`` from now on, beginning with how it is."""
        if self._state != "ended":
            self._viewers.append(viewer)
        self.describe(viewer)

    def describe(self, viewer: Viewer) -> None:
        """Tell ``viewer`` how the source is, and why frames fail if they do."""
        viewer.source_changed(self._state, self._why)
        if self._fault is not None and self._state != "ended":
            viewer.failed(*self._fault)

    def leave(self, viewer: Viewer) -> None:
        """Show nothing more to ``viewer``."""
        with contextlib.suppress(ValueError):
            self._viewers.remove(viewer)
        self._authors.pop(viewer, None)
        self._tags = {tag: whose for tag, whose in self._tags.items() if whose[0] is not viewer}

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    async def change(self, viewer: Viewer, edit: Edit, newest_frame: int) -> None:
        """Carry out what ``viewer`` says about the objects, which all viewers share, when it is its turn.

        One at a time of each viewer. Raises StreamsegError.
        """
        await self._turn()
        await carry_out(
            self._pipeline,
            edit,
            newest_frame,
            self._limits.max_image_pixels,
            live=True,
            tag=self._tag(viewer, edit.request_id),
            author=self._author(viewer),
        )

    async def prompt(self, viewer: Viewer, fields: PromptFields, tag: str | None) -> None:
        """A prompt that came with the start of ``viewer``; ``tag`` is what ``Viewer.rejected`` hears."""
        await self._turn()
        most_px = self._limits.max_image_pixels
        key, author = self._tag(viewer, tag), self._author(viewer)
        await say(self._pipeline, fields, 0, most_px, live=True, tag=key, author=author)

    async def _turn(self) -> None:
        if self._state == "ended":
            raise BadStateError("the stream is over, and its objects with it")
        await self._turns.take(moving=self._state == "live")

    def _author(self, viewer: Viewer) -> str:
        return self._authors.setdefault(viewer, secrets.token_hex(8))

    def _tag(self, viewer: Viewer, tag: str | None) -> str:
        key = secrets.token_hex(8)
        self._tags[key] = (viewer, tag)
        # Prompts that fitted are never heard of again.
        while len(self._tags) > 2 * self._limits.max_objects * self._limits.max_points:
            del self._tags[next(iter(self._tags))]
        return key

    # Segmenting

    async def _segment_all(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            picture, self._newest = self._newest, None
            self._turns.next_picture()
            viewers = [viewer for viewer in self._viewers if viewer.has_room]
            # An object is followed whether or not somebody looks; a picture without one is for eyes only.
            if picture is not None and (viewers or self._pipeline.object_ids):
                await self._segment(picture, self._index, viewers)

    async def _segment(self, picture: Picture, index: int, viewers: list[Viewer]) -> None:
        def encode(frame: Frame, result: FrameResult) -> list[Any]:
            return [viewer.encode(frame, result) for viewer in viewers]

        try:
            shown = await self._pipeline.run(lambda: picture.frame(index), encode)
        except StreamsegError as error:
            self._failed(error, index)
            return
        except Exception:
            logger.exception("a frame of a stream could not be segmented")
            self._failed(InternalError("a fault of the server; its log has the details"), index)
            return
        self._fault = None
        self._frames += 1
        for viewer, what in zip(viewers, shown, strict=True):
            if viewer in self._viewers:
                viewer.show(index, picture.time_s, what)
        for one in self._pipeline.take_rejected():
            whose, tag = self._tags.pop(one.tag or "", (None, None))
            if whose is not None:
                whose.rejected(tag, one.error, index)

    def _failed(self, error: StreamsegError, index: int) -> None:
        if self._fault is not None and self._fault[0].code == error.code:
            return
        self._fault = error, index
        for viewer in tuple(self._viewers):
            viewer.failed(error, index)

    # The end

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the stream is closed."""
        self._on_close.append(callback)

    def close(self, why: str) -> None:
        """End the stream for everyone and free its memory. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.tell("ended", why)
        self._viewers.clear()
        self._tags.clear()
        self._authors.clear()
        self._newest = None
        self._task.cancel()
        self._pipeline.close()
        for callback in self._on_close:
            callback()
