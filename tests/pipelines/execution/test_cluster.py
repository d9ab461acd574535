"""Joining Ray: what is tried again, what is one line, and that nothing of a failed start stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from curation.errors import UserError
from pipelines.execution import cluster, signals


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
            with pytest.raises(UserError, match=words[:20]) as told:
                cluster._start(1)
            is_slow = calls > 1
            assert is_slow == ("overloaded" in told.value.remedy) == ("the same command again" in told.value.remedy)
        assert init.calls == calls
        alive = [process for process in init.started if psutil.pid_exists(process.pid) and process.poll() is None]
        assert len(alive) == (1 if starts else 0)
    finally:
        for process in init.started:
            process.kill()
            process.wait()


def test_a_raylet_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    started = list[subprocess.Popen[bytes]]()
    monkeypatch.setattr("ray._private.services.get_node", lambda *given: {"node": given})

    def init(**options: object) -> None:
        from ray._private import services

        started.append(subprocess.Popen([raylet, "600"]))
        assert services.get_node("address", "id") == {"node": ("address", "id")}
        started[-1].kill()
        os.waitid(os.P_PID, started[-1].pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked for it
        services.get_node("address", "id")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(UserError, match="raylet failed to start"):
        cluster._start(1)
    assert len(started) == cluster._STARTS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_after_the_last_word_changes_nothing(number: signal.Signals, second: signal.Signals) -> None:
    code = f"""
import signal
from pipelines import cli
def interrupted(*given):
    signal.raise_signal({int(number)})
cli._command = interrupted
main = cli.main
def twice(**options):
    code = main(**options)
    signal.raise_signal({int(second)})
    return code
cli.main = twice
cli.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a runner may have its tests ignore it
    )
    words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    assert (done.returncode, done.stderr) == (128 + number, f"ziggurat: {words[number]}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_tear_the_start_and_ray_is_left_before_its_servers_end(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    init, seen = Slow(0, ""), list[str]()

    def interrupted(**options: object) -> None:
        from ray._private import utils

        utils.set_sigterm_handler(lambda *_: seen.append("Ray's own handler"))
        init()
        signal.raise_signal(number)
        seen.append("whole")

    monkeypatch.setattr("ray.init", interrupted)
    monkeypatch.setattr("ray.shutdown", lambda: seen.append("left" if init.started[0].poll() is None else "late"))
    with signals.handled() as ending, pytest.raises(KeyboardInterrupt):
        cluster._start(1)
    assert (seen, ending.code) == (["whole", "left"], 128 + number)
    assert not psutil.pid_exists(init.started[0].pid)
