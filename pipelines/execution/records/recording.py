"""Keeps the record of a run up to date: at its start, at every stage, every ten seconds, and at its end.

Around `curate`, `cut`, `encode` and `train`, in the driver. See `curation.pyramid.history.runs` for what the record
holds.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from curation.pyramid.history import runs
from curation.pyramid.history.runs import Progress, Run
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.locks import writing
from curation.pyramid.store import Pyramid
from curation.retry import of_the_user, retrying
from pipelines import logs, traces
from pipelines.execution import signals
from pipelines.execution.cluster import Resources
from pipelines.execution.records.submission import submission
from pipelines.execution.results.flow import Flows
from pipelines.progress.watch import Reckons, Watch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pipelines.encoding.account import EncodeAccount
    from pipelines.execution import work
    from pipelines.execution.results.account import Account

_log = logging.getLogger(__name__)
_PACKAGES = (
    "ziggurat",
    "ray",
    "av",
    "pylance",
    "pyarrow",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "rapidocr",
    "openai",
)


class Record:
    """The record of one run in `runs/` of a folder. `account`: its counters. `packages`: whose versions it names beside
    the usual ones.

    `exit`: the code that the command will end with where nothing stops it. `notices`: what the run tells at its end.
    """

    def __init__(
        self,
        files: Files,
        account: DataclassInstance,
        recipe: str,
        recipe_version: int | None = None,
        packages: Sequence[str] = (),
        flows: Flows | None = None,
    ) -> None:
        self.exit = 0
        self.notices: Sequence[str] = ()
        self._files, self._account, self._flows = files, account, flows or Flows()
        now = datetime.now(UTC)
        self._run = Run(
            run=f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
            command=("ziggurat", *sys.argv[1:]),
            recipe=recipe,
            recipe_version=recipe_version,
            versions=versions(packages),
            process=runs.this_process(),
            started=runs.utc(now),
            beat=runs.utc(now),
            account=_counts(account),
            submission=submission(),
        )
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The run's id, which the rows it writes bear as their job."""
        return self._run.run

    def joined(self, resources: Resources) -> None:
        """Note on what machines the run works."""
        self._write(nodes=_nodes(), cpus=resources.cpus, gpus=resources.gpus)

    @contextmanager
    def kept(self) -> Iterator[Self]:
        """Keep the record while the block lasts. UserError where it cannot be written at the start."""
        retrying(f"cannot write to {self._files.uri}", lambda: runs.write(self._files, self._run))
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), name="record", daemon=True)
        thread.start()
        logs.of_process(run=self.name)
        _log.info("the run begins", extra={"recipe": self._run.recipe})
        stopped_by: str | None = "an error of Ziggurat"
        try:
            with traces.span("run", run=self.name, recipe=self._run.recipe):
                yield self
            stopped_by = None
            if signals.came():  # and something on the way has swallowed it
                self.exit, stopped_by = signals.code(), "a signal"
        except BaseException as error:
            self.exit, stopped_by = ending(error)
            raise
        finally:
            over.set()
            thread.join()
            self._write(stage=None, ended=runs.utc(), exit=self.exit, stopped_by=stopped_by)
            _log.info("the run ends", extra={"exit": self.exit, "stopped_by": stopped_by})
            logs.of_process(run=None)

    def _progress(self) -> Progress | None:
        """How far the run is, where somebody reckons it."""
        return None

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(runs.BEAT_S):
            self._write()

    def _write(self, **changes: Any) -> None:
        with self._lock:
            account = _counts(self._account)
            now = {"beat": runs.utc(), "account": account, "notices": tuple(self.notices)}
            now |= {"stages": self._flows.to_data(), "progress": self._progress()}
            self._run = replace(self._run, **now, **changes)
            try:
                with writing(self._files.uri):
                    if (there := runs.read(self._files, self._run.run)) is not None:
                        # A takedown may have struck a name out of it.
                        self._run = replace(self._run, command=there.command)
                    runs.write(self._files, self._run)
            except Exception as error:  # of a full disk or a store the stages tell; a record is no reason to end a run
                _log.info("the record of the run cannot be written: %s", error)


class Recording(Record):
    """The record of a run on a pyramid, and a watch that notes the stage and hands on to another one."""

    def __init__(self, pyramid: Pyramid, account: Account | EncodeAccount, watch: Watch) -> None:
        recipe = (pyramid.recipe_name, pyramid.about.recipe_version)
        super().__init__(pyramid.files, account, *recipe, flows=account.flows)
        self._watch = watch

    @contextmanager
    def over(self, stage: str, coordinator: Any) -> Iterator[None]:
        """Note that the run is at `stage`, and show it."""
        self._flows.begin(stage)
        self._write(stage=stage)
        logs.of_process(stage=stage)
        _log.info("the stage begins")
        try:
            with (
                traces.span(f"stage {stage}", run=self.name, stage=stage) as told,
                self._watch.over(stage, coordinator),
            ):
                yield
                flow = self._flows.now
                counts: dict[str, Any] = {"in": flow.taken, "out": flow.out, "bytes": flow.bytes}
                told.set(**counts)
        finally:
            self._flows.end()
            _log.info("the stage ends", extra={"seconds": round(self._flows.now.seconds, 3)})
            logs.of_process(stage=None)

    def _progress(self) -> Progress | None:
        return self._watch.progress() if isinstance(self._watch, Reckons) else None

    def expect(self, units: int) -> None:
        self._flows.now.taken += units
        self._watch.expect(units)

    def advance(self, units: int, clips: int = 0) -> None:
        self._watch.advance(units, clips)

    def searching(self, what: str) -> AbstractContextManager[None]:
        return self._watch.searching(what)


class CurationRecording(Recording):
    """The same for a run whose stages come again for each window of sources: its watch is told which."""

    def __init__(self, pyramid: Pyramid, account: Account, watch: work.Watch) -> None:
        super().__init__(pyramid, account, watch)
        self._planned = watch

    def plan(self, stages: Sequence[str], all_listed: bool) -> None:
        self._planned.plan(stages, all_listed)


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """What a run is made of, by package."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code that `cli.main` gives an error, and the line that tells it. Where a signal has come it is the end,
    whatever it unwinds as: Ray makes an error of its own of it. But for a last save that failed after it.
    """
    if (signals.came() and not signals.failed()) or isinstance(error, KeyboardInterrupt):
        return signals.code() or 130, "a signal"
    if (known := of_the_user(error)) is not None:
        return 2, str(known)
    return 1, f"{type(error).__name__}: {str(error)[:200]}"


def _counts(account: DataclassInstance) -> dict[str, Any]:
    counts = {one.name: getattr(account, one.name) for one in fields(account)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in counts.items()}


def _nodes() -> tuple[str, ...]:
    import ray

    return tuple(sorted(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]))
