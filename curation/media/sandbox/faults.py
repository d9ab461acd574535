"""Faults on purpose, for the tests of promises P3 and P19: what a decoder may do that fails, or that is taken over.

Nothing happens unless the environment says ZIGGURAT_FAULTS=1. A mark in the source's name makes the child crash, hang,
spin or balloon; a request of the kind "act" has it try what its cell (`cell/`) must refuse.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

SWITCH = "ZIGGURAT_FAULTS"


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    time.sleep(1e9)


def _spin() -> None:
    while True:
        pass


def _balloon() -> None:
    held: list[bytearray] = []
    while True:
        held.append(bytearray(64 << 20))


MARKS: Mapping[str, Callable[[], None]] = {
    "fault-segfault": _crash,
    "fault-hang": _hang,
    "fault-spin": _spin,
    "fault-balloon": _balloon,
}


def strike(name: str) -> None:
    """Do what the mark in `name` says, if faults are switched on."""
    if os.environ.get(SWITCH) != "1":
        return
    for mark, fault in MARKS.items():
        if mark in name:
            fault()


def act(name: str, to: Any) -> str:
    """Try the act `name` on `to`; tells "done" or the name of the error that refused it. Only where faults are on."""
    if os.environ.get(SWITCH) != "1":
        return "faults are off"
    try:
        ACTS[name](to)
    except OSError as error:
        return f"refused: {error.strerror}"
    return "done"


def _read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _list(path: str) -> None:
    os.listdir(path)


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _overwrite(path: str) -> None:
    os.close(os.open(path, os.O_RDWR))


def _connect(address: list[Any]) -> None:
    family, place = address
    with socket.socket(getattr(socket, family), socket.SOCK_STREAM) as made:
        made.connect(place if isinstance(place, str) else tuple(place))


def _listen(place: list[Any]) -> None:
    with socket.socket() as made:
        made.bind(tuple(place))


def _fork(_: None) -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _execute(program: str) -> None:
    os.execv(program, [program])


def _call(named: list[Any]) -> None:
    """A system call by its number on x86-64 and on aarch64, with arguments: for what Python has no name for."""
    x86, arm, *arguments = named
    number = x86 if platform.machine() == "x86_64" else arm
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *(ctypes.c_long(value) for value in arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


ACTS: Mapping[str, Callable[[Any], None]] = {
    "read": _read,
    "list": _list,
    "create": _create,
    "overwrite": _overwrite,
    "remove": os.unlink,
    "rename": lambda paths: os.rename(*paths),
    "link": lambda paths: os.symlink(*paths),
    "truncate": lambda path: os.truncate(path, 0),
    "mode": lambda path: os.chmod(path, 0o777),
    "folder": os.mkdir,
    "connect": _connect,
    "listen": _listen,
    "signal": lambda pid: os.kill(pid, signal.SIGCONT),
    "fork": _fork,
    "execute": _execute,
    "call": _call,
}
