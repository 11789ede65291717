"""What the client puts on the wire and what it reads from it; no sockets here. The protocol is in docs/protocol.md."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from streamseg.errors import BadMessageError, BadSettingError, StreamsegError
from streamseg.media.frame import RgbImage
from streamseg.segmentation.masks import Candidate, FrameResult, MaskRegion, ObjectResult
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt
from streamseg.segmentation.segmenter import Mode

SUBPROTOCOL = "streamseg.v1"
SESSION_SUBPROTOCOL = "streamseg.session."
PATH = "/v1/stream"
DEFAULT_PORT = 8000

HEADER_LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class RemoteResult(FrameResult):
    """A FrameResult that came from a server.

    ``overlay_jpeg``: the picture with the masks drawn over it, where ``overlay=True`` was asked for. ``picture_jpeg``:
    the frame itself, where a stream was looked at with ``picture=True``.
    ``latency_ms``: from handing the frame (or the click on a kept picture) to the client until its result was there.
    ``dropped``: frames of this session that were passed over so far because newer ones had come.
    """

    overlay_jpeg: bytes | None = None
    picture_jpeg: bytes | None = None
    latency_ms: float | None = None
    dropped: int = 0

    def overlay_rgb(self) -> RgbImage:
        """The server's overlay as uint8 (H, W, 3) RGB; raises ValueError if none was asked for."""
        if self.overlay_jpeg is None:
            raise ValueError(
                "this result has no overlay: ask for it with overlay=True, or draw it with .overlay(frame)"
            )
        with Image.open(io.BytesIO(self.overlay_jpeg), formats=["JPEG"]) as picture:
            return np.array(picture.convert("RGB"))


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A result that waits at the server. ``url``: its path there."""

    name: str
    url: str
    bytes: int
    media_type: str


def stream_url(url: str) -> str:
    """The websocket address of a server given as ws://, wss://, http://, https:// or plain host:port.

    A path is kept as the prefix of a reverse proxy. Raises BadSettingError.
    """
    form = "a server address is host:port, http(s)://host[:port] or ws(s)://host[:port]"
    text = url.strip()
    bare = "://" not in text
    try:
        parts = urlsplit(f"ws://{text}" if bare else text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadSettingError(f"{form}, not {url!r}") from error
    schemes = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
    if parts.scheme not in schemes or not host or any(c.isspace() for c in text):
        raise BadSettingError(f"{form}, not {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadSettingError(f"{form}, without user name, query or fragment; a token is given as token=...")
    if bare and port is None:
        port = DEFAULT_PORT
    place = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    if not path.endswith(PATH):
        path += PATH
    return f"{schemes[parts.scheme]}://{place}{'' if port is None else f':{port}'}{path}"


def pack(header: Mapping[str, Any], payload: bytes) -> bytes:
    """A binary message: length of the header, header, payload."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((HEADER_LENGTH.pack(len(text)), text, payload))


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of ``pack``; raises BadMessageError."""
    if len(message) < HEADER_LENGTH.size:
        raise BadMessageError("the server sent a binary message without a header")
    (length,) = HEADER_LENGTH.unpack_from(message)
    end = HEADER_LENGTH.size + length
    if length > MAX_HEADER_BYTES or end > len(message):
        raise BadMessageError("the server sent a binary message whose header does not fit it")
    return parse(message[HEADER_LENGTH.size : end]), message[end:]


def parse(text: str | bytes) -> dict[str, Any]:
    """A JSON message with a ``type``; raises BadMessageError."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise BadMessageError("the server sent something that is no JSON: is this a streamseg server?") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessageError("the server sent a message without a type: is this a streamseg server?")
    return message


def _error_classes() -> Iterator[type[StreamsegError]]:
    waiting = [StreamsegError]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(one.__subclasses__())


def error_from(message: Mapping[str, Any]) -> StreamsegError:
    """The error of ``errors.py`` that an ``error`` message stands for."""
    code = str(message.get("code", StreamsegError.code))
    # Sorted by depth: a code is the one of the class nearest to the base.
    by_code = {one.code: one for one in reversed([one for one in _error_classes() if "code" in vars(one)])}
    kind = by_code.get(code, StreamsegError)
    text = str(message.get("message", "the server gave no reason"))
    if code not in by_code:
        text = f"{code}: {text}"
    error = kind(text, request_id=message.get("request_id"))
    retry_after_s = message.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        error.retry_after_s = float(retry_after_s)
    return error


