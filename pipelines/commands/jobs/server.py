"""The job server of a Ray cluster, which listens where its dashboard does, and what the commands ask of it.

The only module that knows Ray's `JobSubmissionClient`. What Ray raises becomes one line with a remedy; nothing of Ray
is imported before it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from curation.errors import NotThereError, UnansweredError, UserError
from curation.pyramid.history.runs import utc

BOUND_S = 10.0
"""How long a server may take to answer the first question."""

SENDING_S = 60.0
"""And each further one: a head that starts many jobs takes its time."""

DEFAULT = "http://127.0.0.1:8265"
SERVER_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""What `ray job` reads too; there it outdoes `--address`, here it stands in for one."""

MODE_VARIABLE = "RAY_AUTH_MODE"
LIVE = ("PENDING", "RUNNING")
"""Ray's words for jobs that have not ended; the others are STOPPED, SUCCEEDED and FAILED."""

OUTDO = (SERVER_VARIABLE, "RAY_ADDRESS")
"""Variables by which Ray's client outdoes the address that it is given."""

_CONNECT_S = 4.0
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as Ray tells it. `status`: one of `LIVE`, STOPPED, SUCCEEDED, FAILED. Times: UTC, ISO 8601. `metadata`:
    what was said of it when it was sent.
    """

    id: str
    status: str
    command: str
    started: str | None = None
    ended: str | None = None
    exit: int | None = None
    message: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Server(Protocol):
    """What the commands ask. Each question raises `UserError` where the server does not answer or knows no such job."""

    address: str

    def submit(
        self, entrypoint: str, job: str, environment: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Have a shell command run as the job with this id. `metadata`: what Ray keeps beside it."""
        ...

    def jobs(self) -> list[Submission]:
        """All jobs that were submitted since the cluster began, in order of their start."""
        ...

    def job(self, job: str) -> Submission: ...

    def logs(self, job: str) -> str:
        """What the job has written so far."""
        ...

    def follow(self, job: str, tell: Callable[[str], None]) -> None:
        """Tell what the job writes, from its beginning, until it has ended."""
        ...

    def stop(self, job: str) -> bool:
        """Ask the job to end; whether it was there to be asked. Returns before it has ended."""
        ...


def connected(address: str | None) -> Server:
    """The job server at `address` ("http://HOST:PORT"), by default the one that `SERVER_VARIABLE` or `DEFAULT` names.

    Raises `UserError` where nothing answers within `BOUND_S`, or does not let us in.
    """
    place = checked(address or os.environ.get(SERVER_VARIABLE) or DEFAULT)
    os.environ.setdefault(MODE_VARIABLE, "token")  # as in `cluster.joined`: every command agrees
    return _RayServer(place)


def checked(address: str) -> str:
    """The address as a URL; UserError where it is none."""
    url = (address if "://" in address else f"http://{address}").rstrip("/")
    parts = urlsplit(url)
    try:
        is_place = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_place = False
    if not is_place or parts.query or parts.fragment:
        told = "give http://HOST:8265, where its dashboard listens (`ray start --head --dashboard-host ...` says where)"
        raise UserError(f"{address!r} is no address of a Ray job server", told)
    return url


