"""Joining Ray: a cluster by address, or a local one with tokens on and no dashboard.

The only place that calls `ray.init`. Ray is imported here and not before: the command line answers `--help` without it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError

NAMESPACE = "ziggurat"
_STORE_BYTES = 512 << 20
_LEAST_STORE = 80 << 20
_LEAST_TEMPORARY = 32 << 20
"""Ray keeps sockets and logs there; without room it waits half a minute and says nothing of it."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use."""

    cpus: float
    gpus: float
    nodes: int


@contextmanager
def joined(address: str | None = None, cpus: int | None = None) -> Iterator[Resources]:
    """Join the cluster at `address`, or start a local Ray with `cpus`; leave it (or stop it) at the end.

    A Ray that this process has joined already is used and left running.
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
    if not address:
        _check_temporary()
    local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _store_bytes()}
    options: dict[str, Any] = {"address": address} if address else {"address": "local", **local}
    try:
        with _quiet():
            ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, RuntimeError) as error:
        where = f"the Ray cluster at {address}" if address else "a local Ray"
        remedy = (
            "check the address and RAY_AUTH_TOKEN" if address else "see `ziggurat doctor`; RAY_TMPDIR sets its folder"
        )
        raise UserError(f"cannot join {where}: {str(error).splitlines()[0]}", remedy) from error
    try:
        yield _resources()
    finally:
        ray.shutdown()


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
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _resources() -> Resources:
    import ray

    found = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return Resources(found.get("CPU", 1.0), found.get("GPU", 0.0), nodes)


def _store_bytes() -> int:
    """Room for frames and rows in flight; a small /dev/shm (containers) gets what it has."""
    room = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    free = room.f_bavail * room.f_frsize if room else _STORE_BYTES
    return max(_LEAST_STORE, min(_STORE_BYTES, free // 2))
