"""What a client says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

from streamseg.errors import BadPromptError
from streamseg.segmentation.masks import MaskRegion
from streamseg.segmentation.prompts import MAX_OBJECT_ID, Prompt
from streamseg.segmentation.segmenter import Mode
from streamseg.service.protocol.fields import MAX_AREA_PX, MAX_WHOLE, Maybe, Message, Number, Rle

MAX_REQUEST_ID_CHARS = 64
MAX_SESSION_ID_CHARS = 64
MAX_PROMPTS = 1024
MAX_POINTS = 4096
MAX_RADIUS_PX = 64
MAX_NAME_CHARS = 255
MAX_SIDE_PX = 8192
MAX_SDP_CHARS = 64 * 2**10
MAX_CANDIDATE_CHARS = 1024
MAX_URL_CHARS = 2048

# An uploaded file comes in pieces of at most this; so many bytes may be on their way without an answer.
CHUNK_BYTES = 2**20
WINDOW_BYTES = 4 * 2**20

Whole: TypeAlias = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
ObjectId: TypeAlias = Annotated[int, Field(ge=0, le=MAX_OBJECT_ID)]
RequestId: TypeAlias = Annotated[str, Field(max_length=MAX_REQUEST_ID_CHARS)]
PointXY: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]
BoxXYXY: TypeAlias = Annotated[list[float], Field(min_length=4, max_length=4)]
Window: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]
AreaPx: TypeAlias = Annotated[int, Field(ge=0, le=MAX_AREA_PX)]
RadiusPx: TypeAlias = Annotated[int, Field(ge=0, le=MAX_RADIUS_PX)]
Lowered: TypeAlias = Annotated[int, Field(ge=1, le=MAX_WHOLE)]
SidePx: TypeAlias = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=MAX_WHOLE)]
MaskForm: TypeAlias = Literal["rle", "png", "polygons", "none"]
Source: TypeAlias = Literal["image", "frames", "file", "webrtc", "stream", "url"]
SOURCES: tuple[Source, ...] = get_args(Source)
# Sources on which the newest frame wins and a session stays open until it is stopped.
LIVE_SOURCES: tuple[Source, ...] = ("frames", "webrtc", "stream", "url")
# Those whose frames the client does not send but looks at, maybe together with others.
SHARED_SOURCES: tuple[Source, ...] = ("stream", "url")


class PromptFields(Message):
    """What is said about one object; coordinates are pixels of the upright frame.

    ``own``: the object must be new, or have been so with a prompt of this session's.
    """

    object_id: ObjectId
    points_xy_px: Annotated[list[PointXY], Field(max_length=MAX_POINTS)] = []
    labels: Annotated[list[int], Field(max_length=MAX_POINTS)] = []
    box_xyxy_px: BoxXYXY | None = None
    mask: Rle | None = None
    frame: Whole | None = None
    time_s: Seconds | None = None
    replace: bool = False
    own: bool = False

    @property
    def mask_pixels(self) -> int:
        """How many its mask has once it is unpacked."""
        return 0 if self.mask is None else self.mask.size[0] * self.mask.size[1]

    def to_prompt(self, newest_frame: int, max_pixels: int) -> Prompt:
        """The prompt that is meant; ``newest_frame`` is taken where none is named.

        Raises BadPromptError. ``max_pixels`` bounds what a few characters of RLE may unpack to.
        """
        mask = None
        if self.mask is not None:
            height, width = self.mask.size
            if width * height > max_pixels:
                raise BadPromptError(f"a mask of {width} x {height} is larger than any frame of this session may be")
            mask = MaskRegion.from_rle({"size": [height, width], "counts": self.mask.counts}).full()
        return Prompt(
            object_id=self.object_id,
            frame=newest_frame if self.frame is None else self.frame,
            points_xy_px=self.points_xy_px,
            labels=self.labels,
            box_xyxy_px=self.box_xyxy_px,
            mask=mask,
        )


class SamplingFields(Message):
    """Which frames of a file are segmented: every so many, or so many a second; from when to when."""

    every: Annotated[int, Field(ge=1, le=MAX_WHOLE)] = 1
    fps: Annotated[float, Field(gt=0, le=MAX_WHOLE)] | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    hold: bool = False


class VideoFields(Message):
    """How the overlay of a file is written. ``quality``: 100 is the best."""

    container: Literal["mp4", "webm"] = "mp4"
    quality: Annotated[int, Field(ge=1, le=100)] = 75
    max_side_px: Annotated[int, Field(ge=16, le=MAX_SIDE_PX)] | None = None


class RefineFields(Message):
    """Clean-up of masks; what is left out stays at the server's default."""

    min_area_px: Maybe[AreaPx] = None
    max_hole_px: Maybe[AreaPx] = None
    close_px: Maybe[RadiusPx] = None
    smooth_px: Maybe[RadiusPx] = None
    largest_only: Maybe[bool] = None


