"""Frames that a decoder process writes once and this process reads in place: a ring of slots in shared memory.

The process that reads makes the memory, sizes it and seals its size: a decoder that was taken over can put other
pixels into it, but cannot shrink it under the reader (which would be a bus error there) or grow it.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable

import numpy as np

from streamseg.media.frame import RgbImage

# Enough for a queue of decoded frames, one in work and one being drawn at 4K; beyond that, fewer slots.
RING_BYTES = 256 * 2**20
MAX_SLOTS = 8
MIN_SLOTS = 3
# Slots that are never lent, so that the decoder always has one to write and one to wait in.
_KEPT_SLOTS = 2


def slots_for(frame_bytes: int) -> int:
    """How many slots a ring for frames of this size has."""
    return max(MIN_SLOTS, min(MAX_SLOTS, RING_BYTES // frame_bytes))


class FrameRing:
    """The reader's side: takes a filled slot as an array without copying, and says when the slot is free again.

    A slot is lent until the array and every view of it are gone. Arrays may outlive the ring. When the consumer keeps
    so many that the decoder would starve, ``take`` returns copies instead. ``on_free(slot)`` is called once for each
    slot that was taken, from any thread and at any time, also by the garbage collector; it is held weakly.
    """

    def __init__(self, width: int, height: int, on_free: Callable[[int], None]) -> None:
        self.shape = (height, width, 3)
        self.frame_bytes = width * height * 3
        self.slots = slots_for(self.frame_bytes)
        self._on_free = weakref.WeakMethod(on_free)
        self._lent: set[int] = set()
        # Reentrant: the garbage collector may free a slot while this thread is in here.
        self._lock = threading.RLock()
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.slots * self.frame_bytes)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(self.fd, self.slots * self.frame_bytes)
        except BaseException:
            self.close()
            raise

    def take(self, slot: int) -> RgbImage:
        """The pixels of a slot that the decoder has filled. Raises ValueError for a slot that it cannot have filled."""
        with self._lock:
            if not 0 <= slot < self.slots or slot in self._lent:
                raise ValueError(f"slot {slot} of {self.slots} cannot have been filled")
            lend = len(self._lent) < self.slots - _KEPT_SLOTS
            if lend:
                self._lent.add(slot)
        # The one object that all views of this slot hang on; numpy and torch keep it alive through the buffer.
        pixels = (ctypes.c_ubyte * self.frame_bytes).from_buffer(self._memory, slot * self.frame_bytes)
        rgb = np.frombuffer(memoryview(pixels), np.uint8).reshape(self.shape)
        if lend:
            weakref.finalize(pixels, self._free, slot).atexit = False
            return rgb
        copy = rgb.copy()
        self._free(slot)
        return copy

    def _free(self, slot: int) -> None:
        with self._lock:
            self._lent.discard(slot)
        on_free = self._on_free()
        if on_free is not None:
            on_free(slot)

    def close(self) -> None:
        """Drop the descriptor; the memory itself goes with the last array on it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class FrameSlots:
    """The decoder's side: the slots as arrays to write into."""

    def __init__(self, fd: int, width: int, height: int) -> None:
        self.count = slots_for(width * height * 3)
        size = self.count * width * height * 3
        self._memory = mmap.mmap(fd, size)
        self._slots = np.frombuffer(self._memory, np.uint8).reshape(self.count, height, width, 3)

    def write(self, slot: int, rgb: RgbImage) -> None:
        """Fill one slot. ``rgb``: uint8 (H, W, 3) of the ring's size."""
        self._slots[slot] = rgb
