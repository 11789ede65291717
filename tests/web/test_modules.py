"""The page's modules: their own tests, run by node on masks that pycocotools wrote, and what they refer to."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from streamseg.media.containers import sniff_container
from streamseg.render import PALETTE_HEX, color_of

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "clients" / "web"
NODE = shutil.which("node")
OLDEST_NODE = 20


def node_major() -> int:
    assert NODE is not None
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"\d+", said)[0])


needs_node = pytest.mark.skipif(
    NODE is None or node_major() < OLDEST_NODE, reason=f"node {OLDEST_NODE} or later is not installed"
)


def masks() -> dict[str, NDArray[np.uint8]]:
    """uint8 (H, W) of every kind that has tripped up an RLE reader."""
    random = np.random.default_rng(7)
    disc = np.hypot(*np.mgrid[-40:40, -60:60]) < 33
    holed = np.zeros((30, 50), bool)
    holed[5:25, 10:40] = True
    holed[10:20, 15:30] = False
    long_runs = np.zeros((700, 900), bool)
    long_runs[:, 300:] = True
    corners = np.zeros((9, 7), bool)
    corners[0, 0] = corners[-1, -1] = corners[0, -1] = True
    made = {
        "noise": random.random((37, 53)) < 0.5,
        "disc": disc,
        "hole": holed,
        "long runs": long_runs,
        "corners": corners,
        "empty": np.zeros((12, 8), bool),
        "full": np.ones((12, 8), bool),
        "one pixel": np.ones((1, 1), bool),
        "checkerboard": np.indices((16, 16)).sum(0) % 2 == 0,
    }
    return {name: mask.astype(np.uint8) for name, mask in made.items()}


def run_node(arguments: list[str], cases: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    file = cwd / "cases.json"
    file.write_text(json.dumps(cases), "utf-8")
    environment = {**os.environ, "STREAMSEG_CASES": str(file)}
    return subprocess.run(
        [NODE, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, timeout=60, check=False
    )


@needs_node
def test_the_modules_pass_their_own_tests(tmp_path: Path) -> None:
    cases = {
        name: {
            "size": list(mask.shape),
            "counts": coco.encode(np.asfortranarray(mask))["counts"].decode(),
            "rows": base64.b64encode(mask.tobytes()).decode(),
        }
        for name, mask in masks().items()
    }
    ended = run_node(["--test", *sorted(str(file) for file in HERE.glob("*.test.mjs"))], cases, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_node
@pytest.mark.parametrize("name", ["noise", "disc", "one pixel", "full"])
def test_a_png_written_by_the_page_is_read_back_by_pillow(tmp_path: Path, name: str) -> None:
    mask = masks()[name]
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ decode }} from "{WEB.as_uri()}/js/rle.js";
        import {{ maskToPng }} from "{WEB.as_uri()}/js/png.js";
        const rle = JSON.parse(readFileSync(process.env.STREAMSEG_CASES));
        const png = await maskToPng(decode(rle));
        process.stdout.write(Buffer.from(await png.arrayBuffer()).toString("base64"));
    """
    rle = coco.encode(np.asfortranarray(mask))
    ended = run_node(
        ["--input-type=module", "--eval", script], {"size": rle["size"], "counts": rle["counts"].decode()}, tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    image = Image.open(io.BytesIO(base64.b64decode(ended.stdout)))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), mask * 255)


@needs_node
def test_page_and_server_accept_the_same_videos(tmp_path: Path) -> None:
    packets = bytearray(188 * 6)
    packets[::188] = b"\x47" * 6
    heads = {
        "mp4": b"\0\0\0\x18ftypisom",
        "heic": b"\0\0\0\x18ftypheic",
        "mov": b"\0\0\0\x08wide",
        "webm": b"\x1a\x45\xdf\xa3\x9f",
        "avi": b"RIFF\0\0\0\0AVI LIST",
        "wav": b"RIFF\0\0\0\0WAVEfmt ",
        "still webp": b"RIFF\0\0\0\0WEBPVP8 " + bytes(20),
        "animated webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(20),
        "gif": b"GIF89a" + bytes(20),
        "ps": b"\0\0\x01\xba" + bytes(20),
        "ts": bytes(packets),
        "ts from its middle": bytes(packets[100:]),
        "short ts": bytes(packets[:180]),
        "text": b"G is the first letter\n",
        "playlist": b"#EXTM3U\n",
        "nothing": b"",
    }
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ sniff }} from "{WEB.as_uri()}/js/containers.js";
        const heads = JSON.parse(readFileSync(process.env.STREAMSEG_CASES));
        const found = Object.entries(heads).filter(([, head]) => sniff(Buffer.from(head, "base64")) !== null);
        process.stdout.write(JSON.stringify(found.map(([name]) => name)));
    """
    cases = {name: base64.b64encode(head).decode() for name, head in heads.items()}
    ended = run_node(["--input-type=module", "--eval", script], cases, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [name for name, head in heads.items() if sniff_container(head) is not None]


def test_page_and_server_draw_objects_in_the_same_colours() -> None:
    listed = re.findall(r'"(#[0-9a-f]{6})"', (WEB / "js" / "palette.js").read_text("utf-8"))
    assert tuple(listed[: len(PALETTE_HEX)]) == tuple(PALETTE_HEX)
    assert color_of(1) == tuple(bytes.fromhex(listed[0][1:]))


def test_the_page_refers_to_nothing_outside_itself() -> None:
    """Strict policy: no address of another host, no inline script, style or handler."""
    for file in [*WEB.glob("*.html"), *WEB.glob("css/*.css"), *WEB.glob("js/*.js")]:
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), file.name
        assert not re.search(r"<script>|<style|\sstyle=|\son[a-z]+=", text), file.name
