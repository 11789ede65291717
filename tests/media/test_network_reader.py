"""The newest picture of a stream for whoever is slower than it."""

from __future__ import annotations

import threading
import time
from threading import Event
from typing import Any

import pytest

from media.make_video import make_video, number_of
from media.network_servers import PATIENCE_S, HttpServer, begin_mjpeg, jpeg, mjpeg, send, send_part
from streamseg.errors import CancelledWorkError, StreamUnavailableError
from streamseg.media.network import NetworkOptions, Retrying
from streamseg.media.network_reader import NetworkReader
from streamseg.media.sampling import Choice, Sampling

QUICK = NetworkOptions(read_timeout_s=1.0, reconnect_max_s=0.5)


def wait_for(condition: Any) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def counted(count: int) -> Any:
    """A camera that sends so many pictures and then nothing more."""

    def page(handler: Any) -> None:
        begin_mjpeg(handler)
        for number in range(count):
            send_part(handler, jpeg(number))
        handler.server_closing.wait(PATIENCE_S)

    return page


def test_what_is_not_fetched_is_replaced_by_what_is_newer() -> None:
    with HttpServer({"/video": mjpeg(50)}) as server, NetworkReader(f"{server.origin}/video") as reader:
        assert (reader.info.width, reader.info.height, reader.info.codec) == (64, 48, "mjpeg")
        assert reader.info.duration_s is None
        assert not reader.info.has_audio
        first = reader.read()
        time.sleep(1.0)
        second, third = reader.read(), reader.read()
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.index - first.index > 5
    assert second.index < third.index
    assert number_of(second.rgb) == second.index
    assert second.time_s - first.time_s > 0.2


def test_nothing_new_in_time() -> None:
    with HttpServer({"/video": counted(1)}) as server, NetworkReader(f"{server.origin}/video") as reader:
        assert reader.read(PATIENCE_S) is not None
        assert reader.read(0.2) is None


def test_what_ends_ends() -> None:
    data = make_video("matroska", frames=5)
    with (
        HttpServer({"/clip": lambda handler: send(handler, data)}) as server,
        NetworkReader(f"{server.origin}/clip") as reader,
    ):
        frames = list(reader.frames())
    assert frames[-1][0].index == 4
    assert {choice for _, choice in frames} == {Choice.SEGMENT}


def test_sampling_chooses_among_all_pictures() -> None:
    data = make_video("matroska", frames=20, fps=10)
    with (
        HttpServer({"/clip": lambda handler: send(handler, data)}) as server,
        NetworkReader(f"{server.origin}/clip") as reader,
    ):
        frames = list(reader.frames(Sampling(every=4, start_s=0.3), always={6}))
    assert {frame.index for frame, _ in frames} <= {3, 6, 7, 11, 15, 19}
    assert len(frames) > 3


def test_a_held_picture_does_not_replace_one_to_be_segmented() -> None:
    with (
        HttpServer({"/video": mjpeg(40)}) as server,
        NetworkReader(f"{server.origin}/video") as reader,
    ):
        frames = reader.frames(Sampling(every=5, hold=True))
        next(frames)
        chosen = []
        for _ in range(4):
            time.sleep(0.4)
            chosen.append(next(frames)[1])
    assert chosen == [Choice.SEGMENT] * 4


def test_the_end_that_was_asked_for() -> None:
    with HttpServer({"/video": mjpeg(25)}) as server, NetworkReader(f"{server.origin}/video") as reader:
        frames = [frame for frame, _ in reader.frames(Sampling(end_s=0.6))]
    assert 0.2 < frames[-1].time_s < 0.6


def test_the_end_comes_even_if_the_stream_does_not_come_back() -> None:
    with HttpServer({"/video": counted(3)}) as server:
        events: list[Any] = []
        with NetworkReader(f"{server.origin}/video", options=QUICK, on_event=events.append) as reader:
            server.close()
            frames = list(reader.frames(Sampling(end_s=2.0)))
    assert frames
    assert any(isinstance(one, Retrying) for one in events)


def test_a_first_failure_is_raised() -> None:
    with HttpServer({}) as server, pytest.raises(StreamUnavailableError, match="404"):
        NetworkReader(f"{server.origin}/video")


def test_cancelling_ends_the_frames() -> None:
    cancelled = Event()
    with (
        HttpServer({"/video": counted(1)}) as server,
        NetworkReader(f"{server.origin}/video", cancelled=cancelled) as reader,
    ):
        frames = reader.frames()
        next(frames)
        threading.Timer(0.2, cancelled.set).start()
        assert list(frames) == []


def test_cancelling_ends_the_opening() -> None:
    cancelled = Event()
    threading.Timer(0.3, cancelled.set).start()
    with HttpServer({"/video": counted(0)}) as server, pytest.raises(CancelledWorkError):
        NetworkReader(f"{server.origin}/video", cancelled=cancelled)


def test_closing_ends_its_threads() -> None:
    before = set(threading.enumerate())
    with HttpServer({"/video": mjpeg()}) as server:
        reader = NetworkReader(f"{server.origin}/video")
        reader.close()
        assert reader.read() is None or reader.read() is None
    wait_for(lambda: set(threading.enumerate()) <= before)
