"""The head of a Ray cluster on loopback with its job server, tokens on: as `ray start --head` makes it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import jobs

PATIENCE_S = 300


@dataclass(frozen=True)
class Head:
    """`environment`: what a command needs to be let in; `run`: the mark of all of its processes (`jobs.of_run`)."""

    address: str
    environment: Mapping[str, str]
    run: str

    def processes(self) -> set[int]:
        return {process.pid for process in jobs.of_run(self.run)}

    def kill(self) -> None:
        """All of it at once, as a machine that loses its power."""
        while found := jobs.of_run(self.run):
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(found, timeout=1)


@contextmanager
def head(cpus: int = 2) -> Iterator[Head]:
    """A head that answers; gone at the end of the block, with all that it has started."""
    folder = tempfile.mkdtemp(prefix="zr")  # short: Ray keeps sockets there
    run, port, (gcs, client, agent) = secrets.token_hex(8), _free(), (_free(), _free(), _free())
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "PYTHONPATH": os.pathsep.join([str(jobs.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
    command += [f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--num-cpus={cpus}", f"--temp-dir={folder}", "--object-store-memory=100000000"]
    on_loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RUN": run}
    with (
        open(Path(folder) / "head.log", "wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **environment, **on_loopback}, start_new_session=True
        ) as process,
    ):
        made = Head(f"http://127.0.0.1:{port}", environment, run)
        try:
            _wait(made, process, Path(log.name))
            yield made
        finally:
            made.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait(made: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers."""
    until = time.monotonic() + PATIENCE_S
    while jobs.run("jobs", "--address", made.address, "--json", **made.environment).code:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.5)
