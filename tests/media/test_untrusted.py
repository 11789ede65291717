"""UntrustedVideo: what VideoReader gives, out of a process that may crash, hang or turn hostile."""

from __future__ import annotations

import gc
import io
import math
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from streamseg.errors import (
    BadSettingError,
    CancelledWorkError,
    InternalError,
    NotFoundError,
    TooLargeError,
    UnsupportedMediaError,
)
from streamseg.media import landlock, untrusted
from streamseg.media.audio import extract_audio
from streamseg.media.decoder_channel import Channel, ChannelClosedError, MessageError
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.shared_frames import MAX_SLOTS, FrameRing
from streamseg.media.untrusted import ProcessLimits, UntrustedVideo, extract_audio_untrusted
from streamseg.media.video import VideoLimits, VideoReader

from . import bad_decoders
from .make_video import make_packets, make_video, number_of, picture

NO_DECODER = io.BytesIO(b"{}")


def with_decoder(function: Callable[..., None]) -> type[UntrustedVideo]:
    """UntrustedVideo with another entry function in its child process."""

    class Other(UntrustedVideo):
        entry = f"{bad_decoders.__name__}:{function.__name__}"

    return Other


class Decoder:
    """The side of a ring that slots are given back to."""

    def __init__(self) -> None:
        self.freed: list[int] = []

    def give_back(self, slot: int) -> None:
        self.freed.append(slot)


def descriptors() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> set[int]:
    """All child processes, dead ones included."""
    return {child.pid for child in psutil.Process().children()}


