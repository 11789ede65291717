"""The process around the application: addresses, start, and a clean end."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from wire_client import CLICK, closing_of, open_wire, settings_for_tests

from streamseg.errors import BadSettingError
from streamseg.models.build import LoadedModel
from streamseg.service.server import Server, bind, run
from streamseg.settings import Settings


def test_a_taken_port_is_one_clear_line() -> None:
    with bind(Settings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSettingError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            bind(Settings(port=port))
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_one_clear_line(host: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        bind(Settings(host=host, port=0, insecure=True))
    assert host in caught.value.message
    assert "\n" not in caught.value.message


def test_does_not_listen_beyond_loopback_without_a_token(model: LoadedModel) -> None:
    with pytest.raises(BadSettingError, match="STREAMSEG_TOKEN"):
        bind(Settings(host="0.0.0.0", port=0))
    with pytest.raises(BadSettingError, match="STREAMSEG_TOKEN"):
        run(Settings(host="0.0.0.0", port=0))


def test_the_address_is_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.service.server.load_model", lambda *_, **__: pytest.fail("loaded"))
    with bind(Settings(port=0)) as taken, pytest.raises(BadSettingError, match="taken"):
        run(Settings(port=taken.getsockname()[1]))


def test_leaves_nothing_behind(model: LoadedModel) -> None:
    def census() -> tuple[int, set[str]]:
        return len(list(Path("/proc/self/fd").iterdir())), {one.name for one in threading.enumerate()}

    async def go(server: Server) -> None:
        async with open_wire(server) as wire:
            await wire.segment()

    def once() -> None:
        with Server(settings_for_tests(), model) as server:
            port = server.port
            asyncio.run(go(server))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)

    once()
    before = census()
    once()
    assert census() == before


def test_websockets_are_closed_with_1012_at_the_end(model: LoadedModel) -> None:
    async def go(server: Server) -> None:
        async with open_wire(server) as idle, open_wire(server) as busy:
            await busy.start("frames", prompts=[CLICK])
            await busy.expect("ready")
            await busy.frame()
            stopping = threading.Thread(target=server.stop)
            stopping.start()

            async def listen() -> None:
                while True:
                    await busy.next()

            assert (await closing_of(listen()))[0] == 1012
            assert (await closing_of(idle.next()))[0] == 1012
            await asyncio.to_thread(stopping.join)

    server = Server(settings_for_tests(), model)
    server.start()
    engine = server.app.state.service.engine
    asyncio.run(go(server))
    assert not engine.alive


PROGRAM = """
from streamseg.service.server import run
from streamseg.settings import ModelSettings, Settings

def ready(url, model):
    print(url, model.name, flush=True)

for _ in range(2):
    run(Settings(port=0, model=ModelSettings(name="nano", device="cpu")), ready)
    print("ended", flush=True)
"""


def test_signals_end_the_server_cleanly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            url, name = process.stdout.readline().split()
            assert name == "nano"
            with urllib.request.urlopen(f"{url}/readyz", timeout=20) as answer:
                assert answer.status == 200
            process.send_signal(number)
            assert process.stdout.readline() == "ended\n"
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert rest == ""
    assert "Traceback" not in errors
    assert process.returncode == 0