class _RayServer:
    """`Server` by Ray's own client."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._bound_s = BOUND_S
        with self._told(), _undistracted():
            self._client = self._made(address)
        self._bound_s = SENDING_S

    def _made(self, address: str) -> Any:
        from ray.job_submission import JobSubmissionClient

        for chatty in _CHATTY:
            logging.getLogger(chatty).setLevel(logging.WARNING)
        server = self

        class Bounded(JobSubmissionClient):
            """Ray's client asks without a limit of time."""

            def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
                limits = (_CONNECT_S, server._bound_s - _CONNECT_S)
                return super()._do_request(method, endpoint, timeout=limits, **options)

        return Bounded(address)

    def submit(
        self, entrypoint: str, job: str, environment: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> None:
        said = {"runtime_env": {**environment}, "metadata": {**(metadata or {})}}
        self._ask(job, lambda: self._client.submit_job(entrypoint=entrypoint, submission_id=job, **said))

    def jobs(self) -> list[Submission]:
        found = self._ask("", self._client.list_jobs)
        return sorted(map(_submission, (one for one in found if one.submission_id)), key=lambda one: one.started or "~")

    def job(self, job: str) -> Submission:
        return _submission(self._ask(job, lambda: self._client.get_job_info(job)))

    def logs(self, job: str) -> str:
        return self._ask(job, lambda: self._client.get_job_logs(job))

    def follow(self, job: str, tell: Callable[[str], None]) -> None:
        self.job(job)  # the stream of one that is not there ends in words of the web's
        self._ask(job, lambda: asyncio.run(_told_lines(self._client.tail_job_logs(job), tell)))

    def stop(self, job: str) -> bool:
        return self._ask(job, lambda: self._client.stop_job(job))

    def _ask(self, job: str, question: Callable[[], _T]) -> _T:
        with self._told(job):
            return question()

    @contextmanager
    def _told(self, job: str = "") -> Iterator[None]:
        """What goes wrong in this block as one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # Ray raises its own, those of requests and bare ones
            raise self._line(job, error) from error

    def _line(self, job: str, error: Exception) -> UserError:
        said = _said(error)
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if (isinstance(error, RuntimeError) and "ray[default]" in said) or isinstance(error, ModuleNotFoundError):
            return UnansweredError("jobs need Ray's job client", "pip install 'ziggurat[jobs]'")
        if "AuthenticationError" in kinds:
            told = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or RAY_AUTH_MODE=disabled for a cluster without tokens"
            return UnansweredError(f"{self.address} does not let us in: {said.partition('. ')[0].rstrip('.')}", told)
        if kinds & {"Timeout", "TimeoutError"} or isinstance(error, ConnectionError) or "ConnectionError" in kinds:
            return UnansweredError(
                f"no Ray job server answers at {self.address} ({_why(error)})",
                "check the address, the network, and that its head runs with ray[default] and a dashboard",
            )
        if "status code 404" in said and job:
            return NotThereError(
                f"{self.address} knows no job {job!r}", f"`ziggurat jobs --address {self.address}` lists them"
            )
        if "already exists" in str(error):
            return UserError(f"{self.address} has had a job {job!r} already", "give another --id, or none")
        told = f"the Ray job server at {self.address} refuses: {said[:300]}"
        return UnansweredError(told, "see the logs of its head node")


def _said(error: Exception) -> str:
    """The line that tells it: of a traceback that the server has sent, its last one."""
    lines = [line for line in str(error).splitlines() if any(map(str.isalnum, line))] or [type(error).__name__]
    return (lines[-1] if "Traceback" in lines[0] else lines[0]).strip()


def _why(error: Exception) -> str:
    late = {"Timeout", "TimeoutError"} & {kind.__name__ for kind in type(error).__mro__}
    return "no answer in time" if late else "no connection"


async def _told_lines(lines: AsyncIterator[str], tell: Callable[[str], None]) -> None:
    async for some in lines:
        tell(some)


def _submission(found: Any) -> Submission:
    """Of Ray's `JobDetails`."""
    status = str(getattr(found.status, "value", found.status))
    began, ended = _moment(found.start_time), _moment(found.end_time)
    how = (found.driver_exit_code, found.message, found.metadata or {})
    return Submission(found.submission_id, status, found.entrypoint, began, ended, *how)


def _moment(milliseconds: int | None) -> str | None:
    """Of milliseconds since 1970; Ray says 0 of what has not come to pass."""
    return utc(datetime.fromtimestamp(milliseconds / 1000, UTC)) if milliseconds else None


@contextmanager
def _undistracted() -> Iterator[None]:
    """Ray's client goes where these variables say, whatever address it is given: here the person's word counts."""
    before = {name: os.environ.pop(name) for name in OUTDO if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