def pid_of(video: UntrustedVideo) -> int:
    assert video._decoder is not None
    return video._decoder.pid


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def clip() -> bytes:
    """60 frames, more than a ring has slots, each with its own number, and sound."""
    return make_video(frames=60, sound="aac")


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Every test ends with as many descriptors as before, and without a child process, alive or dead."""
    before, others = descriptors(), children()
    yield
    assert children() <= others
    assert descriptors() <= before


# What VideoReader gives.


@pytest.mark.parametrize(
    ("sampling", "always"),
    [
        (None, ()),
        (Sampling(every=3, hold=True), (4, 5)),
        (Sampling(fps=7.0, start_s=0.5, end_s=1.9), {20}),
    ],
)
def test_it_gives_the_frames_that_a_reader_in_this_process_gives(
    clip: bytes, sampling: Sampling | None, always: Any
) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video, VideoReader(io.BytesIO(clip)) as reader:
        assert video.info == reader.info
        count = 0
        pairs = zip(video.frames(sampling, always), reader.frames(sampling, always), strict=True)
        for (ours, choice), (theirs, wanted) in pairs:
            assert (ours.index, ours.time_s, choice) == (theirs.index, theirs.time_s, wanted)
            assert np.array_equal(ours.rgb, theirs.rgb)
            count += 1
        assert count > 5


def test_what_is_wrong_with_a_file_is_said_as_a_reader_says_it(clip: bytes) -> None:
    changing = make_packets("matroska", [(picture(i, 64 + 8 * (i > 3), 48), i / 25) for i in range(8)])
    webm = make_video("webm", "libvpx", frames=60)
    for file in (changing, webm[: len(webm) * 2 // 3]):
        with UntrustedVideo(io.BytesIO(file)) as video, VideoReader(io.BytesIO(file)) as reader:
            assert len(list(video.frames())) == len(list(reader.frames()))
            assert video.problems == reader.problems
            assert video.problems


def test_paths_and_open_files_are_read_from_their_start_and_left_as_they_were(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    with path.open("rb") as plain, tempfile.NamedTemporaryFile() as temporary, path.open("r+b") as both:
        temporary.write(clip)
        plain.seek(100)
        for source in (str(path), path, plain, temporary, both):
            with UntrustedVideo(source) as video:
                assert video.info.frame_count == 60
                assert [frame.index for frame, _ in video.frames(Sampling(every=20))] == [0, 20, 40]
        assert plain.tell() == 100
        assert plain.read(4) == clip[100:104]


def test_frames_can_be_read_again_and_the_first_reading_is_then_over(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video:
        first = video.frames()
        assert number_of(next(first)[0].rgb) == 0
        assert [number_of(frame.rgb) for frame, _ in video.frames()] == list(range(60))
        with pytest.raises(CancelledWorkError, match="closed while"):
            list(first)
    with pytest.raises(UnsupportedMediaError, match="closed; open it again"):
        video.frames()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", UnsupportedMediaError),
        (b"no video at all" * 100, UnsupportedMediaError),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", UnsupportedMediaError),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", UnsupportedMediaError),
    ],
)
def test_errors_of_the_file_are_those_of_a_reader_in_this_process(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as theirs:
        VideoReader(io.BytesIO(content))
    with pytest.raises(error) as ours:
        UntrustedVideo(io.BytesIO(content))
    assert str(ours.value) == str(theirs.value)


def test_limits_hold_on_opening_and_while_frames_are_read(clip: bytes, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="64 x 48 = 3072 pixels"):
        UntrustedVideo(io.BytesIO(clip), limits=VideoLimits(max_pixels=3000))
    with pytest.raises(TooLargeError, match="more than the 1000 bytes"):
        UntrustedVideo(io.BytesIO(clip), limits=VideoLimits(max_bytes=1000))
    (tmp_path / "clip").write_bytes(clip)
    with pytest.raises(TooLargeError, match=f"{len(clip)} bytes"):
        UntrustedVideo(tmp_path / "clip", limits=VideoLimits(max_bytes=1000))
    with UntrustedVideo(io.BytesIO(clip), limits=VideoLimits(max_frames=10)) as video:
        frames = video.frames()
        assert [next(frames)[0].index for _ in range(10)] == list(range(10))
        with pytest.raises(TooLargeError, match="more than 10 frames"):
            next(frames)


def test_a_source_that_is_no_file_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="addresses are not fetched"):
        UntrustedVideo("http://127.0.0.1/clip.mp4")
    with pytest.raises(UnsupportedMediaError, match="is a folder"):
        UntrustedVideo(tmp_path)
    with pytest.raises(UnsupportedMediaError, match="binary mode"):
        UntrustedVideo(io.StringIO("text"))  # type: ignore[arg-type]


def test_too_many_wanted_frames_are_refused(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video, pytest.raises(BadSettingError, match="at most 4096"):
        video.frames(always=range(5000))


# Shared memory.


def test_frames_that_are_kept_never_change_and_never_stop_the_decoder(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video:
        frames = [frame for frame, _ in video.frames()]
    assert [number_of(frame.rgb) for frame in frames] == list(range(60))
    assert all(frame.rgb.flags.writeable and frame.rgb.flags.c_contiguous for frame in frames)


def test_views_keep_the_slot_of_a_frame(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video:
        frames = video.frames()
        corner = next(frames)[0].rgb[24:, :8][::2].reshape(-1)
        before = corner.copy()
        for _ in frames:
            pass
    gc.collect()
    assert np.array_equal(corner, before)


def test_frames_are_not_copied_and_their_slots_are_used_again(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video:
        places = set()
        for frame, _ in video.frames():
            assert not frame.rgb.flags.owndata
            places.add(frame.rgb.ctypes.data)
            del frame
    assert len(places) <= MAX_SLOTS


def test_the_decoder_waits_for_a_slow_consumer(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip), process=ProcessLimits(stall_s=1.0)) as video:
        frames = video.frames()
        numbers = [number_of(next(frames)[0].rgb)]
        stat = Path(f"/proc/{pid_of(video)}/stat")
        time.sleep(1.2)
        # Asleep, not ended and not burning processor time.
        wait_until(lambda: stat.read_text().split()[2] == "S")
        numbers += [number_of(frame.rgb) for frame, _ in frames]
    assert numbers == list(range(60))


def test_a_slot_is_lent_once_and_only_if_it_exists() -> None:
    decoder = Decoder()
    freed = decoder.freed
    ring = FrameRing(4, 2, decoder.give_back)
    ring.close()
    rgb = ring.take(1)
    for slot in (1, -1, ring.slots):
        with pytest.raises(ValueError, match="cannot have been filled"):
            ring.take(slot)
    assert freed == []
    del rgb
    assert freed == [1]
    kept = [ring.take(slot) for slot in range(ring.slots)]
    assert sum(array.flags.owndata for array in kept) == len(freed) - 1 == 2


# Decoders that fail.


def read_all(video: UntrustedVideo) -> list[str]:
    with video:
        for _ in video.frames():
            pass
        return video.problems


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (bad_decoders.abort, r"the decoder crashed on this file \(SIGABRT\)"),
        (bad_decoders.crash_after_a_frame, r"the decoder crashed on this file \(SIGSEGV\)"),
        (bad_decoders.fail, "the decoder crashed on this file$"),
        (bad_decoders.flood_the_log, "the decoder crashed on this file$"),
        (bad_decoders.quit_early, "the decoder crashed on this file$"),
        (bad_decoders.hang, "the decoder hung on this file: no progress for 1 s"),
        (bad_decoders.hang_after_a_frame, "the decoder hung on this file: no progress for 1 s"),
        (bad_decoders.burn, r"more processor time than allowed \(1 s\)"),
        (bad_decoders.allocate, r"more memory than allowed \(1024 MiB\)"),
        (bad_decoders.killed_for_memory, "ended by the system .* most likely for want of memory"),
    ],
)
def test_a_decoder_that_fails_fails_its_input_with_its_reason(decoder: Callable[..., None], message: str) -> None:
    limits = ProcessLimits(
        stall_s=1.0 if "hang" in decoder.__name__ else 10.0,
        cpu_s=1 if decoder is bad_decoders.burn else 100,
        memory_bytes=2**30,
    )
    with pytest.raises(UnsupportedMediaError, match=message) as caught:
        read_all(with_decoder(decoder)(NO_DECODER, process=limits))
    assert "\x1b" not in str(caught.value)


def test_a_decoder_that_only_pretends_to_work_is_ended_at_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(TooLargeError, match=r"longer than the 0\.2 s that are allowed"):
        with_decoder(bad_decoders.look_alive_for_ever)(NO_DECODER, limits=VideoLimits(max_wall_s=0.2))
    assert time.monotonic() - began < 5


def test_the_decoders_own_wall_clock_limit_comes_through(clip: bytes) -> None:
    with pytest.raises(TooLargeError, match="longer than the 1e-09 s"):
        read_all(UntrustedVideo(io.BytesIO(clip), limits=VideoLimits(max_wall_s=1e-9)))


def test_a_long_way_to_the_first_frame_is_no_hang_while_the_file_is_being_read() -> None:
    slow = with_decoder(bad_decoders.slow_but_alive)
    assert read_all(slow(io.BytesIO(b"x" * 16), process=ProcessLimits(stall_s=1.2))) == []


def test_errors_of_the_decoder_keep_their_class_and_message() -> None:
    with pytest.raises(TooLargeError, match=r"^far too large$"):
        with_decoder(bad_decoders.refuse)(NO_DECODER)


def test_a_video_that_needs_more_memory_than_allowed_says_so() -> None:
    big = make_video(codec="mjpeg", pix_fmt="yuvj420p", frames=1, size=(8192, 4096))
    with pytest.raises(UnsupportedMediaError, match=r"more memory than allowed \(512 MiB\)"):
        read_all(UntrustedVideo(io.BytesIO(big), process=ProcessLimits(memory_bytes=512 * 2**20)))


def test_one_that_crashes_leaves_another_alone(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as good, UntrustedVideo(io.BytesIO(clip)) as other:
        frames = zip(good.frames(), other.frames(), strict=True)
        next(frames)
        with pytest.raises(UnsupportedMediaError, match="crashed"):
            with_decoder(bad_decoders.abort)(NO_DECODER)
        for index, ((ours, _), (theirs, _)) in enumerate(frames, 1):
            assert number_of(ours.rgb) == number_of(theirs.rgb) == index


def test_a_process_that_does_not_start_is_not_the_files_fault(caplog: pytest.LogCaptureFixture) -> None:
    class Missing(UntrustedVideo):
        entry = "streamseg.media.untrusted_child:nothing"

    with pytest.raises(InternalError, match="could not be started"):
        Missing(NO_DECODER)
    assert "nothing" in caplog.text


# Ends.


def test_closing_early_ends_the_process_at_once(clip: bytes) -> None:
    video = UntrustedVideo(io.BytesIO(clip))
    frames = video.frames()
    pid = pid_of(video)
    kept, choice = next(frames)
    assert choice is Choice.SEGMENT
    began = time.monotonic()
    video.close()
    video.close()
    assert time.monotonic() - began < 1
    assert pid not in children()
    assert number_of(kept.rgb) == 0
    with pytest.raises(CancelledWorkError):
        next(frames)


def test_leaving_the_loop_ends_the_process(clip: bytes) -> None:
    with UntrustedVideo(io.BytesIO(clip)) as video:
        frames = video.frames()
        next(frames)
        pid = pid_of(video)
        frames.close()  # type: ignore[attr-defined]
        assert pid not in children()


def test_closing_in_another_thread_wakes_a_reader_that_waits() -> None:
    video = with_decoder(bad_decoders.hang_after_a_frame)(NO_DECODER)
    frames = video.frames()
    next(frames)
    closer = threading.Timer(0.2, video.close)
    closer.start()
    with pytest.raises(CancelledWorkError):
        next(frames)
    closer.join()


def test_a_video_that_is_dropped_without_closing_takes_its_process_with_it(clip: bytes) -> None:
    video = UntrustedVideo(io.BytesIO(clip))
    pid = pid_of(video)
    assert pid in children()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del video
        gc.collect()
    assert pid not in children()


def test_the_process_outlives_the_thread_that_opened_the_video(clip: bytes) -> None:
    opened: list[UntrustedVideo] = []
    thread = threading.Thread(target=lambda: opened.append(UntrustedVideo(io.BytesIO(clip))))
    thread.start()
    thread.join()
    with opened[0] as video:
        assert len(list(video.frames())) == 60


def test_the_decoder_dies_with_the_process_that_started_it() -> None:
    """Also one that hangs, and when nothing could be cleaned up."""
    program = """
