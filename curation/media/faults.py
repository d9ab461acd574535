"""Faults on purpose, for the tests of promise P3: crash, hang, spin or balloon in the decoder child.

Nothing happens unless the environment says ZIGGURAT_FAULTS=1 and the source's name carries a mark below.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping

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
