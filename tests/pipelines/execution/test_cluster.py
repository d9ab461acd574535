"""Joining Ray: what is tried again, what is one line, and that nothing of a failed start stays."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from curation.errors import UserError
from pipelines.execution import cluster


class Slow:
    """`ray.init` that starts a process and fails `failures` times with Ray's own words."""

    def __init__(self, failures: int, words: str) -> None:
        self.left, self.words, self.calls = failures, words, 0
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, **options: object) -> None:
        self.calls += 1
        self.started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        if self.left:
            self.left -= 1
            raise Exception(self.words)


@pytest.mark.parametrize(
    ("failures", "words", "calls", "starts"),
    [
        (0, "", 1, True),
        (2, "The current node timed out during startup. This could happen", 3, True),
        (9, "The current node timed out during startup. This could happen", 3, False),
        (1, "Failed to start GCS. Last 0 lines of error files:", 2, True),
        (9, "AF_UNIX path length", 1, False),
    ],
)
def test_a_slow_start_is_tried_again_and_another_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, failures: int, words: str, calls: int, starts: bool
) -> None:
    init = Slow(failures, words)
    monkeypatch.setattr("ray.init", init)
    try:
        if starts:
            cluster._start(1)
        else:
            with pytest.raises(UserError, match=words[:20]):
                cluster._start(1)
        assert init.calls == calls
        alive = [process for process in init.started if psutil.pid_exists(process.pid) and process.poll() is None]
        assert len(alive) == (1 if starts else 0)
    finally:
        for process in init.started:
            process.kill()
            process.wait()
