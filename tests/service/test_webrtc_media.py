"""Video on its way in and out of a peer: timestamps, queues that do not grow, sizes, the newest overlay."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc import RTCSessionDescription
from aiortc.codecs import get_decoder, h264, vpx
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from peer_client import HEIGHT, WIDTH, Camera, counted, number_of, peer, read_counter, watch_origin

from streamseg.errors import TooLargeError
from streamseg.service.webrtc_media import (
    ASK_AGAIN_S,
    MAX_ENCODED,
    EncodedQueue,
    OverlayTrack,
    PersistentNacks,
    PromptJitterBuffer,
    bound,
    is_keyframe,
    pixels_of,
    rtp_timestamp,
    to_frame,
    to_picture,
    tune,
)
from streamseg.settings import WebrtcSettings

MAX_PIXELS = 10_000_000


@dataclass
class Codec:
    name: str
    mimeType: str = "video/VP8"


VP8 = Codec("VP8")


def shot(number: int = 0, pts: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(counted(number), format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, 90_000)
    return frame


def encoded(kind: str, count: int) -> list[bytes]:
    """Frames as aiortc's encoder makes them, put together again."""
    encoder = vpx.Vp8Encoder() if kind == "VP8" else h264.H264Encoder()
    depayload = vpx.vp8_depayload if kind == "VP8" else h264.h264_depayload
    frames = []
    for number in range(count):
        payloads, _ = encoder.encode(shot(number, 3000 * number), force_keyframe=False)
        frames.append(b"".join(depayload(one) for one in payloads))
    return frames


async def connected(sender, receiver) -> None:
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(RTCSessionDescription(sender.localDescription.sdp, "offer"))
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(RTCSessionDescription(receiver.localDescription.sdp, "answer"))


