"""The curves of a training run, out of its `log.jsonl`, read on from where the last look ended.

A log grows to a hundred megabytes while a page asks for it every few seconds, so what was read stays, as two arrays a
curve. Of steps that a restart took again, the later ones count: where the log goes back, what it had beyond is dropped.
"""

from __future__ import annotations

import json
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pipelines.watching.folders import within
from training.lines import LOG

KEPT = 16
"""Logs that stay in memory, those last looked at."""

_PIECE, _TAIL = 8 << 20, 64 << 10
_NO_CURVE = ("kind", "step", "stopped")


@dataclass(frozen=True, slots=True)
class Curve:
    """`steps` and what was there: each point stands for the steps since the one before, their mean, least and most."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass
class Log:
    """What was read of one log. `step`: the last one; `damaged`: lines that are no JSON object with a step."""

    path: Path
    step: int = 0
    damaged: int = 0
    _read: int = 0
    _file: int = 0
    _curves: dict[str, tuple[array[int], array[float]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._curves)

    def look(self) -> None:
        """Read what has come since; another file, or a shorter one, from its beginning."""
        with self._lock, self.path.open("rb") as file:
            status = self.path.stat()
            if status.st_ino != self._file or status.st_size < self._read:
                self.step, self.damaged, self._read, self._file = 0, 0, 0, status.st_ino
                self._curves.clear()
            file.seek(self._read)
            rest = b""
            while piece := file.read(_PIECE):
                *lines, rest = (rest + piece).split(b"\n")
                self.take(lines)
                self._read += sum(len(line) + 1 for line in lines)

    def curve(self, name: str, points: int) -> Curve | None:
        """At most so many points; None where the log has no such curve."""
        with self._lock:
            if (found := self._curves.get(name)) is None:
                return None
            return _binned(found[0], found[1], points)

    def end(self, count: int) -> dict[str, float]:
        """`step` and `loss` of the last one, and the mean `seconds` of so many before it, as far as they are there."""
        with self._lock:
            found = {"step": float(self.step)} if self._curves else {}
            for name, many in (("loss", 1), ("seconds", count)):
                values = self._curves[name][1][-many:] if name in self._curves else ()
                found |= {name: sum(values) / len(values)} if values else {}
            return found

    def take(self, lines: Iterable[bytes]) -> None:
        """Add further lines."""
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            read = json.loads(line)
        except ValueError:
            read = None
        step = read.get("step") if isinstance(read, dict) else None
        if not isinstance(read, dict) or not isinstance(step, int) or not 0 <= step < 1 << 60:
            self.damaged += not isinstance(read, dict) or "step" in read  # a note without a step is sound
            return
        self._go_back(step, read)
        self.step = step
        for name, value in read.items():
            if name not in _NO_CURVE and _is_number(value):
                steps, values = self._curves.setdefault(name, (array("q"), array("d")))
                steps.append(step)
                values.append(float(value))

    def _go_back(self, step: int, read: Mapping[str, Any]) -> None:
        """Drop what the log had from this step on, of a curve that this line has a value of, or beyond it."""
        if step > self.step:
            return
        for name, (steps, values) in self._curves.items():
            at = bisect_left(steps, step if _is_number(read.get(name)) else step + 1)
            del steps[at:], values[at:]


def tail(folder: Path, count: int = 50) -> dict[str, float]:
    """As `Log.end` of a run's log, of its last piece alone."""
    if (path := within(folder, LOG)) is None:
        return {}
    log = Log(path)
    with path.open("rb") as file:
        began = file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read(_TAIL).split(b"\n")[:-1]
    log.take(lines[1:] if began else lines)  # the first is a part of one
    return log.end(count)


class Logs:
    """The logs of a service."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, Log] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Log | None:
        """The log of a run, as it is now; None where there is none yet."""
        if (path := within(folder, LOG)) is None:
            return None
        with self._lock:
            log = self._held.setdefault(path, Log(path))
            self._held.move_to_end(path)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
        try:
            log.look()
        except FileNotFoundError:
            return None
        return log


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _binned(steps: Sequence[int], values: Sequence[float], points: int) -> Curve:
    """Neighbours together, as many in each as the points ask for."""
    size = max(1, -(-len(steps) // points))
    parts = [values[at : at + size] for at in range(0, len(values), size)]
    return Curve(
        tuple(steps[min(at + size, len(steps)) - 1] for at in range(0, len(steps), size)),
        tuple(sum(part) / len(part) for part in parts),
        tuple(min(part) for part in parts),
        tuple(max(part) for part in parts),
    )
