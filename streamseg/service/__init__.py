"""The network face: the wire protocol, sessions, and the ASGI application with its server."""