@pytest.mark.parametrize("first", [None, 2**32 - 3 * 4500], ids=["any", "wraps"])
def test_a_frame_has_the_timestamp_of_its_packets(first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter in the pixels against the timestamp that the sender wrote, frame by frame, also over its wrap."""
    if first is not None:
        monkeypatch.setattr("aiortc.rtcrtpsender.random32", lambda: first)

    async def go() -> None:
        sender, receiver, camera = peer(), peer(), Camera(fps=20)
        sender.addTrack(camera)
        watch_origin(sender, camera)
        seen: asyncio.Queue[tuple[int, float]] = asyncio.Queue()

        async def read(track) -> None:
            (transceiver,) = receiver.getTransceivers()
            while True:
                frame = await track.recv()
                stamp = rtp_timestamp(transceiver.receiver, frame.pts)
                await seen.put((read_counter(frame.to_ndarray(format="rgb24")), number_of(sender, camera, stamp)))

        reading: list[asyncio.Task[None]] = []

        def on_track(track) -> None:
            bound(receiver.getTransceivers()[0].receiver, MAX_PIXELS)
            reading.append(asyncio.create_task(read(track)))

        receiver.on("track", on_track)
        await connected(sender, receiver)
        try:
            async with asyncio.timeout(20):
                pairs = [await seen.get() for _ in range(12)]
        finally:
            reading[0].cancel()
            camera.stop()
            await sender.close()
            await receiver.close()
        assert [counter for counter, _ in pairs] == [number for _, number in pairs]

    asyncio.run(go())


@pytest.mark.parametrize("kind", ["VP8", "H264"])
def test_key_frames_are_told_from_others(kind: str) -> None:
    first, second, *_ = encoded(kind, 3)
    assert is_keyframe(kind, first)
    assert not is_keyframe(kind, second)
    assert not is_keyframe(kind, b"")


def test_the_size_of_a_picture_is_read_before_it_is_decoded() -> None:
    first, second = encoded("VP8", 2)
    assert pixels_of("VP8", first) == WIDTH * HEIGHT
    assert pixels_of("VP8", second) == pixels_of("H264", first) == pixels_of("VP8", b"\0") == 0
    waiting = EncodedQueue(threading.Event(), WIDTH * HEIGHT - 1)
    waiting.put((VP8, JitterFrame(first, 0)))
    waiting.put((VP8, JitterFrame(second, 0)))
    assert waiting.qsize() == 0


@pytest.mark.parametrize(("kind", "mime"), [("H264", "video/H264"), ("VP8", "video/VP8")])
def test_a_decoder_makes_no_larger_pictures_than_is_allowed(kind: str, mime: str) -> None:
    from aiortc import rtcrtpreceiver

    (first,) = encoded(kind, 1)
    try:
        tune(WebrtcSettings(), WIDTH * HEIGHT // 2)
        decoder = rtcrtpreceiver.get_decoder(Codec(kind, mime))
        with pytest.raises(av.FFmpegError):
            decoder.decode(JitterFrame(first, 0))
    finally:
        tune(WebrtcSettings(), MAX_PIXELS)
    assert get_decoder(Codec(kind, mime)) is not None


def test_a_decoder_that_is_behind_starts_again_at_a_key_frame() -> None:
    key, *others = encoded("VP8", 3)
    lost = threading.Event()
    waiting = EncodedQueue(lost, MAX_PIXELS)
    waiting.put((VP8, JitterFrame(key, 0)))
    for at in range(1, MAX_ENCODED):
        waiting.put((VP8, JitterFrame(others[0], at)))
    assert (waiting.qsize(), lost.is_set()) == (MAX_ENCODED, False)
    waiting.put((VP8, JitterFrame(others[1], 99)))
    assert (waiting.qsize(), lost.is_set()) == (0, True)
    waiting.put((VP8, JitterFrame(others[1], 100)))
    assert waiting.qsize() == 0
    waiting.put((VP8, JitterFrame(key, 101)))
    waiting.put((VP8, JitterFrame(others[1], 102)))
    assert [waiting.get()[1].timestamp for _ in range(2)] == [101, 102]


def test_the_end_does_not_wait_for_frames() -> None:
    (key,) = encoded("VP8", 1)
    waiting = EncodedQueue(threading.Event(), MAX_PIXELS)
    for at in range(5):
        waiting.put((VP8, JitterFrame(key, at)))
    waiting.put(None)
    assert waiting.get() is None
    with pytest.raises(queue.Empty):
        waiting.get_nowait()


def packet(number: int, timestamp: int, marker: int) -> RtpPacket:
    one = RtpPacket(sequence_number=number, timestamp=timestamp, marker=marker)
    one._data = bytes([number])
    return one


def test_a_frame_is_there_with_its_last_packet() -> None:
    jitter, theirs = PromptJitterBuffer(), JitterBuffer(512, is_video=True)
    assert jitter.add(packet(7, 100, 0)) == (False, None)
    _, frame = jitter.add(packet(8, 100, 1))
    assert frame is not None
    assert (frame.data, frame.timestamp) == (b"\7\x08", 100)
    # What it is for: aiortc's own waits for the next frame.
    theirs.add(packet(7, 100, 0))
    assert theirs.add(packet(8, 100, 1)) == (False, None)


def test_frames_behind_a_lost_packet_come_with_it() -> None:
    jitter = PromptJitterBuffer()
    assert jitter.add(packet(0, 0, 1))[1] is not None
    for number in (2, 3, 4):
        assert jitter.add(packet(number, 100 * number, 1))[1] is None
    _, frame = jitter.add(packet(1, 100, 1))
    frames = [frame]
    while frames[-1] is not None:
        frames.append(jitter.take())
    assert [one.timestamp for one in frames[:-1]] == [100, 200, 300, 400]


def test_what_is_lost_is_asked_for_until_it_comes() -> None:
    now_s = 0.0
    nacks = PersistentNacks(lambda: now_s)
    assert not nacks.add(packet(0, 0, 1))
    assert nacks.add(packet(2, 0, 1))
    now_s = 0.9 * ASK_AGAIN_S
    assert not nacks.add(packet(3, 0, 1))
    for number in (4, 5):
        now_s += ASK_AGAIN_S
        assert nacks.add(packet(number, 0, 1))
        assert nacks.missing == {1}
    now_s += ASK_AGAIN_S
    assert not nacks.add(packet(1, 0, 1))
    assert not nacks.add(packet(6, 0, 1))


def test_frames_without_marker_end_where_the_next_one_begins() -> None:
    jitter = PromptJitterBuffer()
    jitter.add(packet(0, 100, 0))
    jitter.add(packet(1, 100, 0))
    _, frame = jitter.add(packet(2, 200, 0))
    assert frame is not None
    assert frame.data == b"\0\1"


def test_frames_are_brought_to_the_size_that_was_agreed() -> None:
    frame = to_frame(shot(5), 3, 1.5, (2 * WIDTH, 2 * HEIGHT), MAX_PIXELS)
    assert (frame.width, frame.height, frame.index, frame.time_s) == (2 * WIDTH, 2 * HEIGHT, 3, 1.5)
    assert read_counter(frame.rgb) == 5
    # One that was turned is not squeezed.
    assert to_frame(shot(), 0, 0.0, (HEIGHT, WIDTH), MAX_PIXELS).width == WIDTH
    with pytest.raises(TooLargeError):
        to_frame(shot(), 0, 0.0, None, WIDTH * HEIGHT - 1)


def test_an_overlay_has_the_time_of_its_frame_and_even_sides() -> None:
    picture = to_picture(np.zeros((241, 321, 3), dtype=np.uint8), shot(pts=4500))
    assert (picture.width, picture.height, picture.format.name) == (320, 240, "yuv420p")
    assert (picture.pts, picture.time_base) == (4500, Fraction(1, 90_000))


def test_only_the_newest_overlay_is_sent() -> None:
    async def go() -> None:
        track = OverlayTrack()
        for pts in (1, 2, 3):
            track.show(shot(pts=pts))
        assert (await track.recv()).pts == 3
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        assert not waiting.done()
        track.show(shot(pts=4))
        assert (await waiting).pts == 4
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        track.stop()
        with pytest.raises(MediaStreamError):
            await waiting

    asyncio.run(go())


def test_the_bitrate_is_raised() -> None:
    tune(WebrtcSettings(max_bitrate=6_000_000), MAX_PIXELS)
    try:
        for encoder in (vpx.Vp8Encoder(), h264.H264Encoder()):
            assert encoder.target_bitrate == 2_500_000
            encoder.target_bitrate = 50_000_000
            assert encoder.target_bitrate == 6_000_000
    finally:
        tune(WebrtcSettings(), MAX_PIXELS)


def test_a_peer_that_was_closed_while_it_sent_is_no_fault_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    tune(WebrtcSettings(), MAX_PIXELS)

    async def failing(error: Exception) -> None:
        raise error

    async def go() -> None:
        for error in (ConnectionError("Cannot send encrypted data, not connected"), ValueError("a real fault")):
            await asyncio.wait([asyncio.ensure_future(failing(error))])
        gc.collect()

    asyncio.run(go())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a real fault"]
