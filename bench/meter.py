"""What a command costs: CPU-seconds of every process that it starts, and the peak memory of each kind of process.

Ray's workers are no children of the command: the raylet starts them, ignores their end (so the kernel adds their time
to nobody's) and they outlive it for a moment. So the command runs in a control group of its own, whose clock counts
every process in it. Where none can be made, descendants are kept by making this process their reaper, and their clocks
are read ten times a second: what a process uses after its last reading is lost then.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

EVERY_S = 0.1
LINGER_S = 60.0
"""How long what the command leaves behind may live."""

CHILD, WORKER, DRIVER = "decoder child", "stage worker", "driver"

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_CHILD_SUBREAPER = 36
_KINDS = (
    ("/raylet/raylet ", "raylet"),
    ("curation.media.sandbox.child", CHILD),
    ("ray::MapWorker", WORKER),
    ("ray::_Worker", WORKER),
    ("ray::Coordinator", "coordinator"),
    ("ray::_StatsActor", "Ray Data actors"),
    ("ray::_AutoscalingCoordinatorActor", "Ray Data actors"),
    ("ray::ActorLocationTracker", "Ray Data actors"),
    ("gcs_server", "gcs"),
    ("Agent", "Ray agents"),
    ("agent", "Ray agents"),
    ("monitor.py", "Ray monitors"),
    ("dashboard.py", "Ray dashboard"),
    ("ray::", "Ray tasks"),
    ("default_worker.py", "Ray tasks"),
)
"""What a command line holds, and what that process is called; the first that fits."""


@dataclass(slots=True)
class Cost:
    """CPU in seconds, memory in bytes.

    `cpu_s` is the control group's clock where `exact`, else the sum of `cpu_by`: the clocks read, by kind of process.
    `start_*`: until the first decoder child of a stage worker was seen; the driver's own tries a detector out before.
    `worker_peak`: a stage worker and its decoder child together.
    """

    exact: bool
    code: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    start_cpu_s: float | None = None
    start_wall_s: float | None = None
    driver_peak: int = 0
    worker_peak: int = 0
    child_peak: int = 0
    total_peak: int = 0
    cpu_by: dict[str, float] = field(default_factory=dict)
    processes_by: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Process:
    """One process as it was last seen; `born` tells two holders of one pid apart."""

    pid: int
    parent: int
    born: int
    role: str
    cpu_s: float
    rss: int


def run(command: Sequence[str], output: Path, env: dict[str, str] | None = None) -> Cost:
    """Run `command` to its end and to the end of all that it started; what it says goes to `output`."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    group = _make_group()
    try:
        with output.open("wb") as out:
            started = time.monotonic()
            main = subprocess.Popen(_inside(group, command), stdout=out, stderr=subprocess.STDOUT, env=env)
        watch = _Watch(main, group, started)
        try:
            return watch.to_the_end()
        except BaseException:
            watch.end()
            raise
    finally:
        if group:
            group.rmdir()


class _Watch:
    """Looks at the processes of one command until the last is gone."""

    def __init__(self, main: subprocess.Popen[bytes], group: Path | None, started: float) -> None:
        self._main, self._group, self._started = main, group, started
        self._seen: dict[tuple[int, int], _Process] = {}
        self._cost = Cost(exact=group is not None)

    def to_the_end(self) -> Cost:
        ended: float | None = None
        while True:
            alive = self._look()
            if _reap(self._main) and ended is None:
                ended = time.monotonic()
                self._cost.wall_s, self._cost.code = ended - self._started, self._main.returncode
            if ended is not None and not alive:
                return self._sum()
            if ended is not None and time.monotonic() - ended > LINGER_S:
                raise RuntimeError(f"still there long after the command: {sorted({p.role for p in alive})}")
            time.sleep(EVERY_S)

    def end(self) -> None:
        """Kill what is left of the command, so that nothing outlives an interrupted benchmark."""
        until = time.monotonic() + 10
        while (pids := self._pids()) and time.monotonic() < until:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            _reap(self._main)
            time.sleep(EVERY_S)

    def _look(self) -> list[_Process]:
        everyone = [self._known(found) for pid in self._pids() if (found := _read(pid, self._main.pid)) is not None]
        cost = self._cost
        cost.total_peak = max(cost.total_peak, sum(p.rss for p in everyone))
        memory = {p.pid: p.rss for p in everyone}
        workers = {p.pid for p in everyone if p.role == WORKER}
        for process in everyone:
            if process.role == DRIVER:
                cost.driver_peak = max(cost.driver_peak, process.rss)
            elif process.role == CHILD:
                cost.child_peak = max(cost.child_peak, process.rss)
                cost.worker_peak = max(cost.worker_peak, process.rss + memory.get(process.parent, 0))
                if cost.start_wall_s is None and process.parent in workers:
                    cost.start_wall_s, cost.start_cpu_s = time.monotonic() - self._started, self._clock()
        return everyone

    def _known(self, process: _Process) -> _Process:
        """Keeps it; one whose command line tells nothing just now is what it was before."""
        key = process.pid, process.born
        if process.role == "other" and key in self._seen:
            process = replace(process, role=self._seen[key].role)
        self._seen[key] = process
        return process

    def _pids(self) -> list[int]:
        if self._group is not None:
            return [int(line) for line in (self._group / "cgroup.procs").read_text().split()]
        return _descendants(os.getpid())

    def _clock(self) -> float:
        if self._group is None:
            return sum(p.cpu_s for p in self._seen.values())
        for line in (self._group / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise RuntimeError("cpu.stat without usage_usec")

    def _sum(self) -> Cost:
        cost = self._cost
        for process in self._seen.values():
            cost.cpu_by[process.role] = cost.cpu_by.get(process.role, 0.0) + process.cpu_s
            cost.processes_by[process.role] = cost.processes_by.get(process.role, 0) + 1
        cost.cpu_s = self._clock()
        return cost


def _reap(main: subprocess.Popen[bytes]) -> bool:
    """Collect whatever has ended; whether `main` has."""
    while main.returncode is None or _has_children():
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        if pid == main.pid:
            main.returncode = os.waitstatus_to_exitcode(status)
    return main.returncode is not None


def _has_children() -> bool:
    return bool(Path(f"/proc/self/task/{os.getpid()}/children").read_text().strip())


def _read(pid: int, main: int) -> _Process | None:
    """The process as it is now; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, IndexError):
        return None
    if fields[0] == "Z":
        return None
    role = DRIVER if pid == main else next((name for mark, name in _KINDS if mark in line), "other")
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return _Process(pid, int(fields[1]), int(fields[19]), role, cpu_s, pages * _PAGE)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, layer = list[int](), {root}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer}
        found += layer
    return found


def _make_group() -> Path | None:
    """A new group of the unified hierarchy below our own, or None where that is not allowed."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    ours = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not roots or not ours:
        return None
    group = Path(roots[0]) / ours[0].strip("/") / f"bench-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError:
        return None
    if "usage_usec" in (group / "cpu.stat").read_text() and os.access(group / "cgroup.procs", os.W_OK):
        return group
    group.rmdir()
    return None


def _inside(group: Path | None, command: Sequence[str]) -> list[str]:
    """The command behind a shell that joins the group first and is then replaced by it."""
    if group is None:
        return list(command)
    return ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]


def cpu_model() -> str:
    """The processor's name, as the kernel has it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def say(line: str) -> None:
    """Progress, for whoever waits: standard output is the report's."""
    print(line, file=sys.stderr, flush=True)
