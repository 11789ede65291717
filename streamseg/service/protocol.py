"""The messages of the wire protocol, version 1, as strict models; ``docs/protocol.md`` explains them.

The JSON Schema in ``docs/protocol.schema.json`` is printed by ``python -m streamseg.service.protocol``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from streamseg.errors import BadPromptError, StreamsegError
from streamseg.segmentation.masks import MaskRegion, State
from streamseg.segmentation.prompts import MAX_OBJECT_ID, Prompt
from streamseg.segmentation.segmenter import Mode

VERSION = 1
SUBPROTOCOL = "streamseg.v1"

MAX_REQUEST_ID_CHARS = 64
MAX_SESSION_ID_CHARS = 64
MAX_PROMPTS = 1024
MAX_POINTS = 4096
# Whole numbers up to here survive a client whose numbers are doubles.
MAX_WHOLE = 2**53
MAX_AREA_PX = 2**31 - 1
MAX_RADIUS_PX = 64
MAX_NAME_CHARS = 255
MAX_SIDE_PX = 8192
MAX_SDP_CHARS = 64 * 2**10
MAX_CANDIDATE_CHARS = 1024
MAX_URL_CHARS = 2048

# An uploaded file comes in pieces of at most this; so many bytes may be on their way without an answer.
CHUNK_BYTES = 2**20
WINDOW_BYTES = 4 * 2**20

T = TypeVar("T")


def _is_none(value: Any) -> bool:
    return value is None


# Left out of the JSON where there is nothing to say; `null` is for values that are known to be none.
Maybe = Annotated[T | None, Field(exclude_if=_is_none)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
ObjectId: TypeAlias = Annotated[int, Field(ge=0, le=MAX_OBJECT_ID)]
RequestId: TypeAlias = Annotated[str, Field(max_length=MAX_REQUEST_ID_CHARS)]
Number: TypeAlias = Annotated[int, Field(ge=-MAX_WHOLE, le=MAX_WHOLE)] | float
PointXY: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]
BoxXYXY: TypeAlias = Annotated[list[float], Field(min_length=4, max_length=4)]
Window: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]
AreaPx: TypeAlias = Annotated[int, Field(ge=0, le=MAX_AREA_PX)]
RadiusPx: TypeAlias = Annotated[int, Field(ge=0, le=MAX_RADIUS_PX)]
Lowered: TypeAlias = Annotated[int, Field(ge=1, le=MAX_WHOLE)]
MaskForm: TypeAlias = Literal["rle", "png", "polygons", "none"]
Source: TypeAlias = Literal["image", "frames", "file", "webrtc", "stream", "url"]
SOURCES: tuple[Source, ...] = get_args(Source)
# Sources on which the newest frame wins and a session stays open until it is stopped.
LIVE_SOURCES: tuple[Source, ...] = ("frames", "webrtc", "stream", "url")
# Those whose frames the client does not send but looks at, maybe together with others.
SHARED_SOURCES: tuple[Source, ...] = ("stream", "url")
SidePx: TypeAlias = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=MAX_WHOLE)]


class Message(BaseModel):
    """Strict: unknown fields, booleans as numbers, texts as numbers, NaN and infinities are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Rle(Message):
    """A mask as COCO compressed RLE; ``size`` is [height, width]."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=MAX_AREA_PX)]], Field(min_length=2, max_length=2)]
    counts: str


class PromptFields(Message):
    """What is said about one object; coordinates are pixels of the upright frame."""

    object_id: ObjectId
    points_xy_px: Annotated[list[PointXY], Field(max_length=MAX_POINTS)] = []
    labels: Annotated[list[int], Field(max_length=MAX_POINTS)] = []
    box_xyxy_px: BoxXYXY | None = None
    mask: Rle | None = None
    frame: Whole | None = None
    time_s: Seconds | None = None
    replace: bool = False

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


# Client to server, text


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
    """Take back the last prompt that was not taken back yet."""

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


# Client to server, binary


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


# Server to client, text


class ModelInfo(Message):
    """The model that answers, and why it was chosen."""

    name: str
    device: str
    reason: str
    licence: str


class SessionLimits(Message):
    """The limits that hold for a session."""

    max_objects: int
    max_points: int
    max_image_pixels: int
    max_image_bytes: int
    max_message_bytes: int
    messages_per_s: float
    idle_timeout_s: float
    resume_s: float
    max_video_bytes: int
    max_video_seconds: float
    max_video_frames: int


class IceServerFields(Message):
    """A STUN or TURN server, as the fields of a browser's RTCIceServer."""

    urls: list[str]
    username: Maybe[str] = None
    credential: Maybe[str] = None


class Ready(Message):
    """The session is open."""

    type: Literal["ready"]
    version: int
    request_id: Maybe[str] = None
    session_id: str
    model: ModelInfo
    limits: SessionLimits
    chunk_bytes: Maybe[int] = None
    window_bytes: Maybe[int] = None
    ice_servers: Maybe[list[IceServerFields]] = None


class Resumed(Ready):
    """The session goes on. ``newest_index``: of the newest frame that was received; null if there was none.

    ``received``: request ids of the last requests that were received; each was carried out or will be. Their answers,
    and the newest result, follow once more.
    """

    resumed: Literal[True]
    newest_index: int | None
    object_ids: list[int]
    received: list[str]


