"""The decoder child as its parent sees it: started, asked, watched, ended. `sandbox.py` turns its answers into results.

Requests go over a Unix socket, because a descriptor of the video goes with them; answers come back through a pipe. The
child inherits no environment (no keys, no tokens) but what a GPU's driver must know.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from curation.contract import Reason, Verdict
from curation.errors import UserError
from curation.media.plan import Limits
from curation.media.sandbox import faults
from curation.media.sandbox.cell.confine import Level
from curation.media.sandbox.protocol import UNLIKELY, Message, Setup, receive, send

_ROOT = str(Path(__file__).parents[3])
_START_S = 120.0
_LOOK_S = 0.02
"""How often a child that has closed its answers is looked at, whether it has ended."""

MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
"""Keep freed pictures for the next ones: by default glibc gives them back and the kernel clears new pages."""

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})
"""Signals that no decoder sends itself: the kernel's, which lacks memory, or a person's."""

_LEVEL = TypeAdapter(Level)
_OF_GPUS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")


class Ended(Exception):
    """The child cannot go on; carries why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Decoder:
    """The process, the socket that it is asked through and the pipe that it answers through."""

    def __init__(self, setup: Setup) -> None:
        """Start it and wait until it is ready. `UserError` where it does not start: no video is to blame for that."""
        self.setup = setup
        self.served = 0
        self.spent = False
        """Whether a video has brought it to its memory limit: what it holds then, the next video would lack."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        # Linux counts what a process used before its exec, too: as much as ours.
        self._inherited_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._asked, theirs = socket.socketpair()
        with theirs:
            self.process = _spawned(setup, theirs, self._errors)
        assert self.process.stdout is not None
        self._out = self.process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._deadline = time.monotonic() + _START_S
        try:
            self.level = self._greeting()
        except BaseException:
            self.kill()
            raise

    def ask(
        self, kind: str, body: dict[str, Any], limits: Limits, progress: Callable[[int], None], video: int | None = None
    ) -> Iterator[Message]:
        """Send one request and yield the answers up to its end; raises `Ended` when a limit is met.

        `video`: a descriptor of the file that the request is about; it stays the caller's. Blobs of a request stand in
        `body` under "blobs" and are sent as such.
        """
        self.served += 1
        used = int(_cpu_seconds(self.process.pid))
        soft = used + int(limits.cpu_s) + 1
        # Only the soft limit moves: a hard one could not be raised again for the next request.
        resource.prlimit(self.process.pid, resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        end = time.monotonic() + limits.wall_s
        for message in self._talk(kind, body, limits, end, video):
            if message.kind == "end":
                return
            if message.kind == "progress":
                progress(int(message.body))
            else:
                self.spent = self.spent or (message.kind == "verdict" and message.body["reason"] == Reason.MEMORY_LIMIT)
                yield message

    def _talk(
        self, kind: str, body: dict[str, Any], limits: Limits, end: float, video: int | None
    ) -> Iterator[Message]:
        """Send a request and yield whatever comes, until `end` at the latest; every wait has a deadline."""
        try:
            self._deadline = min(end, time.monotonic() + limits.silence_s)
            self._send(kind, body, video)
            while True:
                self._deadline = min(end, time.monotonic() + limits.silence_s)
                yield receive(self._read)
        except TimeoutError:
            raise Ended(_timed_out(limits, end, f"{kind}: no progress")) from None
        except (ConnectionError, EOFError):
            raise Ended(self._autopsy(limits, end)) from None

    def _send(self, kind: str, body: dict[str, Any], video: int | None) -> None:
        """The request, before the deadline, else TimeoutError: a child that does not read fills the socket."""
        request = _Request(self._asked, self._deadline)
        self._asked.settimeout(request.left())
        socket.send_fds(self._asked, [b"\0"], [] if video is None else [video])
        send(request, kind, {k: v for k, v in body.items() if k != "blobs"}, body.get("blobs", ()))

    def kill(self) -> None:
        """End the process and close what it was reached through."""
        self.process.kill()
        self.process.wait()
        for stream in (self._asked, self._out, self._errors):
            stream.close()
        self._selector.close()

    def _greeting(self) -> Level:
        """What the child says when it is ready: how far it is confined."""
        try:
            message = receive(self._read)
            if message.kind != "refused":
                return message.read(_LEVEL)
            cause, remedy = str(message.body["cause"]), str(message.body["remedy"])
        except TimeoutError:
            raise _not_started(f"no sign of it in {_START_S:g} s") from None
        except (EOFError, *UNLIKELY):
            raise _not_started(self._last_words()) from None
        raise UserError(cause, remedy)

    def _read(self, size: int) -> bytes:
        """Exactly `size` bytes before the deadline, else TimeoutError; EOFError when the child is gone."""
        data = bytearray()
        while len(data) < size:
            left = self._deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise TimeoutError
            part = os.read(self._out.fileno(), min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def _autopsy(self, limits: Limits, end: float) -> Verdict:
        """What ended a child that has closed its answers; one that lives on is ended at the deadline."""
        found = self._reaped(os.WNOHANG)
        while found is None and time.monotonic() < self._deadline:
            time.sleep(_LOOK_S)
            found = self._reaped(os.WNOHANG)
        if found is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self._reaped(0)
            return _timed_out(limits, end, "it answers no more and does not end")
        code, usage = found
        if -code == signal.SIGXCPU:
            return Verdict(Reason.CPU_LIMIT, float(limits.cpu_s))
        if usage.ru_maxrss > max(0.8 * limits.memory_mb * 1024, self._inherited_kb):
            return Verdict(Reason.MEMORY_LIMIT, float(limits.memory_mb))
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if -code in _FROM_OUTSIDE:
            return Verdict(
                Reason.WORKER_LOST, detail=f"{name}: the decoder was ended from outside, for want of memory?"
            )
        return Verdict(Reason.CRASHED, float(-code), f"{name} {self._last_words()}".strip())

    def _reaped(self, options: int) -> tuple[int, resource.struct_rusage] | None:
        """The exit code of the process and what it used; None where it has not ended (with `os.WNOHANG`)."""
        pid, status, usage = os.wait4(self.process.pid, options)
        if not pid:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return self.process.returncode, usage

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@dataclass(frozen=True, slots=True)
class _Request:
    """What a request is written to, before the deadline (of the monotonic clock), else TimeoutError."""

    asked: socket.socket
    deadline: float

    def write(self, data: bytes, /) -> None:
        self.asked.settimeout(self.left())
        self.asked.sendall(data)  # the timeout is that of all of it

    def flush(self) -> None:
        """Nothing is held back."""

    def left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _timed_out(limits: Limits, end: float, how: str) -> Verdict:
    return Verdict(Reason.TIMED_OUT, limits.wall_s if time.monotonic() >= end else limits.silence_s, how)


def _not_started(why: str) -> UserError:
    return UserError(
        f"the decoder's process does not start: {why or 'it ended without a word'}", "see `ziggurat doctor`"
    )


_STARTER: list[ThreadPoolExecutor] = []
"""One thread that starts all children and lives as long as this process. The kernel ends a child with the *thread* that
started it (`confine.die_with`), and the thread that asks may be one of a pool.
"""

os.register_at_fork(after_in_child=_STARTER.clear)


def _spawned(setup: Setup, stdin: socket.socket, errors: Any) -> subprocess.Popen[bytes]:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: no module comes from the working folder, which anybody may write to.
            [sys.executable, "-P", "-m", "curation.media.sandbox.child", json.dumps(asdict(setup))],
            stdin=stdin.fileno(),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(setup.gpu),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )

    if not _STARTER:
        _STARTER.append(ThreadPoolExecutor(1, "decoder-starter"))
    return _STARTER[0].submit(start).result()


def _environment(gpu: bool) -> dict[str, str]:
    kept = {
        "PYTHONPATH": _ROOT,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # One thread at the start: the cell binds the one that enters it and those that it starts (see `confine`).
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "LC_ALL": "C.UTF-8",
        **MEMORY,
    }
    # Containers of GPU machines put the driver's libraries on a path of their own.
    for name in ("LD_LIBRARY_PATH", faults.SWITCH, *(_OF_GPUS if gpu else ())):
        if os.environ.get(name):
            kept[name] = os.environ[name]
    return kept


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
