"""One training run as it stands: state, steps, time to come, checkpoints, what was told. Read this first.

    RUN/runs/ID.json, log.jsonl, checkpoints/, samples/ -> [brief], [seen]

A record says what was asked for and ends with the run; the log says how far it is. Neither is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.pyramid.history import runs as records
from curation.pyramid.history.runs import Run
from curation.pyramid.storage.files import Files
from pipelines.watching.curves import Logs, tail
from pipelines.watching.folders import within
from training.checkpoint.folder import HEAD, SUSPECT, Checkpoints, step_of

CHECKPOINTS = "checkpoints"
RECENT = 50
"""Steps whose speed tells the time to come."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole one. `made`: UTC, ISO 8601, None where its head does not say."""

    step: int
    bytes: int
    made: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """`state`: by the last record, as in `jobs`; `step` of `steps`; `eta_s`: at the speed of the last steps, of a run
    that is at work. `manifest`, `model`, `preset`: what is trained on what. `submission`: the job, where it is one.
    """

    folder: str
    state: str
    step: int
    steps: int | None
    eta_s: float | None
    loss: float | None
    manifest: str | None
    model: str | None
    preset: str | None
    started: str | None
    ended: str | None
    submission: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Brief):
    """`told`: what a person was told, in order; `curves`: their names; `suspect`: checkpoints that were set aside;
    `damaged`: lines of the log that cannot be read.
    """

    stopped_by: str | None
    restarts: Sequence[str]
    told: Sequence[str]
    curves: Sequence[str]
    checkpoints: Sequence[Checkpoint]
    suspect: Sequence[str]
    damaged: int


def brief(folder: Path) -> Brief:
    """A run now, by its record and the end of its log: many are listed at once, and logs are long."""
    last = _record(folder)
    return Brief(**_brief(folder, last, tail(folder)))


def seen(folder: Path, logs: Logs) -> Seen:
    """All of a run now."""
    last, log = _record(folder), logs.of(folder)
    account: Mapping[str, Any] = {} if last is None else last.account
    saved, suspect = _checkpoints(folder)
    return Seen(
        **_brief(folder, last, {} if log is None else log.end(RECENT)),
        stopped_by=None if last is None else last.stopped_by,
        restarts=_texts(account.get("restarts")),
        told=[*_texts(account.get("events")), *([] if last is None else last.notices)],
        curves=[] if log is None else log.names,
        checkpoints=saved,
        suspect=suspect,
        damaged=0 if log is None else log.damaged,
    )


def _record(folder: Path) -> Run | None:
    return next(reversed(records.listed(Files(str(folder)))), None)


def _brief(folder: Path, last: Run | None, end: Mapping[str, float]) -> dict[str, Any]:
    """`end`: what the end of the log says; of a run that has no step yet nothing."""
    account: Mapping[str, Any] = {} if last is None else last.account
    state = "unknown (no record of it)" if last is None else records.state(last)
    step, steps = int(end.get("step", _number(account.get("step")) or 0)), _number(account.get("steps"))
    is_known = state == "running" and steps is not None and "seconds" in end
    return {
        "folder": str(folder),
        "state": state,
        "step": step,
        "steps": steps,
        "eta_s": max(0, (steps or 0) - step) * end["seconds"] if is_known else None,
        "loss": end.get("loss"),
        "manifest": _text(account.get("manifest")),
        "model": _text(account.get("model")),
        "preset": None if last is None else last.recipe,
        "started": None if last is None else last.started,
        "ended": None if last is None else last.ended,
        "submission": None if last is None else last.submission,
    }


def _checkpoints(folder: Path) -> tuple[list[Checkpoint], list[str]]:
    """Those that are whole, by their names; and the names of those that were set aside."""
    place = Checkpoints(folder / CHECKPOINTS)
    aside = sorted(path.name for path in place.folder.glob(f"step-*{SUSPECT}*"))
    return [one for path in place.whole() if (one := _checkpoint(folder, path)) is not None], aside


def _checkpoint(folder: Path, path: Path) -> Checkpoint | None:
    """None where the run has removed it meanwhile, or its head is damaged."""
    head = within(folder, CHECKPOINTS, path.name, HEAD)
    if head is None:
        return None
    try:
        said = json.loads(head.read_text())
        return Checkpoint(step_of(path), sum(map(int, said["files"].values())), said.get("made") or None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []
