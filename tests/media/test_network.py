"""Streams of real servers on loopback: RTSP by GStreamer; MJPEG, files and hostile answers over HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from media.make_video import is_upright, make_video, number_of
from media.network_servers import (
    HttpServer,
    RtspServer,
    Watcher,
    begin_mjpeg,
    jpeg,
    listener,
    mjpeg,
    send,
    send_part,
)
from streamseg.errors import (
    AddressRefusedError,
    BadSettingError,
    StreamsegError,
    StreamUnavailableError,
    TooLargeError,
    UnsupportedMediaError,
)
from streamseg.media.addresses import AddressRule
from streamseg.media.network import Connected, Ended, Lost, NetworkOptions, NetworkStream, Retrying

LOOPBACK = AddressRule(["127.0.0.1"])
QUICK = NetworkOptions(connect_timeout_s=10.0, read_timeout_s=1.0, reconnect_max_s=0.5)
NO_B_FRAMES = {"tune": "zerolatency", "g": "10"}


def seen(count: int) -> Callable[[Watcher], bool]:
    return lambda watcher: len(watcher.pictures) >= count


def watch(url: str, enough: Callable[[Watcher], bool], **options: Any) -> Watcher:
    watcher = Watcher(NetworkStream(url, rule=LOOPBACK, options=NetworkOptions(**options)), enough)
    assert watcher.in_time
    return watcher


def refused(url: str, error: type[StreamsegError], match: str, rule: AddressRule | None = LOOPBACK) -> None:
    options = NetworkOptions(connect_timeout_s=5.0, read_timeout_s=2.0)
    with pytest.raises(error, match=match):
        Watcher(NetworkStream(url, rule=rule, options=options), seen(1))


def grow(numbers: list[float]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of numbered pictures, 20 a second."""
    path = tmp_path_factory.mktemp("network") / "camera.mp4"
    path.write_bytes(make_video(frames=1200, fps=20, size=(160, 120), options=NO_B_FRAMES))
    return path


@pytest.fixture
def camera(clip: Path) -> Iterator[RtspServer]:
    with RtspServer(clip) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, signed by itself; and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"


