"""The log of a run: a JSON object a line, and the same numbers to TensorBoard and wandb where they are asked for."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from curation.errors import UserError
from training.callbacks.base import Quiet, Report
from training.lines import LOG, appended

if TYPE_CHECKING:
    from training.trainer import Progress

log = logging.getLogger(__name__)

FILE = LOG


class Sink(Protocol):
    """Where numbers of a step go."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Validated(Protocol):
    """A validation. `last`: what it found last, by name."""

    last: dict[str, float]


class Log(Quiet):
    """On rank 0: a line a step in `folder`, appended. `step` counts steps taken; of a step that a restart took again,
    the later line counts. `note`: what is written beside, as where a run goes on."""

    def __init__(self, folder: Path, sinks: Sequence[Sink] = (), validation: Validated | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = appended(folder / FILE)
        self._sinks, self._validation = sinks, validation
        self._told = False

    def note(self, kind: str, **values: Any) -> None:
        self._write({"kind": kind, **values})

    def begin(self, progress: Progress) -> None:
        values = self._validation.last if self._validation else {}
        self.note("begin", step=progress.step, **values)
        for sink in self._sinks:
            sink.write(progress.step, values)

    def after_step(self, progress: Progress, report: Report) -> None:
        values = {"loss": report.loss, "norm": report.norm, "rate": report.rate, "seconds": report.seconds}
        values |= report.values | {"skipped": progress.skipped}
        line: dict[str, Any] = {"kind": "step", "step": progress.step, "samples": progress.samples, **values}
        if not report.finite:
            line["blamed"] = report.blamed
        if report.notes:
            line["notes"] = report.notes
        self._write(line)
        for sink in self._sinks:
            sink.write(progress.step, values)

    def end(self, progress: Progress, stopped: bool) -> None:
        values = self._validation.last if self._validation and not stopped else {}
        self.note("end", step=progress.step, stopped=stopped, **values)

    def close(self) -> None:
        self._told = self._held(self._file.close)
        for sink in self._sinks:
            sink.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        # JSON has no NaN: what is not finite is null.
        sound = {key: None if isinstance(one, float) and not isfinite(one) else one for key, one in line.items()}
        self._told = self._held(lambda: self._file.write(json.dumps(sound, default=list) + "\n"), self._file.flush)

    def _held(self, *actions: Callable[[], object]) -> bool:
        """Whether a full disk keeps lines back, which is no reason to end a run: they are written once there is room.
        It is told once."""
        try:
            for action in actions:
                action()
        except OSError as error:
            if not self._told:
                log.warning("the log is not written for now: %s", error)
            return True
        return False


class TensorBoard:
    """Event files for TensorBoard. UserError: the package is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("TensorBoard is not installed", "pip install 'ziggurat[tensorboard]'") from error
        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, which sends the numbers to its server. `folder`: of the run; what goes on in it goes
    on there, under the id that `FILE` keeps. UserError: the package is missing.
    """

    FILE = "wandb.id"

    def __init__(self, project: str, folder: Path) -> None:
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError as error:
            raise UserError(
                "wandb is not installed", "pip install 'ziggurat[wandb]', or leave log.wandb empty"
            ) from error
        place = folder / self.FILE
        if not place.exists():
            place.write_text(uuid.uuid4().hex)
        self._run = wandb.init(project=project, dir=str(folder), id=place.read_text().strip(), resume="allow")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
