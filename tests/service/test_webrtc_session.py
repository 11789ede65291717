"""The session machine on the source ``webrtc``: frames of two ways, signals among them."""

from __future__ import annotations

from typing import Any

import pytest
from session_machine import RESULT, Machine, said

from streamseg.errors import TooLargeError, WebrtcFailedError
from streamseg.service.effects import CameraFrame, Drop, Segment, SendResult
from streamseg.service.protocol.server_messages import Answer

ANSWER = Answer(type="answer", sdp="v=0", request_id="o")


class Live(Machine):
    def camera(self, rtp_timestamp: int = 0) -> list[str]:
        picture: Any = None
        return said(self.session.camera(CameraFrame(picture, rtp_timestamp)))


@pytest.fixture
def live() -> Live:
    machine = Live()
    machine.start("webrtc")
    assert machine.work() == ["ready"]
    return machine


def test_frames_of_both_ways_are_one_line(live: Live) -> None:
    assert live.camera(7) == []
    first = live.session.take()
    assert isinstance(first, Segment)
    live.clock.now += 0.5
    live.camera(8)
    # The newest frame wins, whichever way it came.
    assert live.frame(request_id="f") == ["drop 1"]
    (effect,) = live.session.ended(RESULT)
    assert isinstance(effect, SendResult)
    assert effect.camera
    assert (effect.message.index, effect.message.rtp_timestamp, effect.message.time_s) == (0, 7, 0.0)
    second = live.session.take()
    assert isinstance(second, Segment)
    (effect,) = live.session.ended(RESULT)
    assert isinstance(effect, SendResult)
    assert not effect.camera
    assert (effect.message.index, effect.message.rtp_timestamp, effect.message.request_id) == (2, None, "f")
    assert (effect.message.time_s, effect.message.dropped) == (0.5, 1)


def test_offers_go_before_the_waiting_frame(live: Live) -> None:
    live.camera()
    assert live.take() == "Segment"
    live.camera()
    live.text("offer", sdp="v=0", request_id="o")
    live.end(RESULT)
    assert live.take() == "Negotiate"
    assert live.end(ANSWER) == ["answer"]
    assert live.take() == "Segment"


def test_what_comes_of_an_offer_is_told(live: Live) -> None:
    live.text("offer", sdp="v=0", request_id="o")
    assert live.take() == "Negotiate"
    (effect,) = live.session.ended(WebrtcFailedError("no way through"))
    assert (effect.message.code, effect.message.request_id) == ("webrtc_failed", "o")
    live.text("candidate", candidate="candidate:1", sdp_mid="0")
    assert live.take() == "Negotiate"
    assert live.end() == []


def test_a_fault_of_every_frame_is_told_once(live: Live) -> None:
    told = []
    for _ in range(3):
        live.camera()
        live.take()
        told.append(live.session.ended(TooLargeError("too many pixels")))
    assert [len(effects) for effects in told] == [1, 1, 1]
    assert isinstance(told[1][0], Drop)
    assert isinstance(told[2][0], Drop)
    live.camera()
    live.work()
    live.camera()
    live.take()
    assert live.end(TooLargeError("again")) == ["error too_large"]


def test_the_camera_is_heard_only_while_its_session_runs() -> None:
    machine = Live()
    assert machine.camera() == []
    machine.start("frames")
    machine.work()
    machine.camera()
    assert machine.take() is None
    machine.text("stop")
    machine.start("webrtc")
    machine.work()
    machine.text("stop")
    machine.camera()
    assert machine.take() is None


def test_a_start_that_fails_orphans_no_camera_frames() -> None:
    machine = Live()
    machine.start("webrtc", request_id="s")
    machine.take()
    machine.text("offer", sdp="v=0", request_id="o")
    machine.camera()
    assert machine.end(WebrtcFailedError("off")) == ["error webrtc_failed s", "error bad_state o", "release"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"keep": True}, "bad_message"), ({"masks": "png"}, "bad_message"), ({"size_px": [11, 10]}, "too_large")],
)
def test_fields_of_other_sources_are_refused(fields: dict[str, Any], code: str) -> None:
    assert Live().start("webrtc", **fields) == [f"error {code}"]
