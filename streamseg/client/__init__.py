"""The Python client of a streamseg server: ``AsyncClient``, and ``Client`` with the same methods for plain scripts.

It needs no torch: a machine without an accelerator can be a client.
"""

from streamseg.client.asynchronous import AsyncClient
from streamseg.client.blocking import Client
from streamseg.client.kept import AsyncImageSession
from streamseg.client.live import AsyncStream
from streamseg.client.opened import ImageSession, Recording, Stream
from streamseg.client.recorded import AsyncRecording, RemoteProgress, RemoteSummary
from streamseg.client.wire import RemoteFile, RemoteResult

__all__ = [
    "AsyncClient",
    "AsyncImageSession",
    "AsyncRecording",
    "AsyncStream",
    "Client",
    "ImageSession",
    "Recording",
    "RemoteFile",
    "RemoteProgress",
    "RemoteResult",
    "RemoteSummary",
    "Stream",
]
