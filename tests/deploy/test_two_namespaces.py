"""A head and a worker on two machines, as far as one can be two: in network namespaces that see each other alone, by
the commands of docs/deploy.md, with its addresses. A run curates across them. Needs root, for `ip netns`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.page import commands
from tests.support import jobs, without_ray

HEADING = "Machines by hand"
HEAD, WORKER = "10.0.0.1", "10.0.0.2"
PATIENCE_S = 600
DASHBOARD = 8265
_NODES = """
import json, sys, ray
ray.init(sys.argv[1], log_to_driver=False)
print(json.dumps({n["NodeManagerAddress"]: n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]}))
"""
_KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)"


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace. `environment`: of all that runs there."""

    name: str
    environment: dict[str, str]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            env=self.environment | environment,
            cwd=jobs.ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def end(self) -> None:
        """Kill what runs there, and it alone; then take the namespace away."""
        deadline = time.monotonic() + PATIENCE_S
        while there := self._processes():
            for process in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            assert time.monotonic() < deadline
            time.sleep(0.2)
        _ip("netns", "delete", self.name)

    def _processes(self) -> list[int]:
        said = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return [int(one) for one in said.stdout.split()]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Head and worker, joined by a wire of their own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    temporary = Path(tempfile.mkdtemp(prefix="zn-", dir="/tmp"))  # Ray's sockets have short paths
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(jobs.ROOT),
        "RAY_TMPDIR": str(temporary),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    names = [f"zn{os.getpid()}{end}" for end in "hw"]
    made: list[Machine] = []
    try:
        for name in names:
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
            made.append(Machine(name, environment))
        ends = [("veth0", "netns", name) for name in names]
        _ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        for name, address in zip(names, (HEAD, WORKER), strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                _ip("-n", name, "link", "set", device, "up")
        yield made[0], made[1]
    finally:
        for machine in made:
            machine.end()
        shutil.rmtree(temporary, ignore_errors=True)


def documented(*wanted: str) -> list[str]:
    """The one `ray start` or `ziggurat curate` below the heading that has these words."""
    (found,) = [words for words in commands(wanted[0], HEADING) if set(wanted) <= set(words)]
    return found


def curating(videos: Path, pyramid: Path, recipe: str) -> list[str]:
    places = {"s3://BUCKET/videos": str(videos), "s3://BUCKET/pyramid": str(pyramid)}
    return [places.get(word, word) for word in documented("ziggurat", "curate")] + ["--recipe", recipe]


@pytest.mark.slow
def test_a_run_curates_across_two_machines_by_the_documented_commands(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    head, worker = machines
    small = f"--object-store-memory={200 << 20}"  # the documented commands take a third of the memory
    for machine, words in (
        (head, documented("ray", "start", "--head")),
        (worker, documented("ray", "start", f"--address={HEAD}:6379")),
    ):
        started = machine.run(*words, small)
        assert started.returncode == 0, started.stdout + started.stderr

    deadline = time.monotonic() + PATIENCE_S
    while len(cpus := json.loads(head.run(sys.executable, "-c", _NODES, f"{HEAD}:6379").stdout)) < 2:
        assert time.monotonic() < deadline
    assert cpus[HEAD] == 0 and cpus[WORKER] > 0, "what is measured and cut is so by the worker"

    assert worker.run(sys.executable, "-c", _KNOCK, HEAD, "6379").returncode == 0
    assert worker.run(sys.executable, "-c", _KNOCK, HEAD, str(DASHBOARD)).returncode != 0, "no dashboard is open"

    videos, recipe = jobs.corpus(tmp_path / "videos"), jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    command = curating(videos, tmp_path / "p", recipe)
    stranger = head.run(*command, RAY_AUTH_TOKEN="b" * 64)
    assert stranger.returncode == 2 and "RAY_AUTH_TOKEN" in stranger.stderr, stranger.stderr

    done = head.run(*command)
    assert done.returncode == 0, done.stderr
    without_ray.curate(videos, tmp_path / "alone", recipe)
    assert jobs.rows(tmp_path / "p") == jobs.rows(tmp_path / "alone")
