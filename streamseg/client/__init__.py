"""The Python client of a streamseg server: ``AsyncClient``, and ``Client`` with the same methods for plain scripts.

It needs no torch: a machine without an accelerator can be a client.
"""

from streamseg.client.asynchronous import AsyncClient, AsyncImageSession, AsyncStream
from streamseg.client.blocking import Client, ImageSession, Stream
from streamseg.client.wire import RemoteResult

__all__ = [
    "AsyncClient",
    "AsyncImageSession",
    "AsyncStream",
    "Client",
    "ImageSession",
    "RemoteResult",
    "Stream",
]
