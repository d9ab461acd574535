"""`ziggurat logs` and `ziggurat cancel`: what a job says, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from curation.errors import UserError
from pipelines.commands.jobs.server import LIVE, Server, connected

CANCEL_S = 20.0
"""How long a cancelled job may take: its own time to finish, Ray's to tell, and as much again on a busy machine."""

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job that has ended. `status`: Ray's word for how; `asked`: it was at work, and had to be asked."""

    id: str
    status: str
    asked: bool
    seconds: float


def logs(
    job: str,
    address: str | None,
    follow: bool,
    tell: Callable[[str], None],
    connect: Callable[[str | None], Server] = connected,
) -> None:
    """Tell what a job has written; with `follow` until it ends."""
    server = connect(address)
    if follow:
        server.follow(job, tell)
    else:
        tell(server.logs(job))


def cancel(
    job: str,
    address: str | None,
    connect: Callable[[str | None], Server] = connected,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Cancelled:
    """End a job by SIGTERM, which its driver answers by keeping what is finished; Ray kills what stays. Returns when it
    has ended. UserError where it has not within `CANCEL_S`.
    """
    server, began = connect(address), now()
    asked = server.stop(job)
    while (found := server.job(job)).status in LIVE:
        if now() - began > CANCEL_S:
            told = "its node may be lost: see the cluster's dashboard, and `ziggurat jobs PYRAMID`"
            raise UserError(f"{job} was told to stop and is {found.status} after {CANCEL_S:.0f} s", told)
        sleep(_LOOK_S)
    return Cancelled(job, found.status, asked, now() - began)
