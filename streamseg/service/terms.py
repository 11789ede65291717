"""What the settings of a server and the start of a client come to together."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from streamseg.pipeline import StreamOptions
from streamseg.service.protocol.server_messages import IceServerFields, SessionLimits

if TYPE_CHECKING:
    from streamseg.service.protocol.client_messages import Start
    from streamseg.settings import Limits, Settings


def lowered(limits: Limits, start: Start) -> Limits:
    """The limits that hold for a session."""
    return limits.lowered(start.limits.model_dump(exclude_none=True))


def told(limits: Limits) -> SessionLimits:
    """What a client hears of the limits."""
    return SessionLimits(**{name: getattr(limits, name) for name in SessionLimits.model_fields})


def stream_options(settings: Settings, start: Start) -> StreamOptions:
    """How the frames of a session are segmented."""
    refine = {} if start.refine is None else start.refine.model_dump(exclude_none=True)
    return StreamOptions(
        mode=start.mode,
        carry=start.carry,
        multimask=start.multimask,
        second_look=start.second_look and start.source == "image",
        score_threshold=start.score_threshold,
        refine=dataclasses.replace(settings.refine, **refine),
        track=settings.track,
    )


def ice_servers(settings: Settings) -> list[IceServerFields]:
    """The STUN and TURN servers that a client may use."""
    return [
        IceServerFields(
            urls=server.urls,
            username=server.username,
            credential=None if server.credential is None else server.credential.get_secret_value(),
        )
        for server in settings.webrtc.ice_servers
    ]