class LowerLimits(Message):
    """Limits that a client wants lower than the server's."""

    max_objects: Maybe[Lowered] = None
    max_points: Maybe[Lowered] = None
    max_image_pixels: Maybe[Lowered] = None


# Texts


class Start(Message):
    """Open a session."""

    type: Literal["start"]
    version: int
    source: Source
    mode: Mode = "image"
    prompts: Annotated[list[PromptFields], Field(max_length=MAX_PROMPTS)] = []
    masks: MaskForm = "rle"
    overlay: bool = False
    overlay_quality: Annotated[int, Field(ge=1, le=100)] = 85
    carry: bool = True
    multimask: bool = False
    second_look: bool = True
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    refine: RefineFields | None = None
    window: Window | None = None
    keep: bool = False
    limits: LowerLimits = LowerLimits()
    name: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    size_bytes: Annotated[int, Field(ge=1, le=MAX_WHOLE)] | None = None
    sampling: SamplingFields | None = None
    video: VideoFields | None = VideoFields()
    backwards: bool = False
    size_px: Annotated[list[SidePx], Field(min_length=2, max_length=2)] | None = None
    url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)] | None = None
    picture: bool = False
    request_id: RequestId | None = None


class Resume(Message):
    """Go on with a live session whose connection broke; instead of a start."""

    type: Literal["resume"]
    version: int
    session_id: Annotated[str, Field(min_length=1, max_length=MAX_SESSION_ID_CHARS)]
    request_id: RequestId | None = None


class PromptRequest(PromptFields):
    """Say more about one object."""

    type: Literal["prompt"]
    request_id: RequestId | None = None


class Remove(Message):
    """Forget one object."""

    type: Literal["remove"]
    object_id: ObjectId
    request_id: RequestId | None = None


class Reset(Message):
    """Forget all objects."""

    type: Literal["reset"]
    request_id: RequestId | None = None


class Undo(Message):
    """Take back the last prompt of this session that was not taken back yet."""

    type: Literal["undo"]
    request_id: RequestId | None = None


class Offer(Message):
    """WebRTC: the client's session description, the first one or a later one."""

    type: Literal["offer"]
    sdp: Annotated[str, Field(min_length=1, max_length=MAX_SDP_CHARS)]
    request_id: RequestId | None = None


class Candidate(Message):
    """WebRTC: an address of the client's that its offer did not name; null where there are no more."""

    type: Literal["candidate"]
    candidate: Annotated[str, Field(max_length=MAX_CANDIDATE_CHARS)] | None
    sdp_mid: Annotated[str, Field(max_length=MAX_REQUEST_ID_CHARS)] | None = None
    sdp_mline_index: Annotated[int, Field(ge=0, le=16)] | None = None
    request_id: RequestId | None = None


class Stop(Message):
    """End the session; what is in work is finished."""

    type: Literal["stop"]
    request_id: RequestId | None = None


# Binary messages


class FrameHeader(Message):
    """Header of a picture."""

    type: Literal["frame"]
    index: Whole | None = None
    time_s: float | None = None
    timestamp_ms: Number | None = None
    request_id: RequestId | None = None


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """A picture as it came: an image file in ``payload``."""

    header: FrameHeader
    payload: bytes

    @property
    def request_id(self) -> str | None:
        return self.header.request_id


class ChunkHeader(Message):
    """Header of a piece of a file. ``offset``: bytes of the file before it; ``last``: it ends the file, which
    ``size_bytes`` of the start says anyway."""

    type: Literal["chunk"]
    offset: Whole
    last: bool = False
    request_id: RequestId | None = None


@dataclass(frozen=True, slots=True)
class ChunkMessage:
    """A piece of a file as it came."""

    header: ChunkHeader
    payload: bytes

    @property
    def request_id(self) -> str | None:
        return self.header.request_id


ClientText: TypeAlias = Start | Resume | PromptRequest | Undo | Remove | Reset | Offer | Candidate | Stop
ClientMessage: TypeAlias = ClientText | FrameMessage | ChunkMessage

CLIENT_TEXT: dict[str, type[ClientText]] = {
    "start": Start,
    "resume": Resume,
    "prompt": PromptRequest,
    "undo": Undo,
    "remove": Remove,
    "reset": Reset,
    "offer": Offer,
    "candidate": Candidate,
    "stop": Stop,
}
