"""What this machine has: processors, memory, room for Ray and for scratch files, GPUs. `ziggurat doctor` shows it.

Nothing heavy is imported. Inside a container its limits count, not the host's numbers: they are what a run gets.
"""

from __future__ import annotations

import csv
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_NVML_NAME_BYTES = 96


@dataclass(frozen=True, slots=True)
class Gpu:
    """`driver` is empty where only its library was found and not the program."""

    name: str
    memory_bytes: int
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a file system or of memory; `total` 0 where it is not there."""

    total: int
    free: int


def cpus(cgroup: Path = _CGROUP) -> float:
    """Processors that this process may use: its affinity, or the container's share where that is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return min(float(allowed), int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return float(allowed)


def memory(cgroup: Path = _CGROUP) -> Room:
    """Memory of the machine, or of the container where that is less."""
    import psutil

    found = psutil.virtual_memory()
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return Room(found.total, found.available)
    return Room(min(limit, found.total), max(0, min(limit - used, found.available)))


def shared_memory() -> Room:
    """/dev/shm, where Ray keeps objects; containers get 64 MB of it unless told."""
    return disk("/dev/shm") if os.path.isdir("/dev/shm") else Room(0, 0)


def scratch() -> Room:
    """The temporary folder: Ray's session and clips on their way."""
    return disk(tempfile.gettempdir())


def disk(path: str) -> Room:
    usage = shutil.disk_usage(path)
    return Room(usage.total, usage.free)


def gpus() -> list[Gpu]:
    """NVIDIA's GPUs by `nvidia-smi`, or by the driver's library where the program is not there (many containers)."""
    if shutil.which("nvidia-smi"):
        try:
            return _by_program()
        except (OSError, ValueError, subprocess.SubprocessError):
            pass  # the program without a working driver: so the library will say
    try:
        return _by_library(ctypes.CDLL("libnvidia-ml.so.1"))
    except (OSError, AttributeError):
        return []


def _by_program() -> list[Gpu]:
    ask = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    told = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    rows = [row for row in csv.reader(told.splitlines(), skipinitialspace=True) if row]
    return [Gpu(name, _megabytes(total), driver) for name, total, driver in rows]


def _megabytes(text: str) -> int:
    return int(text) << 20 if text.strip().isdigit() else 0  # "[N/A]" on boards that share the host's memory


def _by_library(nvml: ctypes.CDLL) -> list[Gpu]:
    if nvml.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        found = (_device(nvml, index) for index in range(count.value))
        return [gpu for gpu in found if gpu is not None]
    finally:
        nvml.nvmlShutdown()


def _device(nvml: ctypes.CDLL, index: int) -> Gpu | None:
    device, name = ctypes.c_void_p(), ctypes.create_string_buffer(_NVML_NAME_BYTES)
    sizes = (ctypes.c_ulonglong * 3)()  # total, free, used
    calls: tuple[Callable[[], int], ...] = (
        lambda: nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)),
        lambda: nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NVML_NAME_BYTES)),
        lambda: nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(sizes)),
    )
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), sizes[0])


def ray_tokens() -> tuple[bool, str]:
    """Whether Ray asks for a token, and in words where that comes from. The token itself is never read."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode not in (None, "token"):
        return False, f"RAY_AUTH_MODE={mode}: whoever reaches a port of the cluster can run code on it"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True, "token, from RAY_AUTH_TOKEN"
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    if Path(path).expanduser().is_file():
        return True, f"token, from {path}"
    return True, "token, made when a local Ray first starts"
