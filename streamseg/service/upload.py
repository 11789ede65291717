"""The rules of a file that comes in pieces: their order, their sizes, and how many may be on their way. No I/O here."""

from __future__ import annotations

from streamseg.errors import BadMessageError, BadStateError, TooLargeError
from streamseg.service.protocol.client_messages import CHUNK_BYTES, SHARED_SOURCES, WINDOW_BYTES, ChunkMessage, Start
from streamseg.service.protocol.server_messages import SessionLimits

# Room for the header of a piece in the longest message that is taken.
HEADER_ROOM_BYTES = 512

_FILE_FIELDS = ("name", "size_bytes", "sampling", "video", "backwards")


def check_start(start: Start, limits: SessionLimits) -> None:
    """Raise what is wrong with the fields of ``start`` that say something about a file, or contradict one."""
    if start.source != "file":
        # Streams have names too.
        fields = [name for name in _FILE_FIELDS if name != "name" or start.source not in SHARED_SOURCES]
        given = [name for name in fields if name in start.model_fields_set]
        if given:
            raise BadMessageError(f'{given[0]} is for the source "file"')
        if any(prompt.time_s is not None for prompt in start.prompts):
            raise BadMessageError('the time_s of a prompt is for the source "file"; name its frame')
        return
    if start.backwards and start.mode != "track":
        raise BadMessageError('backwards is for the mode "track"')
    if start.masks == "png":
        raise BadMessageError('masks "png" are for pictures; a file takes "rle", "polygons" or "none"')
    for name, value in (("overlay", start.overlay), ("keep", start.keep), ("window", start.window)):
        if value:
            raise BadMessageError(f'{name} is for pictures; the overlay of a file is the one that "video" describes')
    for prompt in start.prompts:
        check_prompt_moment(prompt.frame, prompt.time_s)
    sampling = start.sampling
    if sampling is not None:
        if sampling.fps is not None and sampling.every != 1:
            raise BadMessageError("sampling takes every or fps, not both")
        if sampling.end_s is not None and not (sampling.start_s or 0.0) < sampling.end_s:
            raise BadMessageError("sampling needs start_s < end_s")
    if start.size_bytes is None:
        raise BadMessageError("size_bytes is missing: a file needs its size in bytes")
    if start.size_bytes > limits.max_video_bytes:
        raise TooLargeError(f"the file has {start.size_bytes} bytes; this server takes {limits.max_video_bytes}")


def check_prompt_moment(frame: int | None, time_s: float | None) -> None:
    """Raise BadMessageError where a prompt names its frame twice."""
    if frame is not None and time_s is not None:
        raise BadMessageError("a prompt names its frame or its time_s, not both")


def chunk_bytes(limits: SessionLimits) -> int:
    """The longest piece that a session with these limits takes."""
    return min(CHUNK_BYTES, limits.max_message_bytes - HEADER_ROOM_BYTES)


class Upload:
    """How far one file has come. ``size_bytes``: what was announced, and must come exactly."""

    def __init__(self, size_bytes: int, most_bytes: int, window_bytes: int = WINDOW_BYTES) -> None:
        self._size_bytes = size_bytes
        self._most_bytes = most_bytes
        self._window_bytes = window_bytes
        self._come_bytes = 0
        self._stored_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether the last piece has come."""
        return self._come_bytes == self._size_bytes

    @property
    def come_bytes(self) -> int:
        return self._come_bytes

    def take(self, chunk: ChunkMessage) -> None:
        """The next piece has come; raises what is wrong with it."""
        length, offset = len(chunk.payload), chunk.header.offset
        if self.complete:
            raise BadStateError("the file is complete already")
        if length > self._most_bytes:
            raise BadMessageError(f"a chunk of {length} bytes; at most {self._most_bytes} are taken")
        if length == 0:
            raise BadMessageError("a chunk without bytes")
        if offset != self._come_bytes:
            raise BadMessageError(f"the chunk's offset is {offset}; the next one is {self._come_bytes}")
        end = offset + length
        if end > self._size_bytes:
            raise BadMessageError(f"the file goes beyond its size_bytes {self._size_bytes}")
        if chunk.header.last and end < self._size_bytes:
            raise BadMessageError(f"the last chunk ends at {end}; size_bytes is {self._size_bytes}")
        if end - self._stored_bytes > self._window_bytes:
            raise BadMessageError(
                f"more than {self._window_bytes} bytes are on their way; wait for received (window_bytes of ready)"
            )
        self._come_bytes = end

    def stored(self, total_bytes: int) -> None:
        """So many bytes of the file are stored."""
        self._stored_bytes = total_bytes
