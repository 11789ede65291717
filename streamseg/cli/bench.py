"""``streamseg bench``: how long the model takes on this machine. The full measurements are in benchmarks/."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamseg.cli.console import note, say

if TYPE_CHECKING:
    import torch

    from streamseg.media.frame import RgbImage

WIDTH, HEIGHT = 1280, 720
WARM_UPS = 2


def run_bench(model: str | None, checkpoint: Path | None, device: str | None, repeat: int) -> None:
    """Measure and print medians on stdout."""
    import torch

    from streamseg.models.build import load_model
    from streamseg.segmentation.decode import Ask, decode
    from streamseg.segmentation.embedding import embed, to_model_input
    from streamseg.settings import load_settings

    chosen = {"name": model, "checkpoint": checkpoint, "device": device}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = load_settings(None, {"model": chosen} if chosen else None)
    loaded = load_model(**settings.model.model_dump(exclude={"min_work_ms"}))
    note(f"measuring, {repeat} runs each ...")
    picture = synthetic_picture()
    predictor = loaded.predictor
    with loaded.inference():

        def encode() -> object:
            return embed(predictor, to_model_input(picture, loaded.image_size, loaded.device))

        encode_ms = _median_ms(encode, repeat, loaded.device)
        embedding = embed(predictor, to_model_input(picture, loaded.image_size, loaded.device))
        decode_ms = {}
        for count in (1, 8):
            asks = tuple(
                Ask(number, points=((WIDTH * (number + 0.5) / count, HEIGHT / 2),), labels=(1,))
                for number in range(count)
            )

            def decode_all(asks: tuple[Ask, ...] = asks) -> object:
                return decode(predictor, embedding, asks, (WIDTH, HEIGHT), multimask=False)

            decode_ms[count] = _median_ms(decode_all, repeat, loaded.device)
    say(f"model      {loaded.name}, {loaded.image_size} px, {loaded.precision}")
    say(f"device     {loaded.device}: {hardware(loaded.device)}")
    say(f"software   torch {torch.__version__}, Python {platform.python_version()}")
    say(f"picture    {WIDTH} x {HEIGHT}, synthetic; medians of {repeat} runs")
    say(f"encode     {encode_ms:8.1f} ms")
    for count, ms in decode_ms.items():
        say(f"decode {count:3d} {ms:8.1f} ms   {1e3 / (encode_ms + ms):6.1f} pictures/s with {count} object(s)")


def synthetic_picture() -> RgbImage:
    """Eight discs on a gradient: uint8 (720, 1280, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([x * 120 // WIDTH, y * 120 // HEIGHT, np.full_like(x, 60)], axis=2).astype(np.uint8)
    for number in range(8):
        inside = (x - WIDTH * (number + 0.5) / 8) ** 2 + (y - HEIGHT / 2) ** 2 < 60**2
        picture[inside] = (255, 40 * (number % 4) + 60, 30 * number)
    return picture


def hardware(device: torch.device) -> str:
    """What the model runs on, in words."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} threads"


def _median_ms(work: Callable[[], object], repeat: int, device: torch.device) -> float:
    import torch

    times_ms = []
    for number in range(WARM_UPS + repeat):
        began_s = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= WARM_UPS:
            times_ms.append(1e3 * (time.perf_counter() - began_s))
    return statistics.median(times_ms)
