"""HLS: parts in their order and at their pace, and playlists that want to go elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from media.make_video import number_of, picture
from media.network_servers import HttpServer, Watcher, listener, send
from streamseg.errors import (
    AddressRefusedError,
    StreamsegError,
    TooLargeError,
)
from streamseg.media.addresses import AddressRule
from streamseg.media.network import Connected, Ended, Lost, NetworkOptions, NetworkStream

LOOPBACK = AddressRule(["127.0.0.1"])
PARTS, FPS = 20, 10
PLAYLIST = "application/vnd.apple.mpegurl"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Parts of one second each, with numbered pictures, as FFmpeg cuts them."""
    folder = tmp_path_factory.mktemp("hls")
    options = {"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "%03d.ts")}
    with av.open(str(folder / "all.m3u8"), "w", format="hls", options=options) as output:
        stream: Any = output.add_stream("libx264", rate=FPS, options={"g": str(FPS), "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(PARTS * FPS):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        output.mux(stream.encode(None))
    return [path.read_bytes() for path in sorted(Path(folder).glob("*.ts"))]


def playlist(names: list[str], first: int = 0, ended: bool = True, target_s: int = 1) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{target_s}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for name in names:
        lines += ["#EXTINF:1.0,", name]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""]).encode()


def tagged(tag: str) -> bytes:
    return playlist(["0.ts"]).replace(b"#EXTINF", f"{tag}\n#EXTINF".encode(), 1)


def pages(parts: list[bytes]) -> dict[str, Any]:
    return {f"/live/{i}.ts": (lambda handler, part=part: send(handler, part)) for i, part in enumerate(parts)}


def watch(url: str, enough: Any = lambda _: False, rule: AddressRule | None = LOOPBACK) -> Watcher:
    watcher = Watcher(NetworkStream(url, rule=rule, options=NetworkOptions(read_timeout_s=3.0)), enough)
    assert watcher.in_time
    return watcher


def test_a_playlist_with_an_end(parts: list[bytes]) -> None:
    text = playlist([f"{i}.ts?part" for i in range(3)])
    served = {**pages(parts), "/live/index.m3u8": lambda handler: send(handler, text, PLAYLIST)}
    with HttpServer(served) as server:
        began_s = time.monotonic()
        watcher = watch(f"{server.origin}/live/index.m3u8?token=1")
        took_s = time.monotonic() - began_s
    numbers = [number_of(one.frame().rgb) for one in watcher.pictures]
    assert numbers == list(range(len(numbers)))
    assert 28 <= len(numbers) <= 33
    assert np.allclose(np.diff([one.time_s for one in watcher.pictures]), 0.1, atol=0.01)
    assert took_s > 2.5
    assert isinstance(watcher.events[0], Connected)
    assert watcher.events[1:] == [Ended()]


def test_a_live_playlist_begins_near_its_end_and_comes_at_its_pace(parts: list[bytes]) -> None:
    began_s = time.monotonic()

    def live(handler: Any) -> None:
        last = 3 + int(time.monotonic() - began_s)
        names = [f"{i}.ts" for i in range(last - 3, min(last, len(parts)))]
        send(handler, playlist(names, first=last - 3, ended=False), PLAYLIST)

    shown_s: list[float] = []

    def enough(watcher: Watcher) -> bool:
        if watcher.pictures:
            shown_s.append(time.monotonic())
        return len(watcher.pictures) >= 45

    master = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nindex.m3u8\n"
    served = {
        **pages(parts),
        "/live/index.m3u8": live,
        "/live/master.m3u8": lambda handler: send(handler, master, PLAYLIST),
    }
    with HttpServer(served) as server:
        watcher = watch(f"{server.origin}/live/master.m3u8", enough)
    numbers = [number_of(one.frame().rgb) for one in watcher.pictures]
    assert numbers[0] >= 20
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert not watcher.of(Lost)
    # Parts come as a whole; pictures do not.
    assert shown_s[-1] - shown_s[0] > 3.0
    assert sum(step < 0.02 for step in np.diff(shown_s)) < len(shown_s) / 2


@pytest.mark.parametrize(
    "name",
    [
        "file://{file}",
        "file:{file}",
        "{file}",
        "data:video/mp2t;base64,RwAA",
        "concat:{file}|{file}",
        "subfile,,start,0,end,0,,:{file}",
        "pipe:0",
        "tcp://127.0.0.2:{port}/a.ts",
        "crypto+http://127.0.0.2:{port}/a.ts",
        "rtsp://127.0.0.2:{port}/a.ts",
        "ftp://127.0.0.2:{port}/a.ts",
    ],
)
def test_parts_are_fetched_over_http_or_not_at_all(name: str, parts: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(parts[0])
    with listener("127.0.0.2") as (port, was_visited):
        text = playlist([name.format(file=tmp_path / "a.ts", port=port)])
        with HttpServer({"/live/index.m3u8": lambda handler: send(handler, text, PLAYLIST)}) as server:
            # Even where anything may be opened.
            with pytest.raises(StreamsegError):
                watch(f"{server.origin}/live/index.m3u8", rule=None)
            assert all(path.startswith("/") for path in server.asked)
        assert not was_visited()


@pytest.mark.parametrize("inner", ["part", "playlist", "key", "map"])
def test_a_playlist_leads_only_where_one_may_go(inner: str) -> None:
    with listener("127.0.0.2") as (port, was_visited):
        other = f"http://127.0.0.2:{port}/a"
        text = {
            "part": playlist([f"{other}.ts"]),
            "playlist": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{other}.m3u8\n".encode(),
            "key": tagged(f'#EXT-X-KEY:METHOD=AES-128,URI="{other}"'),
            "map": tagged(f'#EXT-X-MAP:URI="{other}.mp4"'),
        }[inner]
        with (
            HttpServer({"/live/index.m3u8": lambda handler: send(handler, text, PLAYLIST)}) as server,
            pytest.raises(AddressRefusedError, match="may not be opened"),
        ):
            watch(f"{server.origin}/live/index.m3u8")
        assert not was_visited()


def test_a_password_is_sent_to_its_own_host_only(parts: list[bytes]) -> None:
    heard: list[str | None] = []

    def foreign(handler: Any) -> None:
        heard.append(handler.headers.get("Authorization"))
        send(handler, parts[0])

    def wants_login(handler: Any) -> None:
        if handler.headers.get("Authorization") is None:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", "Basic")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        send(handler, text, PLAYLIST)

    with (
        HttpServer({"/a.ts": foreign}, "127.0.0.2") as other,
        HttpServer({"/live/index.m3u8": wants_login, "/live/0.ts": lambda handler: send(handler, parts[0])}) as server,
    ):
        text = playlist(["0.ts", f"{other.origin}/a.ts"])
        watch(f"http://user:secret@127.0.0.1:{server.port}/live/index.m3u8", rule=AddressRule(["127.0.0.0/8"]))
    assert heard == [None]


def test_a_playlist_that_comes_in_small_pieces(parts: list[bytes]) -> None:
    def slow(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", PLAYLIST)
        handler.end_headers()
        text = playlist(["0.ts"])
        for piece in (text[:3], text[3:]):
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(0.2)

    with HttpServer({**pages(parts), "/live/index.m3u8": slow}) as server:
        watcher = watch(f"{server.origin}/live/index.m3u8")
    # It has an end, which is no loss.
    assert watcher.events[1:] == [Ended()]


def test_an_endless_playlist() -> None:
    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", PLAYLIST)
        handler.end_headers()
        handler.wfile.write(playlist([], ended=False))
        while not handler.server_closing.is_set():
            handler.wfile.write(b"#EXTINF:1,\n0.ts\n" * 1000)

    with (
        HttpServer({"/live/index.m3u8": endless}) as server,
        pytest.raises(TooLargeError, match="playlist is longer"),
    ):
        watch(f"{server.origin}/live/index.m3u8")


def test_a_playlist_that_never_has_news() -> None:
    text = playlist([], ended=False)
    with (
        HttpServer({"/live/index.m3u8": lambda handler: send(handler, text, PLAYLIST)}) as server,
        pytest.raises(StreamsegError),
    ):
        watch(f"{server.origin}/live/index.m3u8")
    assert len(server.asked) < 50
