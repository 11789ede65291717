"""Landlock: a process takes from itself the right to open files and TCP connections (Linux 5.13 and later).

Interface: the kernel's documentation, userspace-api/landlock.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_READ = 1 << 2 | 1 << 3  # files and folders
_WRITE = 1 << 1 | 1 << 2 | 1 << 5 | 1 << 8 | 1 << 14  # write, read, remove, create, truncate files
# How many rights on files each version of the interface knows; a right that it does not know is an error.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 0b11  # bind, connect; from version 4
_SCOPES = 0b11  # abstract unix sockets, signals to others; from version 6


def version() -> int:
    """Which version of the interface the kernel has; below 1 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict(readable: Sequence[str], writable: str | None) -> bool:
    """Leave this process nothing but reading below ``readable`` and files below ``writable``, for good.

    Also sets no_new_privs. Descriptors that are open stay usable. Returns False where the kernel has no Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs was refused")
    known = version()
    if known < 1:
        return False
    files = (1 << _FILE_RIGHTS[min(known, 5)]) - 1
    attributes = struct.pack("QQQ", files, _TCP_RIGHTS, _SCOPES)[: 24 if known >= 6 else 16 if known >= 4 else 8]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for folder in readable:
            _allow(libc, ruleset, folder, _READ)
        if writable is not None:
            _allow(libc, ruleset, writable, _WRITE & files)
        return not libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, folder: str, rights: int) -> None:
    try:
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        rule = struct.pack("=Qi", rights, fd)
        if libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "a Landlock rule was refused")
    finally:
        os.close(fd)
