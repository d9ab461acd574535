"""`ziggurat submit`: hand a command to a Ray cluster as a job, and tell how `ray job submit` would do the same."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from curation.errors import UserError
from pipelines.commands.jobs.entrypoint import Entrypoint, entrypoint
from pipelines.commands.jobs.server import MODE_VARIABLE, SERVER_VARIABLE, Server, connected

STOP_S = 7
"""How long Ray lets a job that is cancelled finish before it kills it; its own default of 3 s would tear a commit, and
with the rest of the way all is over within 10 s."""

ENVIRONMENT = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Request:
    """`typed`: the command and its arguments. `id`: of the job, None for one of ours. `dry_run`: send nothing.
    `metadata`: what Ray keeps beside the job.
    """

    typed: tuple[str, ...]
    address: str | None = None
    id: str | None = None
    dry_run: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was sent (`dry_run`: was not). `command`: its entrypoint. `line`: what sends the same by Ray's own
    command, as it stands; an id is good once, so after a job was sent the line has one of its own.
    """

    id: str
    address: str
    command: str
    line: str
    dry_run: bool
    notes: tuple[str, ...] = ()


def submit(request: Request, group: Any, connect: Callable[[str | None], Server] = connected) -> Submitted:
    """Send a job. `group`: the whole command line, which checks the job's before anything is sent.

    UserError: the command line is wrong, the cluster does not answer or does not take it.
    """
    wanted = entrypoint(group, request.typed)
    job = new_id(wanted.words[1]) if request.id is None else _checked(request.id)
    said_mode = MODE_VARIABLE in os.environ
    server = connect(request.address)
    command = shlex.join(wanted.words)
    if not request.dry_run:
        server.submit(command, job, ENVIRONMENT, request.metadata)
    of_line = job if request.dry_run else new_id(wanted.words[1])
    line = _line(server.address, of_line, wanted.words, said_mode)
    return Submitted(job, server.address, command, line, request.dry_run, tuple(_notes(server.address, wanted)))


def new_id(command: str) -> str:
    """An id that no other job has, by which a person sees what it is and when it was sent."""
    return f"{command}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _checked(job: str) -> str:
    """It becomes part of an address and of file names on the head."""
    if not 0 < len(job) <= _LONGEST or not all(sign.isascii() and (sign.isalnum() or sign in "-_.") for sign in job):
        raise UserError(f"{job[:80]!r} is no id of a job", f"take up to {_LONGEST} letters, digits, '-', '_' and '.'")
    return job


def _line(address: str, job: str, words: Sequence[str], said_mode: bool) -> str:
    """Ray's command. What it would not know by itself comes before it: that tokens are on, and that the address counts
    where the environment names another."""
    before = [] if said_mode else [f"{MODE_VARIABLE}={os.environ.get(MODE_VARIABLE, 'token')}"]
    if SERVER_VARIABLE in os.environ or "RAY_ADDRESS" in os.environ:
        before.append(f"{SERVER_VARIABLE}={shlex.quote(address)}")
    options = ["--address", address, "--submission-id", job, "--runtime-env-json", json.dumps(ENVIRONMENT)]
    return " ".join([*before, shlex.join(["ray", "job", "submit", *options, "--", *words])])


def _notes(address: str, wanted: Entrypoint) -> list[str]:
    if not wanted.local or urlsplit(address).hostname in _LOOPBACK:
        return []
    return [f"the cluster's nodes must have at the same place, as by shared storage: {', '.join(wanted.local)}"]
