"""How a training run is shown, while it goes on and at its end.

On a terminal or in a log a line every few seconds, on standard error; with `--json` an object a step, on standard
output.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from curation.printable import printable
from pipelines.render.lines import line, note

if TYPE_CHECKING:
    from pipelines.commands.training.weights import Written
    from pipelines.train import Trained
    from training.callbacks.base import Report
    from training.trainer import Progress

EVERY_S = 5.0

_UNITS = {"validation/psnr": ("PSNR", "{:.2f} dB")}
"""How a validation's number is called and written, where not as a loss."""
_WHY_LEFT_OUT = {
    "cond_in": ", {layout} has no place for it: what is given as a condition is not seen there",
    "discriminator": ": only training has a use for it, and it stays in the checkpoint",
    "projection": ": only the alignment with the teacher has a use for it",
}


class TrainWatch:
    """A `pipelines.train.Watch`."""

    def __init__(self, as_json: bool, every_s: float = EVERY_S) -> None:
        self._as_json, self._every_s = as_json, every_s
        self._began, self._told, self._first, self._steps = time.monotonic(), 0.0, 0, 0
        self._measure = ""

    def note(self, text: str) -> None:
        note(text)

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        self._began, self._first, self._steps = time.monotonic(), progress.step, steps
        self._measure = measure
        if self._as_json:
            _object("begin", step=progress.step, steps=steps, validation=validation)
        else:
            where = f"from step {progress.step} " if progress.step else ""
            start = "" if validation is None else f", {_measured(measure, validation)}"
            _told(f"training {where}to step {steps}{start}")

    def step(self, progress: Progress, report: Report) -> None:
        if self._as_json:
            values = {"loss": report.loss, "norm": report.norm, "rate": report.rate, **report.values}
            _object("step", step=progress.step, samples=progress.samples, skipped=progress.skipped, **values)
            return
        if (validated := report.values.get(self._measure)) is not None:
            _told(f"step {progress.step}: {_measured(self._measure, validated)}")
        if time.monotonic() - self._told >= self._every_s:
            self._told = time.monotonic()
            _told(self._line(progress, report))

    def _line(self, progress: Progress, report: Report) -> str:
        done = progress.step - self._first
        left = (time.monotonic() - self._began) / done * (self._steps - progress.step)
        values = report.values
        parts = [
            f"step {progress.step}/{self._steps}",
            *self._learnt(report),
            f"norm {report.norm:.3f}",
            f"waiting {100 * values['waiting']:.1f} %",
            *([f"mfu_dit {100 * values['mfu_dit']:.1f} %"] if "mfu_dit" in values else []),
            *([f"{progress.skipped} skipped"] if progress.skipped else []),
            f"ETA {_span(left)}",
        ]
        return "  ".join(parts)

    def _learnt(self, report: Report) -> list[str]:
        """The loss, and how fast. An autoencoder's loss is a sum over all that it is made of, and says little."""
        values = report.values
        if "part/l1" in values:
            return [f"L1 {values['part/l1']:.4f}", f"{values['samples_per_s']:,.2f} samples/s"]
        return [f"loss {report.loss:.4f}", f"{values['tokens_per_s']:,.0f} tokens/s"]


def train(done: Trained, as_json: bool) -> None:
    """Of `train.train`; ranks other than the first say nothing."""
    if done.rank:
        return
    if as_json:
        _object("trained", **asdict(done))
        return
    line(f"step {done.step} of {done.steps}, {done.samples:,} samples, {done.skipped} steps skipped")
    if done.first is not None and done.last is not None:
        line(f"{_measured(done.measure, done.first)} -> {_number(done.measure, done.last)}")
    if done.checkpoint is not None:
        line(f"checkpoint {done.checkpoint}")


def weights(written: Written, as_json: bool) -> None:
    """Of `weights.weights`."""
    if as_json:
        print(json.dumps(asdict(written)))
        return
    for name in written.files:
        averaged = ", averaged" if written.averages else ""
        line(f"{name}: step {written.step}, layout {written.layout}{averaged}")
    for name in written.left_out:
        note(f"{name} is left out{_WHY_LEFT_OUT.get(name, '')}".format(layout=written.layout))


def _measured(measure: str, value: float) -> str:
    return f"validation {_UNITS[measure][0] if measure in _UNITS else 'loss'} {_number(measure, value)}"


def _number(measure: str, value: float) -> str:
    return (_UNITS[measure][1] if measure in _UNITS else "{:.4f}").format(value)


def _object(kind: str, **values: Any) -> None:
    # JSON has no NaN: what is not finite is null.
    sound = {key: None if isinstance(one, float) and not isfinite(one) else one for key, one in values.items()}
    print(json.dumps({"event": kind, **sound}), flush=True)


def _told(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
