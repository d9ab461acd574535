"""The sandbox: a warm child process that decodes untrusted video for one stage, within limits.

A stage asks it to `measure` or to `cut`; whatever happens in the decoder - a crash, a hang, a bomb - comes back as a
`Verdict` in bounded time, and the next video gets a fresh child. The child inherits no environment (no keys, no
tokens) and sees its source under one fixed name in a private folder.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curation.contract import Clip, Facts, Reason, Verdict
from curation.media import faults
from curation.media.found import ClipMeasure, Tally
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.wire import Message, WireError, receive, send

_FACTS = TypeAdapter(Facts)
_CLIP = TypeAdapter(ClipMeasure)
_TALLY = TypeAdapter(Tally)
_VERDICT = TypeAdapter(Verdict)
_ROOT = str(Path(__file__).parents[2])
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measuring pass found: facts (None when it never got that far), clips, the verdict if there is one."""

    facts: Facts | None
    clips: tuple[ClipMeasure, ...]
    tally: Tally
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Cuts:
    """What the cutting pass made: (clip id, MP4 bytes) for every clip unless there is a verdict."""

    media: tuple[tuple[str, bytes], ...]
    tally: Tally
    verdict: Verdict | None


class _Ended(Exception):
    """The child cannot go on; carries why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Sandbox:
    """Owns one child at a time; not for use by several threads. `close` it, or use it as a context manager."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: _Child | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def measure(
        self, path: Path, name: str, plan: MediaPlan, progress: Callable[[int], None] = lambda frames: None
    ) -> Measured:
        """One measuring pass over `path`; `name` is what the source is called. Never raises for the video's sake."""
        body = {"path": str(path), "name": name, "plan": asdict(plan), "max_pixels": self._limits.max_pixels}
        facts: Facts | None = None
        clips: list[ClipMeasure] = []
        tally, verdict = Tally(), None
        for message in self._ask("measure", body, progress):
            match message.kind:
                case "facts":
                    facts = message.read(_FACTS)
                case "clip":
                    fields = {**message.body, "samples": message.blobs}
                    clips.append(_CLIP.validate_python(fields))
                case "tally":
                    tally = message.read(_TALLY)
                case "verdict":
                    verdict = message.read(_VERDICT)
        return Measured(facts, () if verdict else tuple(clips), tally, verdict)

    def cut(
        self,
        path: Path,
        name: str,
        clips: Sequence[Clip],
        plan: MediaPlan,
        encode: Encode,
        progress: Callable[[int], None] = lambda frames: None,
    ) -> Cuts:
        """One cutting pass over `path` for `clips` of one segment. Never raises for the video's sake."""
        body = {
            "path": str(path),
            "name": name,
            "clips": [asdict(c) for c in clips],
            "plan": asdict(plan),
            "encode": asdict(encode),
            "max_pixels": self._limits.max_pixels,
        }
        media: list[tuple[str, bytes]] = []
        tally, verdict = Tally(), None
        for message in self._ask("cut", body, progress):
            match message.kind:
                case "media":
                    media.append((str(message.body), message.blobs[0]))
                case "tally":
                    tally = message.read(_TALLY)
                case "verdict":
                    verdict = message.read(_VERDICT)
        if verdict is None and [m[0] for m in media] != [c.clip_id for c in sorted(clips, key=lambda c: c.start_s)]:
            verdict = Verdict(Reason.INTERNAL, detail="the decoder answered for other clips than asked")
        return Cuts(() if verdict else tuple(media), tally, verdict)

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ask(self, kind: str, body: dict[str, Any], progress: Callable[[int], None]) -> Iterator[Message]:
        try:
            child = self._ready(body["plan"]["shots"]["detector"] if kind == "measure" else None)
            yield from child.ask(kind, body, self._limits, progress)
            if child.spent or child.served >= self._limits.recycle_after:
                self.close()
        except _Ended as ended:
            self.close()
            yield Message("verdict", asdict(ended.verdict))
        except (WireError, ValidationError) as error:
            self.close()
            yield Message("verdict", asdict(Verdict(Reason.INTERNAL, detail=str(error))))

    def _ready(self, detector: str | None) -> _Child:
        """A child that has loaded this shot detector; None: any child will do."""
        if self._child is not None and detector not in (None, self._child.detector):
            self.close()
        if self._child is None or self._child.process.poll() is not None:
            self._child = _Child(self._limits, detector or "scene")
        return self._child


class _Child:
    """The process and its two pipes."""

    def __init__(self, limits: Limits, detector: str) -> None:
        self.detector = detector
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        # Linux counts what a process used before its exec, too: as much as ours.
        self._inherited_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.process = subprocess.Popen(
            [sys.executable, "-m", "curation.media.child", str(limits.memory_mb), detector],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self.served = 0
        self.spent = False
        """Whether a video has brought it to its memory limit: what it holds then, the next video would lack."""
        self._deadline = time.monotonic() + _START_S
        if receive(self._read).kind != "ready":
            raise WireError("the decoder child did not start")

    def ask(
        self, kind: str, body: dict[str, Any], limits: Limits, progress: Callable[[int], None]
    ) -> Iterator[Message]:
        """Send one request and yield the answers up to its end; raises `_Ended` when a limit is met."""
        self.served += 1
        used = int(_cpu_seconds(self.process.pid))
        soft = used + int(limits.cpu_s) + 1
        # Only the soft limit moves: a hard one could not be raised again for the next request.
        resource.prlimit(self.process.pid, resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        end = time.monotonic() + limits.wall_s
        try:
            send(self._in, kind, body)
        except BrokenPipeError:
            raise _Ended(self._autopsy(limits)) from None
        while True:
            self._deadline = min(end, time.monotonic() + limits.silence_s)
            try:
                message = receive(self._read)
            except TimeoutError:
                waited = limits.wall_s if time.monotonic() >= end else limits.silence_s
                raise _Ended(Verdict(Reason.TIMED_OUT, waited, f"{kind}: no progress")) from None
            except EOFError:
                raise _Ended(self._autopsy(limits)) from None
            if message.kind == "end":
                return
            if message.kind == "progress":
                progress(int(message.body))
            else:
                self.spent = self.spent or (message.kind == "verdict" and message.body["reason"] == Reason.MEMORY_LIMIT)
                yield message

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self._in, self._out, self._errors):
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self._selector.close()

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

    def _autopsy(self, limits: Limits) -> Verdict:
        _, status, usage = os.wait4(self.process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.process.returncode = code
        if -code == signal.SIGXCPU:
            return Verdict(Reason.CPU_LIMIT, float(limits.cpu_s))
        if usage.ru_maxrss > max(0.8 * limits.memory_mb * 1024, self._inherited_kb):
            return Verdict(Reason.MEMORY_LIMIT, float(limits.memory_mb))
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Verdict(Reason.CRASHED, float(-code), f"{name} {self._last_words()}".strip())

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _environment() -> dict[str, str]:
    kept = {
        "PYTHONPATH": _ROOT,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
        # Keep freed pictures for the next ones: by default glibc gives them back and the kernel clears new pages.
        "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    }
    if os.environ.get(faults.SWITCH):
        kept[faults.SWITCH] = os.environ[faults.SWITCH]
    return kept


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
