"""A user's own filter among ours: found by its name, made with its options, its answers checked.

Runs where the other sample filters run, in a scoring worker and before that in a trial. `[[filters.custom]]` of a
recipe says which; what a filter must be is in docs/filters.md. It runs as the user who starts the job: unlike a video,
it is trusted.

Imported in environments that hold little: numpy and the standard library.
"""

from __future__ import annotations

import importlib
import numbers
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.filters.base import NO_SAMPLES, ScoreValue
from curation.identity import fingerprint

GROUP = "ziggurat.filters"
"""The group of entry points in which a package may announce filters."""


_WHY = 200
"""Characters of a reason that are kept."""

_MOST = float(np.finfo(np.float32).max)


class WrongAnswer(ValueError):
    """What a filter has answered is not what it was asked for."""


def custom_fingerprint(name: str, version: int, filter_: str, options: Mapping[str, Any]) -> str:
    """How the filter's values are made, as far as the recipe says: `version` is raised when the filter has changed."""
    return fingerprint(name, version, {"filter": filter_, "options": dict(options)})


class Custom:
    """A `SampleFilter` around an object that has `measure(clips)`.

    `filter_`: "package.module:Class", or the name of an entry point in `GROUP`; called with `options` as keywords.
    Raises `UserError` where it cannot be found, or not be made.
    """

    def __init__(
        self, name: str, filter_: str, scores: Sequence[str], version: int = 1, options: Mapping[str, Any] | None = None
    ) -> None:
        self.name, self.scores = name, tuple(scores)
        self.fingerprint = custom_fingerprint(name, version, filter_, options or {})
        make = found(name, filter_)
        try:
            self._filter = make(**(options or {}))
        except Exception as error:
            raise UserError(
                f"the filter {name} ({filter_}) cannot be made: {_said(error)}", "see its options"
            ) from error

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[tuple[ScoreValue, ...]]:
        """See `SampleFilter.measure`. The filter sees the clips that have sample frames. Raises `WrongAnswer`."""
        whole = [clip for clip in clips if len(clip)]
        answers = iter(self._asked(whole)) if whole else iter(())
        none = (ScoreValue(None, NO_SAMPLES),) * len(self.scores)
        return [self._values(next(answers)) if len(clip) else none for clip in clips]

    def _asked(self, clips: list[Sequence[np.ndarray]]) -> list[Any]:
        answers = list(self._filter.measure(clips))
        if len(answers) != len(clips):
            raise WrongAnswer(f"the filter {self.name} gave {len(answers)} answers for {len(clips)} clips")
        return answers

    def _values(self, answer: Any) -> tuple[ScoreValue, ...]:
        if answer is None or isinstance(answer, str) or (len(self.scores) == 1 and not isinstance(answer, Mapping)):
            return (self._value(answer),) * len(self.scores)
        if not isinstance(answer, Mapping) or set(answer) != set(self.scores):
            given = ", ".join(map(str, answer)) if isinstance(answer, Mapping) else type(answer).__name__
            raise WrongAnswer(f"the filter {self.name} gave {given} in the place of {', '.join(self.scores)}")
        return tuple(self._value(answer[score]) for score in self.scores)

    def _value(self, value: Any) -> ScoreValue:
        """A finite number; or a text or None, which say that there is no value, and why."""
        if value is None or isinstance(value, str):
            return ScoreValue(None, f"{self.name}: {' '.join((value or '').split())[:_WHY] or 'no value'}")
        if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_) or not abs(float(value)) <= _MOST:
            raise WrongAnswer(f"the filter {self.name} gave {value!r:.80}, which is no finite number of float32")
        return ScoreValue(float(value))


def found(name: str, filter_: str) -> type:
    """The class that `filter_` names. `UserError` where there is none in this environment, or where it has no
    `measure`: nothing else is ever called.
    """
    remedy = "install its package where the filter runs, or put its folder on PYTHONPATH"
    module, colon, attribute = filter_.partition(":")
    try:
        if colon:
            made = importlib.import_module(module)
            for part in attribute.split("."):
                if not hasattr(made, part):
                    raise UserError(f"the filter {name}: {module} has no {attribute}", "write package.module:Class")
                made = getattr(made, part)
        else:
            made = _announced(name, filter_).load()
    except UserError:
        raise
    except Exception as error:  # an import runs whatever the module holds
        raise UserError(f"the filter {name}: {filter_} cannot be imported: {_said(error)}", remedy) from error
    if not isinstance(made, type) or not callable(getattr(made, "measure", None)):
        raise UserError(f"the filter {name}: {filter_} is no class with a method `measure`", "see docs/filters.md")
    return made


def _announced(name: str, filter_: str) -> metadata.EntryPoint:
    points = list(metadata.entry_points(group=GROUP, name=filter_))
    if len(points) != 1:
        who = "no package announces" if not points else f"{len(points)} packages announce"
        remedy = "install the one that you mean, or write package.module:Class"
        raise UserError(f"the filter {name}: {who} {filter_!r} in the group {GROUP}", remedy)
    return points[0]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
