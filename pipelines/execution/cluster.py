"""Joining Ray: a cluster by address, or a local one that listens on loopback only, with tokens on and no dashboard.

The only place that calls `ray.init`. Ray is imported here and not before: the command line answers `--help` without it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from curation.errors import UserError
from pipelines.execution import answering, signals

NAMESPACE = "ziggurat"
LOOPBACK = "127.0.0.1"
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for machines that must not be asked by their firewall: at 0 a node is at 127.0.0.1, and all of its
servers listen there. Without it they listen on every address; `_node_ip_address` does not help, Ray resolves it."""

_STARTS = 3
_SLOW_STARTS = ("timed out", "failed to start")
_OVERLOADED = (
    "this machine is overloaded, or short of memory: nothing was begun, so give the same command again once less is at "
    "work here; `ziggurat doctor` looks for other causes"
)
_RAYLET = "raylet"
_END_S = 5.0
_ROUNDING = 1e-9
_STORE_BYTES = 512 << 20
_LEAST_STORE = 80 << 20
_LEAST_TEMPORARY = 32 << 20
"""Ray keeps sockets and logs there; without room it waits half a minute and says nothing of it."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use. `each`: CPUs and GPUs of every node; empty where only their sums are known. `is_joined`: of a
    cluster that others may work on, too.
    """

    cpus: float
    gpus: float
    nodes: int
    each: tuple[tuple[float, float], ...] = ()
    is_joined: bool = False

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers that need so much find a place: each lies on one node. One need at least is above 0."""
        there = self.each or ((self.cpus, self.gpus),)
        needs = [(place, need) for place, need in enumerate((cpus, gpus)) if need]
        return sum(min(_fit(node[place], need, place == 1) for place, need in needs) for node in there)


def _fit(there: float, need: float, is_whole: bool) -> int:
    """How often `need` fits into what there is; a share of a thing that is whole lies on one of them."""
    if is_whole and need < 1:
        return int(there) * int(1 / need + _ROUNDING)
    return int(there / need + _ROUNDING)


@contextmanager
def joined(
    address: str | None = None, cpus: int | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[Resources]:
    """Join the cluster at `address`, or start a local Ray with `cpus`; leave it (or stop it) at the end. `variables`:
    of the environment of all that runs there for this process.

    A Ray that this process has joined already is used and left running. Raises `UserError` where a cluster does not
    answer, within `answering.BOUND_S`.
    """
    # Ray turns token mode on by itself once a token file exists; saying so makes every command agree. Its usage
    # statistics would call a host outside.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what its C++ core says is for its developers
    import ray

    if ray.is_initialized():
        yield _resources()
        return
    environment = {"runtime_env": {"env_vars": dict(variables)}} if variables else {}
    try:
        if address:
            answering.check(address)
            _init(
                f"the Ray cluster at {address}", "check the address and RAY_AUTH_TOKEN", address=address, **environment
            )
        else:
            _check_temporary()
            _start(cpus, environment)
        yield replace(_resources(), is_joined=bool(address))
    finally:
        with _quiet():
            ray.shutdown()


def _start(cpus: int | None, environment: Mapping[str, Any] | None = None) -> None:
    """Start a local Ray; once more where its processes were too slow for the half minute that Ray gives them.

    A port that a process took between Ray's look and its server's start ends the same way, in "failed to start".
    """
    local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _store_bytes()}
    local |= environment or {}
    for left in reversed(range(_STARTS)):
        try:
            with _on_loopback(), _ended_on_failure(), _in_sessions_of_their_own(), _while_its_raylet_lives():
                _init("a local Ray", "see `ziggurat doctor`; RAY_TMPDIR sets its folder", address="local", **local)
            return
        except UserError as error:
            if not any(sign in error.cause.lower() for sign in _SLOW_STARTS):
                raise
            if not left:
                raise UserError(f"{error.cause} (in {_STARTS} tries)", _OVERLOADED) from error


def _init(where: str, remedy: str, **options: Any) -> None:
    import ray

    try:
        # Ray puts the working folder first on the path of every worker, and there may be anybody's files: a folder of
        # downloads with an `av.py` in it would be run. Nobody but root writes to the root.
        # Torn half way, Ray leaves agents, or its core ends this process with an exit code of its own.
        with _quiet(), signals.held(), _without_its_handler(), chdir("/"):
            ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises bare ones, too
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot join {where}: {said}", remedy) from error


@contextmanager
def _ended_on_failure() -> Iterator[None]:
    """End the processes that were started in this block when it does not come to its end; Ray leaves them."""
    import psutil
    import ray

    me = psutil.Process()
    before = {child.pid for child in me.children()}
    try:
        yield
    except BaseException:
        with _quiet():
            ray.shutdown()  # first: its core ends this process when a server that it is connected to goes
        mine = [child for child in me.children() if child.pid not in before]
        for process in (*(further for child in mine for further in child.children(recursive=True)), *mine):
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(mine, timeout=_END_S)
        raise


@contextmanager
def _while_its_raylet_lives() -> Iterator[None]:
    """Wait in this block for a raylet that is there: Ray waits all its time for one that has ended."""
    import psutil
    from ray._private import services

    before = services.get_node

    def asked(*given: Any, **options: Any) -> Any:
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.name() == _RAYLET and child.status() == psutil.STATUS_ZOMBIE:
                    raise Exception("its raylet failed to start: the process has ended")
        return before(*given, **options)

    services.get_node = asked
    try:
        yield
    finally:
        services.get_node = before


@contextmanager
def _without_its_handler() -> Iterator[None]:
    """Keep Ray from answering SIGTERM in our place: it would leave by SystemExit wherever it is."""
    from ray._private import utils

    before, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Start Ray's processes with `_CLUSTERS` off; they hand it down, this process goes back to what it was."""
    from ray._private import ray_constants

    before, enabled = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        if before is None:
            del os.environ[_CLUSTERS]
        else:
            os.environ[_CLUSTERS] = before


@contextmanager
def _in_sessions_of_their_own() -> Iterator[None]:
    """Start Ray's processes where a signal to the whole group of this process, as `timeout` sends, does not reach them:
    it is answered here, and Ray is needed until what is under way is kept. Killed, this process takes them along.
    """
    from ray._private import services

    before = services.ConsolePopen
    services.ConsolePopen = partial(before, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = before


def _check_temporary() -> None:
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if os.path.isdir(folder) and (free := shutil.disk_usage(folder).free) < _LEAST_TEMPORARY:
        have, need = free >> 20, _LEAST_TEMPORARY >> 20
        raise UserError(
            f"the temporary folder {folder} has {have} MB free, and Ray needs {need}",
            "free space there, or set TMPDIR to a folder on a larger disk",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray's core greets on standard error itself; what goes wrong comes as an exception all the same."""
    kept = os.dup(2)
    signals.hush()
    try:
        yield
    finally:
        if not signals.came():  # else it stays quiet to the end
            os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def unspoken() -> Iterator[None]:
    """In this block Ray does not print here what becomes of its workers: whoever runs them says it in a line."""
    from ray._private import worker

    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _resources() -> Resources:
    import ray

    found = ray.cluster_resources()
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    each = tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive)
    return Resources(found.get("CPU", 1.0), found.get("GPU", 0.0), len(alive), each)


def _store_bytes() -> int:
    """Room for frames and rows in flight; a small /dev/shm (containers) gets what it has."""
    room = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    free = room.f_bavail * room.f_frsize if room else _STORE_BYTES
    return max(_LEAST_STORE, min(_STORE_BYTES, free // 2))