import io, sys, threading, time
sys.path[:] = sys.argv[2:]
from streamseg.media.decoder_process import DecoderProcess, ProcessLimits
decoder = DecoderProcess(sys.argv[1] + ":burn", 0, {}, ProcessLimits())
print(decoder.pid, flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", program, bad_decoders.__name__, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        stat = Path(f"/proc/{pid}/stat")
        # Processor time: it is past its imports, and burns.
        wait_until(lambda: int(stat.read_text().split()[13]) > 100)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not stat.exists() or stat.read_text().split()[2] in "ZX")


# Decoders that were taken over.


def test_a_decoder_that_was_taken_over_can_do_nothing_outside(tmp_path: Path) -> None:
    target = tmp_path / "written"
    with with_decoder(bad_decoders.look_around)(io.BytesIO(bytes(target))) as video:
        done = set(video.problems)
    # What older kernels, without Landlock or with its first versions, do not keep it from.
    version = landlock.version()
    open_to_it = set() if version >= 1 else {"read", "read parent", "list", "run"}
    open_to_it |= set() if version >= 4 else {"connect"}
    open_to_it |= set() if version >= 6 else {"signal"}
    assert done <= {"nothing"} | open_to_it
    assert not target.exists() or target.stat().st_size == 0


def test_the_shared_memory_cannot_be_resized_by_the_decoder() -> None:
    assert read_all(with_decoder(bad_decoders.shrink_the_ring)(NO_DECODER)) == ["refused"]


