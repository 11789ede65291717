"""Where a model computes, in which precision and with how many threads."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal

import torch

from streamseg.errors import BadSettingError

Precision = Literal["fp32", "bf16"]

_MAX_THREADS = 16
"""More CPU threads than this slow a model of this size down."""


def cuda_available() -> bool:
    """Whether a CUDA device can be used; a driver too old for this torch counts as none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*CUDA.*", category=UserWarning)
        return torch.cuda.is_available()


def pick_device(device: str = "auto") -> torch.device:
    """The device of that name.

    Args:
        device: ``auto`` (CUDA, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        BadSettingError: an unknown name, or a device that this machine does not have.
    """
    if device == "auto":
        if cuda_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda", "mps"):
        raise BadSettingError(f"There is no device {device[:32]!r}; use auto, cpu, cuda, cuda:N or mps.")
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if cuda_available() else 0
        if (chosen.index or 0) >= count:
            found = f"this machine has {count} of them" if count else "torch finds no CUDA device on this machine"
            raise BadSettingError(f"The device {device!r} cannot be used: {found}. Use --device auto or --device cpu.")
        return torch.device("cuda", chosen.index or 0)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise BadSettingError("The device 'mps' needs a Mac with Apple silicon; use --device auto or --device cpu.")
    return chosen


def pick_precision(precision: str, device: torch.device) -> Precision:
    """The precision of that name on that device.

    Args:
        precision: ``auto`` (bf16 autocast on a CUDA device that has it, else fp32), ``fp32`` or ``bf16``.

    Raises:
        BadSettingError: an unknown name, or bf16 on a device where it does not pay.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp32":
        return "fp32"
    if precision != "bf16":
        raise BadSettingError(f"There is no precision {precision[:32]!r}; use auto, fp32 or bf16.")
    if device.type == "mps":
        raise BadSettingError("The precision bf16 needs a CUDA device or a CPU; use --precision fp32.")
    return "bf16"


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity, and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return count


def set_threads(threads: int | None, device: torch.device) -> int:
    """Set how many threads torch uses on the CPU, for the whole process.

    Args:
        threads: a number from 1 on; None takes all usable CPUs up to 16, for a model on the CPU only.

    Returns:
        The number in force.

    Raises:
        BadSettingError: a number below 1 or absurdly large.
    """
    if threads is not None and not 1 <= threads <= 1024:
        raise BadSettingError(f"threads must lie between 1 and 1024, not {threads}.")
    if threads is None and device.type == "cpu":
        threads = min(usable_cpus(), _MAX_THREADS)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