class TestRtsp:
    def test_pictures_come_with_their_times(self, camera: RtspServer) -> None:
        watcher = watch(camera.url, seen(30))
        frames = [one.frame() for one in watcher.pictures]
        assert [one.index for one in frames] == list(range(len(frames)))
        assert frames[0].time_s == 0.0
        steps = [round(one.time_s / 0.05) for one in frames]
        assert np.allclose([one.time_s for one in frames], np.multiply(steps, 0.05), atol=0.005)
        first = number_of(frames[0].rgb)
        assert [number_of(one.rgb) for one in frames] == [(first + step) % 256 for step in steps]
        assert all(is_upright(one.rgb) for one in frames)
        assert watcher.events == [Connected(160, 120, "h264", "rtsp", 20.0, 0)]

    def test_over_udp(self, camera: RtspServer) -> None:
        options = NetworkOptions(rtsp_transport="udp")
        watcher = Watcher(NetworkStream(camera.url, options=options), seen(5))
        assert watcher.in_time
        assert is_upright(watcher.pictures[0].frame().rgb)

    def test_a_camera_that_comes_back(self, camera: RtspServer, clip: Path) -> None:
        def enough(watcher: Watcher) -> bool:
            if len(watcher.pictures) == 5:
                camera.close()
            if len(watcher.of(Retrying)) == 2 and not again:
                again.append(RtspServer(clip, port=camera.port))
            return len(watcher.of(Connected)) == 2 and watcher.pictures[-1].index > marks.setdefault(
                "lost", watcher.pictures[-1].index
            )

        again: list[RtspServer] = []
        marks: dict[str, int] = {}
        began_s = time.monotonic()
        try:
            watcher = Watcher(NetworkStream(camera.url, rule=LOOPBACK, options=QUICK), enough)
        finally:
            for one in again:
                one.close()
        assert watcher.in_time
        assert [one.reconnects for one in watcher.of(Connected)] == [0, 1]
        assert [one.index for one in watcher.pictures] == list(range(len(watcher.pictures)))
        times_s = [one.time_s for one in watcher.pictures]
        assert grow(times_s)
        # Over the gap time went on as it did here.
        assert 0.5 < max(np.diff(times_s)) <= time.monotonic() - began_s
        assert watcher.of(Lost)[0].reason == "the connection ended"
        assert [one.attempt for one in watcher.of(Retrying)][:2] == [1, 2]
        assert all(0 < one.in_s <= QUICK.reconnect_max_s for one in watcher.of(Retrying))

    def test_a_password(self, clip: Path) -> None:
        with RtspServer(clip, "user", "pass word") as server:
            address = f"127.0.0.1:{server.port}/camera"
            assert watch(f"rtsp://user:pass%20word@{address}", seen(3)).pictures
            for login in ("user:wrong@", ""):
                refused(f"rtsp://{login}{address}", StreamUnavailableError, r"user or password .* \(401\)")

    def test_no_such_stream(self, camera: RtspServer) -> None:
        refused(camera.url + "2", StreamUnavailableError, r"there is no such stream \(404\)")

    def test_pictures_over_the_limit(self, camera: RtspServer) -> None:
        with pytest.raises(TooLargeError, match="pixels"):
            watch(camera.url, seen(1), max_pixels=160 * 120 - 1)

    def test_a_slow_reader_does_not_fall_behind(self, tmp_path: Path) -> None:
        noise = [np.random.default_rng(i).integers(0, 255, (240, 320, 3), np.uint8) for i in range(10)]
        pictures = [noise[i % 10] for i in range(240)]
        data = make_video(size=(320, 240), fps=20, frames=240, pictures=pictures, options=NO_B_FRAMES)
        (tmp_path / "noise.mp4").write_bytes(data)
        with RtspServer(tmp_path / "noise.mp4") as server:
            began: list[float] = []

            def enough(watcher: Watcher) -> bool:
                began.append(time.monotonic())
                return began[-1] - began[0] > 8.0

            watcher = Watcher(NetworkStream(server.url, rule=LOOPBACK), enough, take_s=0.4)
        elapsed_s = began[-1] - began[0]
        # Each picture takes as long as 8 of them last: without a jump it would be 7 seconds late by now.
        assert elapsed_s - watcher.pictures[-1].time_s < 4.5
        assert not watcher.of(Lost)

    def test_a_redirect_is_not_followed(self) -> None:
        with listener("127.0.0.2") as (port, was_visited), socket.create_server(("127.0.0.1", 0)) as server:
            reply = f"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.2:{port}/x\r\n\r\n".encode()

            def answer() -> None:
                with server.accept()[0] as one:
                    one.recv(4096)
                    one.sendall(reply)
                    one.recv(4096)

            thread = threading.Thread(target=answer)
            thread.start()
            refused(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x", StreamUnavailableError, "redirects", rule=None)
            thread.join()
            assert not was_visited()

    def test_a_server_that_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"
            options = NetworkOptions(connect_timeout_s=0.5, read_timeout_s=0.5)
            with pytest.raises(StreamUnavailableError, match="no picture came for 1 s"):
                Watcher(NetworkStream(url, options=options), seen(1))

    def test_a_query_does_not_choose_the_transport(self) -> None:
        refused("rtsp://127.0.0.1:1/x?udp", StreamUnavailableError, "how it is to be transported")


class TestMjpeg:
    def test_pictures_have_the_times_of_their_coming(self) -> None:
        with HttpServer({"/video": mjpeg(20)}) as server:
            watcher = watch(f"{server.origin}/video", seen(20))
        frames = [one.frame() for one in watcher.pictures]
        assert [number_of(one.rgb) for one in frames] == [one.index for one in frames] == list(range(len(frames)))
        assert grow([one.time_s for one in frames])
        assert frames[-1].time_s > 0.5
        connected = watcher.events[0]
        assert isinstance(connected, Connected)
        assert (connected.codec, connected.container) == ("mjpeg", "mpjpeg")

    def test_a_stalled_camera_is_lost_and_tried_again(self) -> None:
        def stalls(handler: Any) -> None:
            begin_mjpeg(handler)
            for number in range(3):
                send_part(handler, jpeg(number))
            handler.server_closing.wait(30)

        with HttpServer({"/video": stalls}) as server:
            stream = NetworkStream(f"{server.origin}/video", rule=LOOPBACK, options=QUICK)
            watcher = Watcher(stream, lambda one: len(one.of(Connected)) == 2 and len(one.pictures) >= 4)
        assert watcher.of(Lost)[0] == Lost("no picture came for 1 s")
        assert [one.index for one in watcher.pictures] == list(range(len(watcher.pictures)))
        assert grow([one.time_s for one in watcher.pictures])

    @pytest.mark.parametrize("scheme", ["Basic", "Digest"])
    def test_a_password(self, scheme: str) -> None:
        camera = mjpeg()

        def guarded(handler: Any) -> None:
            if handler.headers.get("Authorization", "").startswith(scheme):
                camera(handler)
                return
            handler.send_response(401)
            challenge = 'Digest realm="camera", nonce="1", qop="auth"' if scheme == "Digest" else 'Basic realm="camera"'
            handler.send_header("WWW-Authenticate", challenge)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with HttpServer({"/video": guarded}) as server:
            assert watch(f"http://user:secret@127.0.0.1:{server.port}/video", seen(2)).pictures
            refused(f"{server.origin}/video", StreamUnavailableError, "401")

    def test_a_picture_over_the_limit(self) -> None:
        def bomb(handler: Any) -> None:
            begin_mjpeg(handler)
            while not handler.server_closing.is_set():
                send_part(handler, jpeg(1, (4000, 3000)))

        with HttpServer({"/video": bomb}) as server, pytest.raises(TooLargeError, match="pixels"):
            watch(f"{server.origin}/video", seen(1), max_pixels=1_000_000)

    def test_parts_that_are_no_pictures_are_no_sign_of_life(self) -> None:
        def fails(handler: Any) -> None:
            begin_mjpeg(handler)
            for number in range(3):
                send_part(handler, jpeg(number))
            while not handler.server_closing.wait(0.05):
                send_part(handler, b"no picture")

        with HttpServer({"/video": fails}) as server:
            stream = NetworkStream(f"{server.origin}/video", rule=LOOPBACK, options=QUICK)
            watcher = Watcher(stream, lambda one: bool(one.of(Lost)))
        assert watcher.of(Lost) == [Lost("no picture came for 1 s")]

    def test_a_later_picture_over_the_limit_is_a_loss(self) -> None:
        def bomb(handler: Any) -> None:
            begin_mjpeg(handler)
            for number in range(3):
                send_part(handler, jpeg(number))
            send_part(handler, jpeg(3, (2000, 1000)))
            handler.server_closing.wait(30)

        with HttpServer({"/video": bomb}) as server:
            watcher = watch(f"{server.origin}/video", lambda one: bool(one.of(Lost)), max_pixels=1_000_000)
        assert "pixels" in watcher.of(Lost)[0].reason

    def test_a_part_without_end(self) -> None:
        def flood(handler: Any) -> None:
            begin_mjpeg(handler)
            handler.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8")
            while not handler.server_closing.is_set():
                handler.wfile.write(b"\xff" * 2**20)

        with HttpServer({"/video": flood}) as server:
            refused(f"{server.origin}/video", TooLargeError, "64 MiB came without a picture")

    def test_pictures_of_another_size_are_scaled_to_the_first(self) -> None:
        def turns(handler: Any) -> None:
            begin_mjpeg(handler)
            send_part(handler, jpeg(1, (64, 48)))
            while not handler.server_closing.wait(0.05):
                send_part(handler, jpeg(2, (128, 96)))

        with HttpServer({"/video": turns}) as server:
            stream = NetworkStream(f"{server.origin}/video", rule=LOOPBACK)
            frames = [one.frame() for one in Watcher(stream, seen(3)).pictures]
        assert {(one.width, one.height) for one in frames} == {(64, 48)}
        assert number_of(frames[2].rgb) == 2
        assert "changes its size from 64 x 48 to 128 x 96" in stream.problems[0]


class TestFiles:
    @pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
    def test_a_file_is_read_at_its_own_pace_and_ends(self, container: str) -> None:
        start = {"movflags": "faststart"} if container == "mp4" else {}
        data = make_video(container, frames=15, fps=10, container_options=start)
        with HttpServer({"/clip": lambda handler: send(handler, data)}) as server:
            began_s = time.monotonic()
            watcher = watch(f"{server.origin}/clip", lambda _: False)
            took_s = time.monotonic() - began_s
        assert [number_of(one.frame().rgb) for one in watcher.pictures] == list(range(15))
        assert watcher.pictures[-1].time_s == pytest.approx(1.4, abs=0.01)
        assert took_s >= 1.4
        assert watcher.events[-1] == Ended()

    def test_a_camera_turned_on_its_side(self) -> None:
        data = make_video("mp4", frames=3, turn_deg=90, container_options={"movflags": "faststart"})
        with HttpServer({"/clip": lambda handler: send(handler, data)}) as server:
            watcher = watch(f"{server.origin}/clip", lambda _: False)
        first = watcher.pictures[0].frame()
        assert (first.width, first.height) == (watcher.events[0].width, watcher.events[0].height)  # type: ignore[union-attr]
        assert is_upright(first.rgb)

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"<!doctype html><html>", "no video of an accepted kind.*web page"),
            (jpeg(1), "still picture"),
            (b"", "no video of an accepted kind"),
            (b"ffconcat version 1.0\nfile /etc/passwd\n", "playlist"),
            (b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>", "playlist"),
        ],
    )
    def test_what_is_no_video(self, data: bytes, match: str) -> None:
        with HttpServer({"/clip": lambda handler: send(handler, data)}) as server:
            refused(f"{server.origin}/clip", UnsupportedMediaError, match)


