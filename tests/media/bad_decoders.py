"""Entry functions that a decoder process runs in tests, in the place of the real decoder: faults and attacks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from streamseg.media.untrusted_child import Task

INFO = {
    "width": 64,
    "height": 48,
    "duration_s": 1.0,
    "frame_count": 25,
    "fps": 25.0,
    "codec": "h264",
    "container": "mov",
    "has_audio": False,
    "rotation_deg": 0,
    "start_s": 0.0,
}
FRAME = {"kind": "frame", "slot": 0, "index": 0, "time_s": 0.0, "choice": "SEGMENT", "problems": []}


def _open(task: Task, problems: tuple[str, ...] = (), **changes: Any) -> int:
    """Describe a video as the real decoder does; returns the shared memory."""
    task.channel.send({"kind": "info", "info": INFO | changes, "problems": list(problems)})
    message = task.channel.receive(max_fds=1)
    assert message is not None
    return message[1][0]


def abort(task: Task) -> None:
    os.abort()


def crash_after_a_frame(task: Task) -> None:
    _open(task)
    task.channel.send(FRAME)
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(task: Task) -> None:
    raise RuntimeError("a fault of the decoder's own, with \x1b[31m what \n the file says")


def quit_early(task: Task) -> None:
    os._exit(0)


def flood_the_log(task: Task) -> None:
    for _ in range(100):
        os.write(2, b"x" * 1000)
    fail(task)


def hang(task: Task) -> None:
    time.sleep(600)


def hang_after_a_frame(task: Task) -> None:
    _open(task)
    task.channel.send(FRAME)
    time.sleep(600)


def look_alive_for_ever(task: Task) -> None:
    while True:
        task.channel.send({"kind": "alive"})
        time.sleep(0.05)


def burn(task: Task) -> None:
    while True:
        pass


def allocate(task: Task) -> None:
    blocks = []
    while True:
        blocks.append(bytearray(32 * 2**20))


def killed_for_memory(task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(task: Task) -> None:
    from streamseg.errors import TooLargeError

    raise TooLargeError("far too large")


def slow_but_alive(task: Task) -> None:
    """Longer without a frame than the stall limit, but reading on."""
    for position in range(16):
        time.sleep(0.1)
        task.source.seek(position)
        task.source.read(1)
    _open(task)
    task.channel.send({"kind": "end", "problems": []})


def say(task: Task) -> None:
    """Sends what the file itself holds, as it is."""
    task.channel._end.send(task.source.read())
    time.sleep(600)


def bad_info(task: Task) -> None:
    task.channel.send({"kind": "info", "info": INFO | json.loads(task.source.read()), "problems": []})
    time.sleep(600)


def bad_frames(task: Task) -> None:
    _open(task)
    for changes in json.loads(task.source.read()):
        task.channel.send(FRAME | changes)
    time.sleep(600)


def shrink_the_ring(task: Task) -> None:
    ring = _open(task)
    problems = []
    for size in (0, 2**30):
        try:
            os.ftruncate(ring, size)
        except OSError:
            problems.append("refused")
    task.channel.send({"kind": "end", "problems": problems})


def look_around(task: Task) -> None:
    """Tries what a decoder that was taken over would try, and reports as problems what went through."""
    parent = os.getppid()
    attempts = {
        "environment": lambda: os.environ["HOME"],
        "read": lambda: Path("/etc/passwd").read_bytes(),
        "read parent": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list": lambda: list(Path("/").iterdir()),
        "write": lambda: Path(os.fsdecode(task.source.read())).write_bytes(b"x"),
        "run": lambda: subprocess.run(["/bin/true"], check=True),
        "signal": lambda: os.kill(parent, 0),
        "connect": lambda: _connect(),
        "write the video": lambda: os.write(task.source._fd, b"x"),
        "more files": lambda: [os.dup(0) for _ in range(100)],
    }
    done = []
    for name, attempt in attempts.items():
        try:
            attempt()
            done.append(name)
        except (OSError, KeyError):
            pass
    task.channel.send({"kind": "info", "info": INFO, "problems": done or ["nothing"]})


def _connect() -> None:
    with socket.socket() as client, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
