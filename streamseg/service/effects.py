"""What a session asks for, and what it is told: plain values between the state machine and the socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from streamseg.errors import BadPromptError, StreamsegError
from streamseg.service.protocol.client_messages import (
    Candidate,
    ChunkMessage,
    FrameMessage,
    Offer,
    PromptRequest,
    Remove,
    Reset,
    Resume,
    Start,
    Undo,
)
from streamseg.service.protocol.server_messages import Answer, FileFields, ObjectFields, Result, ServerText

if TYPE_CHECKING:
    from av import VideoFrame

CLOSE_GOING_AWAY = 1001
CLOSE_POLICY = 1008
CLOSE_FAULT = 1011
CLOSE_RESUMED_ELSEWHERE = 4001

Edit: TypeAlias = PromptRequest | Undo | Remove | Reset
Signal: TypeAlias = Offer | Candidate


@dataclass(frozen=True, slots=True)
class Open:
    """Set up what segments, with the prompts of ``start``."""

    start: Start

    @property
    def request_id(self) -> str | None:
        return self.start.request_id


@dataclass(frozen=True, slots=True)
class Change:
    """Carry out a prompt, an undo, a removal or a reset. ``newest_frame``: index of the newest frame received."""

    request: Edit
    newest_frame: int

    @property
    def request_id(self) -> str | None:
        return self.request.request_id


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """A decoded frame of a WebRTC track. ``rtp_timestamp``: as in its packets, where it is known."""

    picture: VideoFrame
    rtp_timestamp: int | None

    @property
    def request_id(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Negotiate:
    """Take an offer, which an ``Answer`` comes of, or a candidate."""

    signal: Signal

    @property
    def request_id(self) -> str | None:
        return self.signal.request_id


@dataclass(frozen=True, slots=True)
class Segment:
    """Segment a picture."""

    frame: FrameMessage | CameraFrame
    index: int
    time_s: float

    @property
    def request_id(self) -> str | None:
        return self.frame.request_id


@dataclass(frozen=True, slots=True)
class Again:
    """Segment the kept picture again, because of the prompt or undo ``request_id``."""

    segment: Segment
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Store:
    """Write a piece of the file. ``total_bytes``: of the file, with it."""

    chunk: ChunkMessage
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Process:
    """Process the file, which is complete. Its results are told by ``Session.emit`` while it goes on."""


Work: TypeAlias = Open | Change | Negotiate | Segment | Again | Store | Process


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a ``Segment`` or ``Again`` came to. ``rejected``: prompts that did not fit, by their request ids."""

    width: int
    height: int
    timings_ms: dict[str, float]
    objects: list[ObjectFields]
    attachments: tuple[bytes, ...] = ()
    rejected: tuple[tuple[str | None, BadPromptError], ...] = ()


@dataclass(frozen=True, slots=True)
class Processed:
    """What a ``Process`` came to; also where it was ended early."""

    files: list[FileFields]
    problems: list[str]


Outcome: TypeAlias = Segmented | Processed | Answer | StreamsegError | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message."""

    message: ServerText


@dataclass(frozen=True, slots=True)
class SendResult:
    """Send a result and, right behind it, its attachments. ``camera``: of a frame that came over WebRTC."""

    message: Result
    attachments: tuple[bytes, ...]
    camera: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame gave way to a newer one; for whoever counts."""

    index: int


@dataclass(frozen=True, slots=True)
class Halt:
    """End the ``Process`` under way early; what it has so far is kept."""


@dataclass(frozen=True, slots=True)
class Amend:
    """Change what is said of the file under way, which is processed anew; what comes of it goes to
    ``Session.amended``."""

    request: Edit


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Give this websocket to the session that is to be resumed, or refuse that."""

    request: Resume


@dataclass(frozen=True, slots=True)
class Release:
    """The session is over: free what ``Open`` set up."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything before was sent."""

    code: int
    reason: str


Effect: TypeAlias = Send | SendResult | Drop | Halt | Amend | Rejoin | Release | Close