class TestAddresses:
    def test_nothing_is_sent_to_a_host_that_is_not_listed(self) -> None:
        with listener("127.0.0.2") as (port, was_visited):
            for scheme in ("rtsp", "rtsps", "http", "https"):
                refused(f"{scheme}://127.0.0.2:{port}/", AddressRefusedError, "may not be opened")
            assert not was_visited()

    def test_a_name_of_loopback(self) -> None:
        with listener("127.0.0.1") as (port, was_visited):
            rule = AddressRule(["localhost", "10.0.0.0/8"])
            refused(f"http://localhost:{port}/", AddressRefusedError, "may not be opened", rule)
            assert not was_visited()

    def test_the_metadata_service(self) -> None:
        refused("http://169.254.169.254/latest/meta-data/", AddressRefusedError, "may not be opened")

    def test_http_redirects_lead_only_where_one_may_go(self) -> None:
        with listener("127.0.0.2") as (port, was_visited):

            def away(handler: Any) -> None:
                handler.send_response(302)
                handler.send_header("Location", f"http://127.0.0.2:{port}/video?x")
                handler.end_headers()

            def near(handler: Any) -> None:
                handler.send_response(302)
                handler.send_header("Location", "/video")
                handler.end_headers()

            def file(handler: Any) -> None:
                handler.send_response(302)
                handler.send_header("Location", "file:///etc/passwd")
                handler.end_headers()

            def loop(handler: Any) -> None:
                handler.send_response(302)
                handler.send_header("Location", "/loop")
                handler.end_headers()

            pages = {"/away": away, "/near": near, "/file": file, "/loop": loop, "/video": mjpeg()}
            with HttpServer(pages) as server:
                refused(f"{server.origin}/away", AddressRefusedError, "may not be opened")
                refused(f"{server.origin}/file", StreamUnavailableError, "something else than http")
                refused(f"{server.origin}/loop", StreamUnavailableError, "without end")
                assert watch(f"{server.origin}/near", seen(2)).pictures
            assert not was_visited()

    @pytest.mark.parametrize("scheme", ["rtsp", "http"])
    def test_nobody_listens(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        refused(f"{scheme}://127.0.0.1:{port}/", StreamUnavailableError, "connection refused")

    def test_strangers_get_no_udp(self) -> None:
        with pytest.raises(BadSettingError, match="TCP"):
            NetworkStream("rtsp://127.0.0.1/", rule=LOOPBACK, options=NetworkOptions(rtsp_transport="udp"))


class TestStopping:
    def test_a_first_failure_that_may_pass_is_tried_again_on_demand(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        options = NetworkOptions(patient=True, reconnect_max_s=0.5)
        watcher = Watcher(NetworkStream(f"http://127.0.0.1:{port}/", options=options), lambda one: len(one.events) == 4)
        assert [type(one) for one in watcher.events] == [Lost, Retrying, Lost, Retrying]

    def test_but_not_one_that_will_not(self) -> None:
        with HttpServer({}) as server, pytest.raises(StreamUnavailableError, match="404"):
            watch(f"{server.origin}/x", seen(1), patient=True)

    @pytest.mark.parametrize("kind", ["rtsp", "http"])
    def test_stop_ends_a_wait_for_pictures_at_once(self, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            stop = threading.Event()
            stream = NetworkStream(f"{kind}://127.0.0.1:{server.getsockname()[1]}/x")
            thread = threading.Thread(target=stream.run, args=(lambda _: None, lambda _: None, stop))
            thread.start()
            with server.accept()[0]:
                began_s = time.monotonic()
                stop.set()
                thread.join(30)
            # It may wait ten seconds for pictures, and ten for the connection.
            assert time.monotonic() - began_s < 8


class TestEncryption:
    def test_rtsps(self, clip: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        with RtspServer(clip, "-", "-", *map(str, certificate)) as server:
            url = f"rtsps://localhost:{server.port}/camera"
            refused(url, StreamUnavailableError, "certificate is not trusted")
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
            assert is_upright(watch(url, seen(5)).pictures[0].frame().rgb)
            # The address is right, its name is not the certificate's.
            refused(url.replace("localhost", "127.0.0.1"), StreamUnavailableError, "certificate is not trusted")

    def test_https(self, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        with HttpServer({"/video": mjpeg()}, certificate=certificate) as server:
            url = f"https://localhost:{server.port}/video"
            refused(url, StreamUnavailableError, "certificate is not trusted")
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
            assert watch(url, seen(3)).pictures
