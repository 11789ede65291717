"""Many single pictures, one after the other, over one websocket to a real server process.

Counts failures, watches the server's memory and descriptors, and compares its rate with the bare predictor's:
SAM2ImagePredictor.set_image and predict on the same pictures, decoded in memory, with the same model, precision and
threads. Blocks of requests and of bare runs alternate, and medians count. The second look, which the predictor does
not take, is left out but with `--second-look`.

    python benchmarks/image_requests.py [--count 1000] [--second-look] [--model nano] [--device auto] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from footprint import descriptors, rss_mib, threads
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from websockets.asyncio.client import ClientConnection, connect

from streamseg.models.build import LoadedModel, load_model

PICTURES = 8
BLOCK = 100
BARE_RUNS_PER_BLOCK = 25
WARM_UP = 10
TIMEOUT_S = 120.0

SERVER = """
import json, logging, sys
from streamseg.service.server import run
from streamseg.settings import ModelSettings, Settings

logging.basicConfig(level="WARNING")
run(
    Settings(port=0, model=ModelSettings(**json.loads(sys.argv[1]))),
    lambda url, model: print(url, flush=True),
)
"""


@dataclass
class Memory:
    """The server process after ``requests`` requests."""

    requests: int
    rss_mib: float
    descriptors: int
    threads: int


@dataclass
class Report:
    model: str
    device: str
    width: int
    height: int
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    service_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        service, bare = median(self.service_ms), median(self.bare_ms)
        return {
            "model": self.model,
            "device": self.device,
            "size": [self.width, self.height],
            "requests": self.requests,
            "failures": len(self.failures),
            "service_per_s": 1e3 / service,
            "service_ms": service,
            "service_p95_ms": float(np.percentile(self.service_ms, 95)),
            "bare_per_s": 1e3 / bare,
            "bare_ms": bare,
            "service_over_bare": bare / service,
            "stages_ms": {name: median(values) for name, values in self.stages_ms.items()},
            "memory": [asdict(one) for one in self.memory],
        }


def make_pictures(width: int, height: int) -> list[tuple[bytes, NDArray[np.uint8], tuple[int, int]]]:
    """JPEG file, the same decoded, and a click, of scenes with a disc before soft noise."""
    rng = np.random.default_rng(7)
    scenes = []
    for _ in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 160, (height // 16, width // 16, 3), dtype=np.uint8))
        scene = small.resize((width, height), Image.Resampling.BICUBIC)
        radius = int(height * rng.uniform(0.1, 0.3))
        x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
        color = tuple(int(one) for one in rng.integers(160, 256, 3))
        ImageDraw.Draw(scene).ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        buffer = io.BytesIO()
        scene.save(buffer, "JPEG", quality=90)
        decoded = np.array(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
        scenes.append((buffer.getvalue(), decoded, (x, y)))
    return scenes


def measure(process: int, requests: int) -> Memory:
    return Memory(requests, rss_mib(process), descriptors(process), threads(process))


async def request(
    socket: ClientConnection, jpeg: bytes, click: tuple[int, int], report: Report, *, second_look: bool
) -> None:
    """One session: start, picture, result, done."""
    prompt = {"object_id": 1, "points_xy_px": [list(click)], "labels": [1]}
    header = b'{"type":"frame"}'
    began = time.perf_counter()
    start = {"type": "start", "version": 1, "source": "image", "prompts": [prompt], "second_look": second_look}
    await socket.send(json.dumps(start))
    await socket.send(struct.pack(">I", len(header)) + header + jpeg)
    result = None
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT_S))
        match message["type"]:
            case "result":
                result = message
            case "error":
                report.failures.append(f"{message['code']}: {message['message']}")
            case "done":
                break
    report.service_ms.append(1e3 * (time.perf_counter() - began))
    if result is None or len(result["objects"]) != 1 or not result["objects"][0]["rle"]["counts"]:
        report.failures.append("a request without its result")
        return
    for stage, ms in result["timings_ms"].items():
        report.stages_ms.setdefault(stage, []).append(ms)


def bare(model: LoadedModel, scenes: list[tuple[bytes, NDArray[np.uint8], tuple[int, int]]], runs: int) -> list[float]:
    """Milliseconds of each bare run; one click, three candidates, masks copied to the host, as the predictor does."""
    predictor = model.image_predictor()
    times = []
    with model.inference():
        for number in range(runs):
            _, rgb, click = scenes[number % len(scenes)]
            began = time.perf_counter()
            predictor.set_image(rgb)
            predictor.predict(
                point_coords=np.array([click], dtype=np.float32),
                point_labels=np.array([1], dtype=np.int32),
                multimask_output=True,
            )
            times.append(1e3 * (time.perf_counter() - began))
    return times


async def go(url: str, process: int, model: LoadedModel, report: Report, count: int, *, second_look: bool) -> None:
    scenes = make_pictures(report.width, report.height)
    address = url.replace("http", "ws", 1) + "/v1/stream"
    warm_up = Report(report.model, report.device, report.width, report.height)
    async with connect(
        address, subprotocols=["streamseg.v1"], compression=None, proxy=None, ping_interval=None
    ) as socket:
        for number in range(WARM_UP):
            jpeg, _, click = scenes[number % len(scenes)]
            await request(socket, jpeg, click, warm_up, second_look=second_look)
        await asyncio.to_thread(bare, model, scenes, WARM_UP)
        report.memory.append(measure(process, 0))
        while report.requests < count:
            for number in range(min(BLOCK, count - report.requests)):
                jpeg, _, click = scenes[number % len(scenes)]
                await request(socket, jpeg, click, report, second_look=second_look)
                report.requests += 1
            report.memory.append(measure(process, report.requests))
            report.bare_ms += await asyncio.to_thread(bare, model, scenes, BARE_RUNS_PER_BLOCK)
    await asyncio.sleep(0.5)
    report.memory.append(measure(process, report.requests))


def table(summary: dict[str, Any]) -> str:
    width, height = summary["size"]
    lines = [
        f"{summary['requests']} pictures of {width} x {height}, {summary['model']} on {summary['device']}",
        f"failures             {summary['failures']}",
        f"service              {summary['service_ms']:8.1f} ms  {summary['service_per_s']:7.2f} /s"
        f"   p95 {summary['service_p95_ms']:.1f} ms",
        f"bare predictor       {summary['bare_ms']:8.1f} ms  {summary['bare_per_s']:7.2f} /s",
        f"service over bare    {summary['service_over_bare']:8.2f}",
        "stages, ms           " + ", ".join(f"{name} {ms:.1f}" for name, ms in summary["stages_ms"].items()),
        "",
        "requests    RSS MiB   descriptors   threads",
    ]
    for one in summary["memory"]:
        lines.append(f"{one['requests']:8d}  {one['rss_mib']:9.1f}   {one['descriptors']:11d}   {one['threads']:7d}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--second-look", action="store_true", help="as clients get it unless they say otherwise")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    wanted = {"name": chosen.model, "device": chosen.device, "threads": chosen.threads}
    if chosen.checkpoint is not None:
        wanted["checkpoint"] = str(chosen.checkpoint)
    server = subprocess.Popen([sys.executable, "-c", SERVER, json.dumps(wanted)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url:
            return 1
        model = load_model(chosen.model, checkpoint=chosen.checkpoint, device=chosen.device, threads=chosen.threads)
        report = Report(model.name, str(model.device), *chosen.size)
        asyncio.run(go(url, server.pid, model, report, chosen.count, second_look=chosen.second_look))
    finally:
        server.terminate()
        server.wait(30)
    summary = report.summary()
    print(table(summary))
    for failure in report.failures[:10]:
        print("failed:", failure)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
