"""The records of a pyramid's runs: `runs/ID.json`, one a run, written by its driver while it is at work.

A record says what was asked for, with what, and what came of it. It never says that its run is at work: a killed driver
could not take that back. `state` judges it, from the process that the record names where that is on this machine,
elsewhere from the record's last beat.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from curation.errors import UserError
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.locks import writing
from curation.retry import retrying

FOLDER = "runs"
BEAT_S = 10.0
SILENT = timedelta(seconds=6 * BEAT_S)
"""A run on another machine whose last beat is older than this is taken for dead."""

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def _utc(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


Time = Annotated[str, AfterValidator(_utc)]


@dataclass(frozen=True, slots=True)
class Process:
    """A process such that no other one, now or later, is taken for it: machine, its boot, number and start."""

    host: str
    boot: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the stage is that a run is at: `done` of `total` units, videos or clips, as far as they are listed.

    `eta_s`: seconds until all that is listed is through, None where nothing can be said; `eta_without`: stages to come
    that are not in it. What went through each stage before is in `Run.stages`.
    """

    done: int = 0
    total: int = 0
    eta_s: float | None = None
    eta_without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A record. Times are UTC in ISO 8601; `nodes`: the machines of the cluster; `account`: all counters; `stages`:
    what went through each stage (`pipelines.execution.results.flow`), none in older records; `ended` and `exit` (the
    command's code) are None until the run ends. `stopped_by`: the one line that an early end was told in.
    `submission`: the id under which Ray was given the command as a job. `progress`: as of the last beat.
    """

    run: str
    command: tuple[str, ...]
    recipe: str
    recipe_version: int | None
    versions: Mapping[str, str]
    process: Process
    started: Time
    beat: Time
    stage: str | None = None
    nodes: tuple[str, ...] = ()
    cpus: float | None = None
    gpus: float | None = None
    account: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    ended: Time | None = None
    exit: int | None = None
    stopped_by: str | None = None
    submission: str | None = None
    progress: Progress | None = None


def write(files: Files, run: Run) -> None:
    """Write a record, over an earlier one of the same run."""
    with writing(files.uri):
        files.write(f"{FOLDER}/{run.run}.json", (json.dumps(asdict(run), indent=2) + "\n").encode())


def read(files: Files, run: str) -> Run | None:
    """The record of the run with this whole id; None where there is none, or where it is damaged."""
    name = f"{FOLDER}/{run}.json"
    content = retrying(f"cannot read the runs of {files.uri}", lambda: files.read(name))
    return None if content is None else _read(name, content)


def listed(files: Files, besides: Collection[str] = ()) -> list[Run]:
    """All records, in order of their start; a damaged one is left out and told in a warning. Those of the runs
    `besides` are not read.
    """
    what = f"cannot read the runs of {files.uri}"
    passed = {f"{FOLDER}/{run}.json" for run in besides}
    names = [name for name in retrying(what, lambda: files.names(FOLDER, ".json")) if name not in passed]
    contents = ((name, retrying(what, lambda name=name: files.read(name))) for name in names)
    found = [run for name, content in contents if content is not None and (run := _read(name, content)) is not None]
    return sorted(found, key=lambda run: (run.started, run.run))


def running(files: Files) -> list[Run]:
    """The runs that are at work."""
    return [run for run in listed(files) if state(run) == "running"]


def find(files: Files, name: str) -> Run:
    """The run with this id or with this beginning of one; UserError where there is none, or more than one."""
    found = [run for run in listed(files) if _ID.fullmatch(name) and run.run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{files.uri} has no run {name!r}", "`ziggurat runs PYRAMID` lists them")
    raise UserError(f"{name!r} is the beginning of {len(found)} runs", "give more of it")


def state(run: Run, now: datetime | None = None) -> str:
    """`done`, `failed` (with the exit code), `interrupted`, `running` or `killed`; the last two with what tells it.

    A run that ends with 1 is done, and has lost something, unless an error stopped it.
    """
    if run.ended is not None:
        if run.exit == 1 and run.stopped_by is None:
            return "done (something was lost)"
        return {0: "done", 130: "interrupted", 143: "terminated"}.get(run.exit or 0, f"failed ({run.exit})")
    here = this_process()
    if run.process.host == here.host:
        if run.process.boot != here.boot:
            return "killed (the machine was started again)"
        return "running" if _alive(run.process) else "killed (its process is gone)"
    silence = (now or datetime.now(UTC)) - datetime.fromisoformat(run.beat)
    return "running" if silence < SILENT else f"killed (no sign of it since {run.beat})"


def this_process() -> Process:
    """The process that asks."""
    import psutil

    me = psutil.Process()
    return Process(socket.gethostname(), _boot(), me.pid, round(me.create_time(), 2))


def utc(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).isoformat(timespec="seconds")


def _alive(process: Process) -> bool:
    import psutil

    try:
        found = psutil.Process(process.pid)
        # A number may have gone to another process since; the clock that tells a start is stepped by a second at most.
        return abs(found.create_time() - process.started) < 2 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _boot() -> str:
    """What tells one boot of this machine from another; containers of one machine have a host name each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(name: str, content: bytes) -> Run | None:
    """The record in the file `name`; None where it is damaged, which is told. Keys of later versions are skipped."""
    try:
        return _RECORD.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        _log.warning("the record %s is damaged and left out (%s%s)", name, place and f"{place}: ", first["msg"])
        return None


_RECORD = TypeAdapter(Run)
