"""What settings and a start come to together."""

from __future__ import annotations

from streamseg.service.protocol.client_messages import LowerLimits, RefineFields, Start
from streamseg.service.protocol.server_messages import SessionLimits
from streamseg.service.terms import ice_servers, lowered, stream_options, told
from streamseg.settings import load_settings


def test_a_client_may_lower_a_limit_and_never_raise_it() -> None:
    limits = load_settings(None, {"limits": {"max_objects": 8, "max_points": 8}}).limits
    start = Start(type="start", version=1, source="image", limits=LowerLimits(max_objects=2, max_points=99))
    hold = told(lowered(limits, start))
    assert (hold.max_objects, hold.max_points) == (2, 8)
    assert hold.model_dump() == told(limits).model_dump() | {"max_objects": 2}
    assert set(hold.model_dump()) == set(SessionLimits.model_fields)


def test_what_a_start_says_nothing_about_stays_as_the_settings_have_it() -> None:
    settings = load_settings(None, {"refine": {"min_area_px": 7, "max_hole_px": 5}})
    refine = RefineFields(max_hole_px=9)
    options = stream_options(settings, Start(type="start", version=1, source="frames", mode="track", refine=refine))
    assert (options.mode, options.refine.min_area_px, options.refine.max_hole_px) == ("track", 7, 9)
    plain = stream_options(settings, Start(type="start", version=1, source="frames"))
    assert plain.refine == settings.refine
    assert plain.track == settings.track


def test_clients_hear_the_credentials_of_turn_servers() -> None:
    server = {"urls": ["turn:turn.example:3478"], "username": "u", "credential": "c"}
    (told_server,) = ice_servers(load_settings(None, {"webrtc": {"ice_servers": [server]}}))
    assert told_server.model_dump() == server
