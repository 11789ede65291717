"""What a process holds: memory, descriptors, threads, tensors, Python objects."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Footprint:
    """This process at one moment. ``tensor_bytes``: of their memory, shared memory counted once; ``objects``: those
    that the garbage collector knows, without what taking a Footprint leaves behind."""

    rss_mib: float
    descriptors: int
    threads: int
    tensors: int
    tensor_bytes: int
    objects: int

    @classmethod
    def now(cls) -> Footprint:
        # Each time the collector lets go of one more level of nested tuples of plain values.
        for _ in range(4):
            gc.collect()
        held = gc.get_objects()
        # Not isinstance: it asks the objects themselves, and some of torch's answer with a warning.
        tensors = [one for one in held if issubclass(type(one), torch.Tensor)]
        storages = {storage.data_ptr(): storage.nbytes() for storage in (one.untyped_storage() for one in tensors)}
        return cls(
            rss_mib=round(rss_mib("self"), 1),
            descriptors=descriptors("self"),
            threads=threads("self"),
            tensors=len(tensors),
            tensor_bytes=sum(storages.values()),
            # A storage that was looked at keeps its Python object for as long as it lives.
            objects=sum(type(one) not in (cls, torch.UntypedStorage) for one in held),
        )


def rss_mib(pid: int | str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def descriptors(pid: int | str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int | str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
