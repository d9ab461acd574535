"""The Landlock part of the decoder's cell: which files stay readable, no file writable, no TCP, no signal outwards.

One part of `confine`; the seccomp filter is the other. Each version of Landlock's interface knows more: files (1),
moving between folders (2), truncating (3), TCP (4), devices' ioctl (5), signals and abstract Unix sockets (6). What the
kernel lacks of it is what the seccomp filter refuses as well.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, the same on every architecture."""

_ASK_VERSION, _PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 1, 38
WRITE_FILE, READ_FILE, READ_DIR, IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 15
_FILES = (1 << 13) - 1
"""All file rights of version 1, from executing to making links."""

_REFER, _TRUNCATE = 1 << 13, 1 << 14
_TCP, _SCOPES = 0b11, 0b11
"""Bind and connect; abstract Unix sockets and signals."""


def version() -> int:
    """The version of Landlock's interface that this kernel has; 0 for none, or one that is switched off."""
    return max(0, _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)))


def restrict(readable: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Bind this thread, and those that it starts; gives the version used. OSError where the kernel refuses.

    `readable`: folders and files that may be read; `devices`: nodes that may be used in every way. Names that do not
    exist are left out.
    """
    known = version()
    handled = _FILES | (_REFER if known >= 2 else 0) | (_TRUNCATE if known >= 3 else 0)
    handled |= IOCTL_DEV if known >= 5 else 0
    # struct landlock_ruleset_attr; a kernel takes a longer one where what it does not know is zero
    attributes = struct.pack("QQQ", handled, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    rules = _called(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(rules, path, READ_FILE | READ_DIR)
        for path in devices:
            _allow(rules, path, (READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV) & handled)
        if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _called(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)
    return known


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= ~READ_DIR
        beneath = struct.pack("=Qi", rights, place)
        _called(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _called(number: int, *arguments: object) -> int:
    answer = _libc().syscall(number, *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
