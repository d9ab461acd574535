"""The sandbox: limits, crashes and lies of the child end in one verdict, and the next video is fine."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curation.contract import Reason
from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox import faults
from curation.media.sandbox.protocol import MAX_HEADER, WireError, receive, send
from curation.media.sandbox.sandbox import Sandbox
from tests.support import media
from tests.support.measuring import FAST, as_clips, measured

ROOT = Path(__file__).parents[4]
LIMITS = Limits(silence_s=40, wall_s=90, cpu_s=3, memory_mb=1024)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv(faults.SWITCH, "1")
    with Sandbox(LIMITS) as made:
        yield made


def test_the_memory_of_the_process_that_starts_it_is_not_the_childs() -> None:
    code = (
        "import numpy as np, sys; from pathlib import Path; from curation.media.plan import Limits, MediaPlan;"
        "from curation.media.sandbox.sandbox import Sandbox;"
        "held = np.ones(150_000_000);"  # 1.2 GB, above the child's limit
        "found = Sandbox(Limits(memory_mb=1024)).measure(Path(sys.argv[1]), 'fault-segfault.mp4', MediaPlan());"
        "print(found.verdict.reason)"
    )
    path = str(media.sample("plain.mp4"))
    environment = {**os.environ, faults.SWITCH: "1"}
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.strip() == Reason.CRASHED, done.stderr


def test_it_measures_and_cuts_as_the_passes_do(sandbox: Sandbox) -> None:
    path = media.sample("scenes.mp4")
    found, plain = sandbox.measure(path, path.name, MediaPlan()), measured(path, MediaPlan())
    assert found.verdict is None
    assert list(found.clips) == plain.clips
    assert found.facts == plain.facts
    done = sandbox.cut(path, path.name, as_clips(plain), MediaPlan(), FAST)
    assert [clip_id for clip_id, _ in done.media] == [clip.clip_id for clip in as_clips(plain)]
    assert all(data[4:8] == b"ftyp" for _, data in done.media)


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("fault-segfault", Reason.CRASHED),
        ("fault-spin", Reason.CPU_LIMIT),
        ("fault-balloon", Reason.MEMORY_LIMIT),
    ],
)
def test_a_fault_is_a_verdict_and_the_next_video_is_fine(sandbox: Sandbox, mark: str, reason: Reason) -> None:
    path = media.sample("plain.mp4")
    found = sandbox.measure(path, f"{mark}.mp4", MediaPlan())
    assert found.verdict is not None
    assert found.verdict.reason is reason
    assert found.clips == ()
    assert sandbox.measure(path, "innocent.mp4", MediaPlan()).verdict is None


def test_silence_ends_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.SWITCH, "1")
    with Sandbox(Limits(silence_s=1, memory_mb=1024)) as impatient:
        found = impatient.measure(media.sample("plain.mp4"), "fault-hang.mp4", MediaPlan())
        assert found.verdict is not None
        assert (found.verdict.reason, found.verdict.measured) == (Reason.TIMED_OUT, 1)


def test_a_rejected_video_keeps_the_facts_it_was_judged_by(sandbox: Sandbox) -> None:
    found = sandbox.measure(media.sample("fps12.mp4"), "fps12.mp4", MediaPlan())
    assert found.verdict is not None
    assert found.verdict.reason is Reason.LOW_FPS
    assert found.facts is not None
    assert (found.facts.fps, found.facts.codec) == (12.0, "h264")


def test_faults_need_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.SWITCH, raising=False)
    with Sandbox(LIMITS) as made:
        assert made.measure(media.sample("plain.mp4"), "fault-segfault.mp4", MediaPlan()).verdict is None


def _child() -> psutil.Process:
    """The decoder child that was started last; other tests of this process may have left theirs."""
    ours = [p for p in psutil.Process().children() if "curation.media.sandbox.child" in " ".join(p.cmdline())]
    return max(ours, key=lambda p: p.create_time())


def test_the_child_is_warm_recycled_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    path = media.sample("plain.mp4")
    with Sandbox(Limits(recycle_after=2, memory_mb=1024)) as made:
        made.measure(path, path.name, MediaPlan())
        first = _child().pid
        assert "AWS_SECRET_ACCESS_KEY" not in _child().environ()
        made.measure(path, path.name, MediaPlan())
        made.measure(path, path.name, MediaPlan())
        last = _child().pid
        assert last != first
    assert not psutil.pid_exists(last)


def test_the_child_writes_no_file_and_dies_with_its_parent() -> None:
    with Sandbox(LIMITS) as made:
        made.measure(media.sample("plain.mp4"), "a.mp4", MediaPlan())
        limits = _child().rlimit(psutil.RLIMIT_FSIZE), _child().rlimit(psutil.RLIMIT_CORE)
        assert limits == ((0, 0), (0, 0))
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        orphan = Sandbox(LIMITS)
        orphan.measure(media.sample("plain.mp4"), "a.mp4", MediaPlan())
        os.write(writer, str(_child().pid).encode())
        os._exit(0)  # without closing the sandbox
    child = int(os.read(reader, 20))
    os.waitpid(pid, 0)
    for _ in range(100):
        if not psutil.pid_exists(child):
            break
        time.sleep(0.1)
    assert not psutil.pid_exists(child)


def test_messages_go_through_and_lies_are_refused() -> None:
    stream = io.BytesIO()
    send(stream, "clip", {"a": 1}, [b"one", b""])
    stream.seek(0)
    message = receive(stream.read)
    assert (message.kind, message.body, message.blobs) == ("clip", {"a": 1}, (b"one", b""))
    for lie in (
        struct.pack(">IQ", MAX_HEADER + 1, 0),
        struct.pack(">IQ", 4, 0) + b"nope",
        struct.pack(">IQ", 35, 5) + b'{"kind":"a","body":1,"blobs":[3,1]}' + b"12345",
    ):
        with pytest.raises(WireError):
            receive(io.BytesIO(lie).read)


def test_a_file_that_is_not_there_is_our_fault_and_says_where(sandbox: Sandbox, tmp_path: Path) -> None:
    found = sandbox.measure(tmp_path / "gone", "gone", MediaPlan())
    assert found.verdict is not None
    assert found.verdict.reason is Reason.INTERNAL
    assert "FileNotFoundError" in found.verdict.detail
