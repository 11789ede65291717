"""A session machine without sockets: short words for what is done with it, and the states that it can be in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from wire_client import pack

from streamseg.service.effects import (
    Again,
    Amend,
    Close,
    Drop,
    Effect,
    Halt,
    Outcome,
    Release,
    Segment,
    Segmented,
    Send,
    SendResult,
)
from streamseg.service.protocol.client_messages import CHUNK_BYTES, Start
from streamseg.service.protocol.server_messages import Failure, ModelInfo, SessionLimits
from streamseg.service.session import Session

MODEL = ModelInfo(name="nano", device="cpu", reason="a test", licence="none")
RESULT = Segmented(width=4, height=3, timings_ms={"segment": 1.0}, objects=[])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _limits(start: Start) -> SessionLimits:
    return SessionLimits(
        max_objects=start.limits.max_objects or 64,
        max_points=64,
        max_image_pixels=100,
        max_image_bytes=100,
        max_message_bytes=CHUNK_BYTES + 512,
        messages_per_s=1e6,
        idle_timeout_s=1.0,
        resume_s=30.0,
        max_video_bytes=100 * CHUNK_BYTES,
        max_video_seconds=60.0,
        max_video_frames=1000,
    )


class Machine:
    """A session, and short words for what a client and a worker do with it."""

    def __init__(self, messages_per_s: float = 1e6) -> None:
        self.clock = Clock()
        self.session = Session(
            MODEL, _limits, messages_per_s=messages_per_s, clock=self.clock, new_id=lambda: "the-session"
        )

    def text(self, kind: str, **fields: Any) -> list[str]:
        return said(self.session.receive(json.dumps({"type": kind, **fields})))

    def start(self, source: str = "image", **fields: Any) -> list[str]:
        return self.text("start", version=1, source=source, **fields)

    def frame(self, **header: Any) -> list[str]:
        return said(self.session.receive(pack({"type": "frame", **header}, b"jpeg")))

    def prompt(self, **fields: Any) -> list[str]:
        return self.text("prompt", object_id=1, **fields)

    def take(self) -> str | None:
        """The kind of the next work, taken."""
        work = self.session.take()
        return None if work is None else type(work).__name__

    def chunk(self, offset: int, length: int, **header: Any) -> list[str]:
        return said(self.session.receive(pack({"type": "chunk", "offset": offset, **header}, bytes(length))))

    def end(self, outcome: Outcome = None) -> list[str]:
        return said(self.session.ended(outcome))

    def work(self, outcome: Outcome = None) -> list[str]:
        """Take the next work and end it well, unless another outcome is given."""
        work = self.session.take()
        assert work is not None
        if outcome is None and isinstance(work, Segment | Again):
            outcome = RESULT
        return self.end(outcome)

    def open(self, source: str = "image", **fields: Any) -> Machine:
        assert self.start(source, **fields) == []
        assert self.work() == ["ready"]
        return self


def said(effects: Iterable[Effect]) -> list[str]:
    """Effects in short: ``ready``, ``error bad_state``, ``result 3``, ``close 1008``, ..."""
    words = []
    for effect in effects:
        match effect:
            case Send(Failure() as failure):
                words.append(f"error {failure.code}" + (f" {failure.request_id}" if failure.request_id else ""))
            case Send(message):
                words.append(message.type)
            case SendResult(result):
                words.append(f"result {result.index}" + (f" {result.request_id}" if result.request_id else ""))
            case Close(code=code):
                words.append(f"close {code}")
            case Drop(index):
                words.append(f"drop {index}")
            case Release():
                words.append("release")
            case Halt():
                words.append("halt")
            case Amend(request):
                words.append(f"amend {request.type}")
    return words


def idle() -> Machine:
    return Machine()


def starting() -> Machine:
    machine = Machine()
    machine.start()
    return machine


def image_open() -> Machine:
    return Machine().open()


def image_in_work() -> Machine:
    machine = Machine().open()
    machine.frame()
    machine.take()
    return machine


def kept() -> Machine:
    machine = Machine().open(keep=True)
    machine.frame()
    machine.work()
    return machine


def live() -> Machine:
    return Machine().open("frames")


def live_in_work() -> Machine:
    machine = live()
    machine.frame()
    machine.take()
    return machine


def stopping() -> Machine:
    machine = live_in_work()
    machine.text("stop")
    return machine


def uploading() -> Machine:
    return Machine().open("file", size_bytes=10)


def file_in_work() -> Machine:
    machine = uploading()
    machine.chunk(0, 10, last=True)
    machine.work()
    assert machine.take() == "Process"
    return machine


def ended() -> Machine:
    machine = image_open()
    machine.frame()
    machine.work()
    return machine
