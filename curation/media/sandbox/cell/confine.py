"""The decoder's cell (promise P19): what the child gives up once its libraries are loaded, and for good.

    libraries loaded -> die with the parent -> no capabilities -> Landlock -> seccomp -> first video

Untrusted bytes meet C code in the child. One that is taken over by them finds that it can open no file but libraries,
write none, make no socket, start no program and reach no other process; its video is a descriptor that the parent
opened (`handle.py`). What the kernel offers is asked, and what was reached is told to the parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.errors import UserError
from curation.media.sandbox.cell import landlock, seccomp
from curation.media.sandbox.cell.calls import allowed

Confine = Literal["best", "required"]

_PR_SET_PDEATHSIG = 1
_CAPABILITIES_V3 = 0x20080522
_PACKAGE = Path(__file__).parents[3]
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_OF_DRIVER = """
/proc/driver/nvidia /proc/devices /proc/modules /proc/version /proc/meminfo /proc/cpuinfo /proc/self /sys/devices
/sys/bus/pci /sys/class /sys/module /etc/ld.so.cache
""".split()


@dataclass(frozen=True, slots=True)
class Level:
    """What holds: the version of Landlock's interface (0: none) and whether calls are filtered. `gpu`: with devices."""

    landlock: int
    seccomp: bool
    gpu: bool = False

    @property
    def holds(self) -> bool:
        """Whether all of the promise holds: files need any Landlock, and the filter has the rest."""
        return self.landlock >= 1 and self.seccomp

    @property
    def text(self) -> str:
        """One line for people."""
        have = [f"Landlock {self.landlock}"] * (self.landlock > 0) + ["seccomp"] * self.seccomp
        if not have:
            return "not confined (no Landlock, no seccomp): one that is taken over reaches all that you reach"
        if not self.landlock:
            return "seccomp alone, no Landlock: no network, program, process or write, but every file you may read"
        if not self.seccomp:
            return f"{have[0]} alone, no seccomp: no file but its video and libraries, but sockets and processes"
        devices = "; the GPU's device nodes are open to it" if self.gpu else ""
        return f"{' and '.join(have)}: no file but its video and libraries, no network, no other process{devices}"


def level(gpu: bool = False) -> Level:
    """What this kernel offers to a process that starts now; starts nothing and gives up nothing."""
    return Level(landlock.version(), seccomp.available(), gpu)


def require(found: Level, confine: Confine) -> None:
    """`UserError` where a recipe insists on the cell and it does not hold."""
    if confine == "required" and not found.holds:
        raise UserError(
            f'sandbox.confine = "required", and decoders are {found.text}',
            'use a kernel with Landlock (5.13) and seccomp, or set confine = "best"',
        )


def die_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; end now where `parent` is gone already."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def confine(gpu: bool) -> Level:
    """Give everything up, as far as the kernel goes; tells how far that is. Call it with one thread running.

    Landlock binds the thread that calls and those that it starts: with others running already it does not count.
    """
    alone = len(os.listdir("/proc/self/task")) == 1
    offered = level(gpu)
    _drop_capabilities()
    restricted = landlock.restrict(readable(gpu), devices() if gpu else ()) if offered.landlock else 0
    if offered.seccomp:
        seccomp.load(allowed(gpu, os.getpid()))
    return Level(restricted if alone else 0, offered.seccomp, gpu)


def readable(gpu: bool) -> list[Path]:
    """What stays readable: the folders of Python's and the system's libraries, and our package; a GPU's driver."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    python = [sysconfig.get_path(kind) for kind in kinds]
    driver = [*_OF_DRIVER, *os.environ.get("LD_LIBRARY_PATH", "").split(":")] if gpu else []
    return [Path(name) for name in (*python, _PACKAGE, *_SYSTEM_LIBRARIES, *driver) if name]


def devices() -> Iterable[Path]:
    """The device nodes of NVIDIA's driver."""
    return (*Path("/dev").glob("nvidia*"), *Path("/dev").glob("dri/renderD*"))


def _drop_capabilities() -> None:
    """Of a child that runs as root, say in a container. It needs none; that of raising them is gone with the rest."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITIES_V3, 0))
    nothing = ctypes.create_string_buffer(struct.pack("6I", *[0] * 6))
    if _libc().capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
