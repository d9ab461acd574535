"""How the answers of the commands around jobs are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from curation.printable import printable
from pipelines.render.lines import line, note

if TYPE_CHECKING:
    from pipelines.commands.jobs.listing import Job
    from pipelines.commands.jobs.running import Cancelled
    from pipelines.commands.jobs.submit import Submitted

_WIDTH = 160


def submitted(found: Submitted, as_json: bool) -> None:
    """Of `submit.submit`: the id on a line of its own, then Ray's command for the same."""
    if as_json:
        print(json.dumps(asdict(found)))
        return
    line(found.id)
    line(found.line)
    for one in found.notes:
        note(one)
    if found.dry_run:
        note("nothing was sent")
    else:
        print(
            f"the second line would send it again; ziggurat logs {found.id} -f --address {found.address}",
            file=sys.stderr,
        )


def jobs(found: Sequence[Job], as_json: bool) -> None:
    """Of `listing.jobs`."""
    if as_json:
        for job in found:
            print(json.dumps(job.as_data()))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "started", "state", "Ray", "stage", "ETA", "done", "lost", "clips", "cut", "cost", "command"):
        table.add_column(column, no_wrap=column == "job", overflow="fold")
    for job in found:
        table.add_row(*map(printable, _row(job)))
    Console(width=max(Console().width, _WIDTH), highlight=False, markup=False).print(table)


def log(text: str) -> None:
    """Of `running.logs`: what the job has written, as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


def cancelled(found: Cancelled, as_json: bool) -> None:
    """Of `running.cancel`."""
    if as_json:
        print(json.dumps(asdict(found)))
    elif found.asked:
        line(f"{found.id}: {found.status}, {found.seconds:.1f} s after it was asked to stop")
    else:
        line(f"{found.id} had ended already: {found.status}")


def _row(job: Job) -> list[str]:
    status = job.ray.status if job.ray is not None else "-"
    if (run := job.record) is None:
        assert job.ray is not None
        return [job.id, job.ray.started or "-", job.state, status, *["-"] * 7, job.ray.command]
    counts = run.account
    lost = (counts.get("rejected") or 0) + (counts.get("quarantined") or 0)
    shown = [str(one or 0) for one in (counts.get("done"), lost, counts.get("clips"), counts.get("cut"))]
    return [
        job.id,
        run.started,
        job.state,
        status,
        _stage(job),
        _eta(job),
        *shown,
        _cost(job),
        " ".join(run.command[1:]),
    ]


def _stage(job: Job) -> str:
    run = job.record
    if run is None or run.stage is None:
        return "-"
    return run.stage if run.progress is None else f"{run.stage} {run.progress.done}/{run.progress.total}"


def _eta(job: Job) -> str:
    """The time to come, of a run that is at work."""
    if job.state != "running" or job.progress is None or job.record is None:
        return "-"
    left = job.progress
    has_begun = any(stage["out"] for stage in job.record.stages.values())
    if not left.total and not has_begun:  # it has not been told yet what there is to do
        return "unknown"
    eta = (
        "unknown" if left.eta_s is None else f"{left.eta_s / 60:.0f} min" if left.eta_s >= 90 else f"{left.eta_s:.0f} s"
    )
    return " + ".join([eta, *left.eta_without])


def _cost(job: Job) -> str:
    cost = job.cost
    parts = [f"{cost['cpu_hours']:.2f} CPU h"]
    parts += [f"{cost['gpu_hours']:.2f} GPU h"] if cost["gpu_hours"] else []
    parts += [f"{cost['usd']:.2f} USD"] if cost["usd"] else []
    return ", ".join(parts)
