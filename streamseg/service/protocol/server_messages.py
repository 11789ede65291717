"""What the server says."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from streamseg.errors import StreamsegError
from streamseg.segmentation.masks import State
from streamseg.service.protocol.fields import Maybe, Message, Number, Rle

# Texts


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


# Headers of binary messages


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


ServerText: TypeAlias = Ready | Resumed | Answer | Ok | SourceChanged | Received | Progress | Result | Done | Failure
ServerHeader: TypeAlias = MaskHeader | PictureHeader | OverlayHeader
