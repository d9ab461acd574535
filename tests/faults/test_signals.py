"""SIGINT and SIGTERM at any instant: one line, exit code 130 or 143, no stack trace, no process that stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Small
from tests.support import jobs

HEAD = """
import os, signal, threading, time
from pipelines import cli
from pipelines.doctor import selftest
from pipelines.execution import cluster, jobs
from pipelines.execution.results import committer

def send(after=0.0):
    threading.Timer(after, os.kill, (os.getpid(), int(os.environ["SIGNAL"]))).start()
"""
"""Each instant below puts itself into the command and sends the signal from there."""

INSTANTS = {
    "sources are listed": """
def listing(*given, **options):
    send()
    time.sleep(60)
jobs.list_sources = listing
""",
    "the set-up is checked": """
def film(path):
    send()
    time.sleep(60)
selftest.make_film = film
""",
    "Ray starts": """
init = cluster._init
def joining(*given, **options):
    send(0.8)
    init(*given, **options)
cluster._init = joining
""",
    "Ray is connected to": """
init = cluster._init
def joining(*given, **options):
    from ray._private import worker  # not before the mode is set in which it joins
    core = worker.ray._raylet.CoreWorker
    def connecting(*given, **options):
        send()
        time.sleep(0.1)
        return core(*given, **options)
    worker.ray._raylet.CoreWorker = connecting
    init(*given, **options)
cluster._init = joining
""",
    "a result is committed": """
commit = committer.ResultCommitter._commit
def committing(self, results):
    send()
    commit(self, results)
committer.ResultCommitter._commit = committing
""",
    "a commit hangs": """
def hanging(self, results):
    send()
    send(1.0)
    time.sleep(600)
committer.ResultCommitter._commit = hanging
""",
}
LINES = {
    signal.SIGINT: "ziggurat: interrupted; the same command goes on where it stopped",
    signal.SIGTERM: "ziggurat: terminated; the same command goes on where it stopped",
}


OFTEN = {
    ("sources are listed", signal.SIGINT),
    ("Ray starts", signal.SIGTERM),
    ("a result is committed", signal.SIGTERM),
    ("a commit hangs", signal.SIGINT),
}
CASES = [
    pytest.param(
        instant, number, marks=() if (instant, number) in OFTEN else pytest.mark.slow, id=f"{instant}-{number.name}"
    )
    for instant in INSTANTS
    for number in LINES
]


@pytest.mark.parametrize(("instant", "number"), CASES)
def test_a_signal_ends_a_run_in_one_line(small: Small, tmp_path: Path, instant: str, number: signal.Signals) -> None:
    arguments = [
        "curate",
        str(small.videos),
        "--to",
        str(tmp_path / "p"),
        "--recipe",
        small.recipe,
        "--cpus",
        jobs.CPUS,
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HEAD}{INSTANTS[instant]}\ncli.run()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=jobs.ROOT,
        env={**os.environ, "PYTHONPATH": str(jobs.ROOT), "SIGNAL": str(int(number)), "RUN": str(tmp_path)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _, error = process.communicate(timeout=600)
    assert error.splitlines() == [LINES[number]]
    assert process.returncode == 128 + number
    _, alive = psutil.wait_procs(jobs.of_run(str(tmp_path)), timeout=120)
    assert not alive