def prompt_fields(prompt: Prompt, *, frame: bool = False, time_s: float | None = None) -> dict[str, Any]:
    """A prompt as the protocol has it; ``frame``: whether to name the frame it was made on; ``time_s``: by its time."""
    fields: dict[str, Any] = {"object_id": prompt.object_id}
    if time_s is not None:
        fields["time_s"] = float(time_s)
    elif frame:
        fields["frame"] = prompt.frame
    if prompt.points:
        fields["points_xy_px"] = [list(point) for point in prompt.points]
        fields["labels"] = list(prompt.point_labels)
    if prompt.box is not None:
        fields["box_xyxy_px"] = list(prompt.box)
    if prompt.mask is not None:
        fields["mask"] = MaskRegion.from_mask(prompt.mask).to_rle()
    return fields


def gather_prompts(
    points_xy_px: PointsLike | None,
    labels: LabelsLike | None,
    box_xyxy_px: BoxLike | None,
    prompts: Sequence[Prompt] | None,
    object_id: int = 1,
) -> list[Prompt]:
    """The prompts of one call: ``prompts``, and the points and the box of the short form as object ``object_id``.

    Points without labels all belong to the object. Raises BadPromptError.
    """
    gathered = list(prompts or ())
    if points_xy_px is not None or labels is not None or box_xyxy_px is not None:
        points = () if points_xy_px is None else points_xy_px
        # What has no length is no list of points, as the prompt will say.
        marks: LabelsLike = [1] * (len(points) if isinstance(points, Sized) else 0) if labels is None else labels
        short = Prompt(object_id=object_id, points_xy_px=points, labels=marks, box_xyxy_px=box_xyxy_px)
        gathered.append(short)
    return gathered


def start_fields(
    source: str,
    prompts: Sequence[Prompt],
    *,
    overlay: bool = False,
    mode: Mode | None = None,
    carry: bool | None = None,
    multimask: bool = False,
    second_look: bool = True,
    score_threshold: float | None = None,
    refine: Any = None,
    window: tuple[float, float] | None = None,
    keep: bool = False,
    prompts_time_s: float | None = None,
) -> dict[str, Any]:
    """A ``start`` message; what is at its default is left to the server.

    ``refine``: a RefineOptions or a mapping with its fields. ``prompts_time_s``: of a file, when the frame of the
    prompts is shown; default: the frame that each names.
    """
    fields: dict[str, Any] = {"type": "start", "version": 1, "source": source, "masks": "rle"}
    if prompts:
        by_frame = source == "file"
        fields["prompts"] = [prompt_fields(one, frame=by_frame, time_s=prompts_time_s) for one in prompts]
    if overlay:
        fields["overlay"] = True
    if mode is not None:
        fields["mode"] = mode
    if carry is not None:
        fields["carry"] = carry
    if multimask:
        fields["multimask"] = True
    if not second_look:
        fields["second_look"] = False
    if score_threshold is not None:
        fields["score_threshold"] = float(score_threshold)
    if refine is not None:
        fields["refine"] = dataclasses.asdict(refine) if dataclasses.is_dataclass(refine) else dict(refine)  # type: ignore[arg-type]
    if window is not None:
        fields["window"] = [float(window[0]), float(window[1])]
    if keep:
        fields["keep"] = True
    return fields


def remote_files(listed: Any) -> tuple[RemoteFile, ...]:
    """The files of a ``done`` message; raises BadMessageError."""
    try:
        return tuple(
            RemoteFile(str(one["name"]), str(one["url"]), int(one["bytes"]), str(one["media_type"]))
            for one in listed or ()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessageError("the server sent a list of files that this client cannot read") from error


def result_from(
    message: Mapping[str, Any],
    attachments: Sequence[tuple[Mapping[str, Any], bytes]],
    latency_ms: float | None,
) -> RemoteResult:
    """A ``result`` message and its attachments as the type that the local model gives; raises BadMessageError."""
    try:
        objects = tuple(
            ObjectResult(
                object_id=int(one["object_id"]),
                region=_region(one),
                score=float(one["score"]),
                state=one["state"],
                candidates=tuple(
                    Candidate(region=_region(other), score=float(other["score"])) for other in one.get("candidates", ())
                ),
            )
            for one in message["objects"]
        )
        return RemoteResult(
            index=int(message["index"]),
            time_s=float(message["time_s"]),
            width=int(message["width"]),
            height=int(message["height"]),
            objects=objects,
            timings_ms={str(stage): float(ms) for stage, ms in message.get("timings_ms", {}).items()},
            overlay_jpeg=_attached(attachments, "overlay"),
            picture_jpeg=_attached(attachments, "picture"),
            latency_ms=latency_ms,
            dropped=int(message.get("dropped", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadMessageError("the server sent a result that this client cannot read") from error


def _attached(attachments: Sequence[tuple[Mapping[str, Any], bytes]], kind: str) -> bytes | None:
    return next((data for header, data in attachments if header["type"] == kind), None)


def _region(one: Mapping[str, Any]) -> MaskRegion:
    try:
        return MaskRegion.from_rle(one["rle"])
    except StreamsegError as error:
        raise BadMessageError(f"the server sent a mask that is none: {error.message}") from error