class Answer(Message):
    """WebRTC: the server's session description, with all its addresses."""

    type: Literal["answer"]
    sdp: str
    request_id: Maybe[str] = None


class Ok(Message):
    """A request was carried out."""

    type: Literal["ok"]
    of: Literal["prompt", "undo", "remove", "reset"]
    request_id: Maybe[str] = None


class CandidateFields(Message):
    """Another reading of an ambiguous prompt."""

    score: float
    rle: Maybe[Rle] = None
    polygons: Maybe[list[list[float]]] = None


class ObjectFields(Message):
    """One object on one frame. ``score`` is the model's predicted IoU."""

    object_id: int
    state: State
    score: float
    area_px: int
    box_xyxy_px: Annotated[list[int], Field(min_length=4, max_length=4)] | None
    rle: Maybe[Rle] = None
    polygons: Maybe[list[list[float]]] = None
    candidates: Maybe[list[CandidateFields]] = None


class Result(Message):
    """A frame was segmented; ``attachments`` binary messages follow at once."""

    type: Literal["result"]
    index: int
    time_s: float
    timestamp_ms: Maybe[Number] = None
    rtp_timestamp: Maybe[int] = None
    request_id: Maybe[str] = None
    width: int
    height: int
    timings_ms: dict[str, float]
    dropped: int
    attachments: int
    objects: list[ObjectFields]


class SourceChanged(Message):
    """The source of a `stream` or `url` session: pictures come (`live`), never came yet (`connecting`), may come again
    (`lost`) or do not come any more (`ended`); ``message`` says why, for people."""

    type: Literal["source"]
    state: Literal["connecting", "live", "lost", "ended"]
    message: str


class Received(Message):
    """``bytes`` of the file are stored: as many more may be sent."""

    type: Literal["received"]
    bytes: int


class Progress(Message):
    """How far a file is; ``total`` and ``eta_s`` are null where they cannot be known.

    ``frames`` of ``total`` are done, up to ``time_s``, at ``fps`` on average. ``waiting``: the file has
    not been begun; this is its place in the line, from 1. ``backwards``: frames that were tracked backwards so far,
    before the way forwards begins.
    """

    type: Literal["progress"]
    frames: int
    total: int | None
    time_s: float
    fps: float
    eta_s: float | None
    waiting: Maybe[int] = None
    backwards: Maybe[int] = None


class FileFields(Message):
    """A file to download with GET from ``url``, on the same server."""

    name: str
    url: str
    bytes: int
    media_type: str


class Done(Message):
    """The session has ended. ``files``, ``problems``: of the source `file`."""

    type: Literal["done"]
    request_id: Maybe[str] = None
    frames: int
    dropped: int
    files: Maybe[list[FileFields]] = None
    problems: Maybe[list[str]] = None


class Failure(Message):
    """Something failed; ``code`` is stable, ``message`` is for people."""

    type: Literal["error"]
    code: str
    message: str
    request_id: Maybe[str] = None
    index: Maybe[int] = None
    retry_after_s: Maybe[float] = None

    @classmethod
    def of(cls, error: StreamsegError, *, request_id: str | None = None, index: int | None = None) -> Failure:
        """The message for ``error``; a request id that the error itself carries comes first."""
        return cls(
            type="error",
            code=error.code,
            message=error.message,
            request_id=error.request_id if error.request_id is not None else request_id,
            index=index,
            retry_after_s=error.retry_after_s,
        )


# Server to client, binary


class MaskHeader(Message):
    """Header of a mask: an 8-bit grey PNG of the frame's size, 255 where the object is."""

    type: Literal["mask"]
    index: int
    object_id: int
    format: Literal["png"]
    candidate: Maybe[int] = None


class PictureHeader(Message):
    """Header of the frame itself."""

    type: Literal["picture"]
    index: int
    format: Literal["jpeg"]


class OverlayHeader(Message):
    """Header of the frame with the masks drawn over it."""

    type: Literal["overlay"]
    index: int
    format: Literal["jpeg"]


ClientText: TypeAlias = Start | Resume | PromptRequest | Undo | Remove | Reset | Offer | Candidate | Stop
ClientMessage: TypeAlias = ClientText | FrameMessage | ChunkMessage
ServerText: TypeAlias = Ready | Resumed | Answer | Ok | SourceChanged | Received | Progress | Result | Done | Failure
ServerHeader: TypeAlias = MaskHeader | PictureHeader | OverlayHeader

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


def schema() -> dict[str, Any]:
    """The JSON Schema of all messages, grouped by direction and kind."""
    groups: dict[str, tuple[type[Message], ...]] = {
        "ClientText": tuple(CLIENT_TEXT.values()),
        "ClientBinaryHeader": (FrameHeader, ChunkHeader),
        "ServerText": (Ready, Resumed, Answer, Ok, SourceChanged, Received, Progress, Result, Done, Failure),
        "ServerBinaryHeader": (MaskHeader, PictureHeader, OverlayHeader),
    }
    models = [(model, "validation") for group in groups.values() for model in group]
    _, definitions = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    defs = definitions["$defs"]
    for name, group in groups.items():
        defs[name] = {"oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in group]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamseg wire protocol, version 1",
        "description": "Text messages and the JSON headers of binary messages; see protocol.md.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in groups],
        "$defs": dict(sorted(defs.items())),
    }


def schema_text() -> str:
    """The contents of ``docs/protocol.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
