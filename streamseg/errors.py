"""Every error that a user can meet, each with a stable wire code.

A message says what was wrong and what would be right; it never holds a path of the server, a stack trace or a secret.
"""

from __future__ import annotations

from typing import ClassVar


class StreamsegError(Exception):
    """Base of all errors that are shown to users.

    ``code`` is the name that goes over the wire and never changes; ``http_status`` is used where the error answers
    an HTTP request. ``request_id`` quotes the request that failed, where the client gave one.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, request_id: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InternalError(StreamsegError):
    """A fault of the server's own; the detail is in its log, not in the message."""


class BadPromptError(StreamsegError):
    """A prompt that cannot be used: outside the frame, without label, not finite, too many points."""

    code = "bad_prompt"
    http_status = 422


class BadMessageError(StreamsegError):
    """A message that is not part of the protocol."""

    code = "bad_message"
    http_status = 400


class BadStateError(StreamsegError):
    """A message of the protocol at a moment when it makes no sense, such as a second start."""

    code = "bad_state"
    http_status = 409


class UnsupportedVersionError(StreamsegError):
    """A protocol version that this server does not speak."""

    code = "unsupported_version"
    http_status = 400


class UnsupportedMediaError(StreamsegError):
    """Bytes that are no image or video of an accepted format."""

    code = "unsupported_media"
    http_status = 415


class TooLargeError(StreamsegError):
    """Input over a limit of the settings."""

    code = "too_large"
    http_status = 413


class FrameSizeError(StreamsegError):
    """A frame of another shape than the ones on which the objects are followed."""

    code = "frame_size"
    http_status = 422


class NotFoundError(StreamsegError):
    """A file, object or job that does not exist."""

    code = "not_found"
    http_status = 404


class ObjectTakenError(StreamsegError):
    """A prompt for an object of one's own, whose id somebody else has given to an object of the same stream."""

    code = "object_taken"
    http_status = 409


class UnauthorizedError(StreamsegError):
    """The token is missing or wrong."""

    code = "unauthorized"
    http_status = 401


class ForbiddenOriginError(StreamsegError):
    """A web page of another origin, or a request for another host, tried to use the service."""

    code = "forbidden_origin"
    http_status = 403


class OfferRefusedError(StreamsegError):
    """A WebRTC offer that can be read, of something that is not taken here."""

    code = "offer_refused"
    http_status = 406


class PatchRefusedError(StreamsegError):
    """A change of a WebRTC connection that is not made; a new connection is the way."""

    code = "patch_refused"
    http_status = 422


class RateLimitedError(StreamsegError):
    """More messages per second than the settings allow."""

    code = "rate_limited"
    http_status = 429


class OverloadedError(StreamsegError):
    """The queue or the number of sessions is at its limit; try again after ``retry_after_s``."""

    code = "overloaded"
    http_status = 503

    def __init__(self, message: str, *, request_id: str | None = None, retry_after_s: float | None = 1.0) -> None:
        super().__init__(message, request_id=request_id, retry_after_s=retry_after_s)


class SessionGoneError(StreamsegError):
    """A session to resume that is not kept (any more): it has ended, or its client was away for too long."""

    code = "session_gone"
    http_status = 410


class CancelledWorkError(StreamsegError):
    """The session ended before this work was done."""

    code = "cancelled"
    http_status = 409


class ModelUnavailableError(StreamsegError):
    """An unknown model, or one whose checkpoint cannot be had."""

    code = "model_unavailable"
    http_status = 503


class BadCheckpointError(StreamsegError):
    """A checkpoint that is damaged, unsafe or does not fit its config."""

    code = "bad_checkpoint"
    http_status = 500


class BadSettingError(StreamsegError):
    """A setting, flag or environment variable with an impossible value."""

    code = "bad_setting"
    http_status = 500


class OutOfMemoryError(StreamsegError):
    """The accelerator ran out of memory for this session."""

    code = "out_of_memory"
    http_status = 503


class WebrtcFailedError(StreamsegError):
    """Camera frames cannot come over WebRTC (any more); the session goes on, and takes frames over its websocket."""

    code = "webrtc_failed"
    http_status = 503


class ConnectionLostError(StreamsegError):
    """No server answers, or the connection to it broke."""

    code = "connection_lost"
    http_status = 503


class AddressRefusedError(StreamsegError):
    """An address that may not be opened, or one of a kind that cannot be."""

    code = "address_refused"
    http_status = 403


class StreamUnavailableError(StreamsegError):
    """A network stream that cannot be had: no such host, no answer, wrong password, no such stream.

    ``retry_after_s`` is set where the reason may pass by itself.
    """

    code = "stream_unavailable"
    http_status = 502