@pytest.mark.parametrize(
    ("decoder", "content"),
    [
        (bad_decoders.say, b"no message"),
        (bad_decoders.say, b'{"kind": "error", "code": "too_large", "message": 1}'),
        (bad_decoders.say, b'{"kind": "error", "code": "made_up", "message": "x"}'),
        (bad_decoders.bad_info, b'{"width": 1099511627776}'),
        (bad_decoders.bad_frames, b'[{}, {"slot": 0, "index": 1, "time_s": 0.1}]'),
    ],
)
def test_a_decoder_that_sends_what_none_would_send_is_ended(decoder: Callable[..., None], content: bytes) -> None:
    with pytest.raises(UnsupportedMediaError, match=r"crashed on this file$"):
        read_all(with_decoder(decoder)(io.BytesIO(content)))


@pytest.mark.parametrize(
    "data",
    [b"x", b"[]", b"[" * 60_000, b'{"kind": NaN}', b"9" * 5000, b"\xff\xfe", b"x" * 70_000],
    ids=["text", "list", "deep", "nan", "digits", "utf-8", "long"],
)  # fmt: skip
def test_data_that_is_no_message_is_refused(data: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    with theirs:
        theirs.send(data)
        with pytest.raises(MessageError):
            channel.receive(1.0)
        socket.send_fds(theirs, [b"{}"], [0])
        assert channel.receive(1.0) == ({}, [])
    with pytest.raises(ChannelClosedError):
        channel.receive(1.0)
    channel.close()


@pytest.mark.parametrize(
    "changes",
    [{"width": 0}, {"width": 2**40}, {"width": 8192, "height": 8192}, {"height": True}, {"height": 48.0},
     {"fps": math.inf}, {"duration_s": "1"}, {"codec": None}, {"rotation_deg": -1}],
    ids=repr,
)  # fmt: skip
def test_a_description_that_is_impossible_is_refused(changes: dict[str, Any]) -> None:
    good = {"kind": "info", "info": bad_decoders.INFO}
    assert untrusted._video_info(good, VideoLimits()).width == 64
    with pytest.raises(MessageError):
        untrusted._video_info(good | {"info": bad_decoders.INFO | changes}, VideoLimits())


@pytest.mark.parametrize(
    "changes",
    [{"slot": MAX_SLOTS}, {"slot": -1}, {"slot": 0.0}, {"slot": 1}, {"index": 3}, {"index": 10**9}, {"time_s": 0.5},
     {"time_s": None}, {"choice": "STOP"}, {"kind": "surprise"}],
    ids=repr,
)  # fmt: skip
def test_a_frame_that_is_impossible_is_refused(changes: dict[str, Any]) -> None:
    decoder = Decoder()
    ring = FrameRing(4, 2, decoder.give_back)
    ring.close()
    good = bad_decoders.FRAME | {"index": 4, "time_s": 0.6}
    kept = ring.take(1)
    assert untrusted._frame(good, ring, VideoLimits(), (3, 0.5))[0].index == 4
    with pytest.raises(ValueError, match=r"expected|cannot have been filled"):
        untrusted._frame(good | changes, ring, VideoLimits(), (3, 0.5))
    assert kept.shape == (2, 4, 3)


# Sound.


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_the_sound_is_what_extracting_in_this_process_gives(clip: bytes, tmp_path: Path, container: Any) -> None:
    ours, theirs = tmp_path / "ours.mka", tmp_path / "theirs.mka"
    assert extract_audio(io.BytesIO(clip), theirs, container=container, start_s=0.5, end_s=1.5)
    assert extract_audio_untrusted(io.BytesIO(clip), ours, container=container, start_s=0.5, end_s=1.5)
    assert abs(ours.stat().st_size - theirs.stat().st_size) < 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.mka", "theirs.mka"]


def test_a_file_without_sound_leaves_nothing_behind(tmp_path: Path) -> None:
    silent = make_video(frames=3)
    assert not extract_audio_untrusted(io.BytesIO(silent), tmp_path / "out.mka", container="mp4")
    assert list(tmp_path.iterdir()) == []


def test_sound_obeys_the_limits_of_its_process(clip: bytes, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="bytes"):
        extract_audio_untrusted(
            io.BytesIO(clip), tmp_path / "out.mka", container="mp4", limits=VideoLimits(max_bytes=1000)
        )
    small = ProcessLimits(written_bytes=1000)
    assert not extract_audio_untrusted(io.BytesIO(clip), tmp_path / "out.mka", container="mp4", process=small)
    assert list(tmp_path.iterdir()) == []


def test_sound_that_is_given_up_leaves_nothing_behind(clip: bytes, tmp_path: Path) -> None:
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(CancelledWorkError, match="given up"):
        extract_audio_untrusted(io.BytesIO(clip), tmp_path / "out.mka", container="mp4", cancelled=given_up)
    assert list(tmp_path.iterdir()) == []


def test_a_video_can_be_given_up_before_it_is_described() -> None:
    given_up = threading.Event()
    threading.Timer(0.5, given_up.set).start()
    with pytest.raises(CancelledWorkError, match="given up"):
        with_decoder(bad_decoders.look_alive_for_ever)(NO_DECODER, cancelled=given_up)
