"""Which sample filters a recipe runs, and whether what they need is there: settled before a run starts.

A filter whose weights are missing stops the run with the command that gets them, or is left out when the recipe says
so; then its score stays null and says why. Nothing is fetched. Each filter that is to run is made once and measures a
frame, in a process of its interpreter (`curation.filters.trial`), on this machine.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.filters.base import WEIGHTS_MISSING, SampleFilter
from curation.filters.section import FilterSection, FilterSpec
from curation.filters.table import Filter
from curation.filters.trial import CUSTOM, MakeFilter, try_out
from pipelines.config.recipe import Recipe
from pipelines.config.sections import CustomSection
from pipelines.doctor.hardware import gpus

OFF = "filter off"


@dataclass(frozen=True, slots=True)
class Ready:
    """A sample filter as a run sees it. `make` is None where it does not run; `why` says what its nulls say."""

    name: str
    scores: tuple[str, ...]
    why: str
    fingerprint: str = ""
    from_tier: str | None = None
    make: Callable[[], SampleFilter] | None = None
    gpus: float = 0.0
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One filter of a recipe, to be tried out. `settings`: see `trial.make`; `python`: None is our interpreter."""

    name: str
    settings: dict[str, Any]
    python: str | None = None
    on_gpu: bool = False

    def run(self) -> str:
        """What holds, in a line. Raises `UserError` with what does not. What wants a GPU is tried where one is."""
        if self.on_gpu and not gpus():
            return "not tried: no GPU on this machine"
        return try_out(json.dumps(self.settings), self.python)


def ready(recipe: Recipe) -> list[Ready]:
    """The recipe's sample filters in order of cost, each tried out. Raises `UserError` where one cannot run and must.

    A trial takes the seconds that the filter takes to start; one that went well is not repeated in this process.
    """
    found = listed(recipe)
    for trial in trials(recipe):
        trial.run()
    return found


def trials(recipe: Recipe) -> tuple[Trial, ...]:
    """The trials of the filters that the recipe runs, in order. Raises `UserError` where files are missing."""
    return tuple(_trial(filter_, filter_.make) for filter_ in listed(recipe) if isinstance(filter_.make, MakeFilter))


def listed(recipe: Recipe) -> list[Ready]:
    """The recipe's sample filters in order of cost, as far as files and packages by name can tell."""
    filters = recipe.filters
    return [*(_of_ours(one, section) for one, section in filters.ours), *map(_of_a_user, filters.custom)]


def computable(recipe: Recipe) -> list[Ready]:
    """Those of `listed` that this machine could run; a filter that lacks a file or a package here is left out."""
    found: list[Ready] = []
    for one, section in recipe.filters.ours:
        with contextlib.suppress(UserError):
            found.append(_of_ours(one, section))
    found += map(_of_a_user, recipe.filters.custom)
    return [one for one in found if one.make is not None]


def _of_ours(one: Filter, section: FilterSection) -> Ready:
    off = Ready(one.name, one.scores, OFF)
    if not section.enabled:
        return off
    spec = section.spec()
    if spec is None:
        return replace(off, why=WEIGHTS_MISSING)
    return _running(one.name, one.scores, section.from_tier, spec, one.name)


def _of_a_user(section: CustomSection) -> Ready:
    return _running(section.name, section.columns, section.from_tier, section.spec(), CUSTOM)


def _running(name: str, scores: tuple[str, ...], from_tier: str | None, spec: FilterSpec, made_by: str) -> Ready:
    """`made_by`: see `trial.make`."""
    why = "not run yet" if from_tier is None else f"not reached (tier {from_tier})"
    make = MakeFilter(json.dumps({"filter": made_by, **spec.settings}))
    return Ready(name, scores, why, spec.fingerprint, from_tier, make, spec.gpus, _interpreter(spec.python))


def _interpreter(python: str | None) -> str | None:
    """A worker starts in a folder of its own, where a relative path means nothing."""
    return str(Path(python).expanduser().absolute()) if python else None


def _trial(filter_: Ready, make: MakeFilter) -> Trial:
    """On this machine, which need not have the GPU that the workers have. Where ours would compute we know, where a
    user's would we do not.
    """
    settings = json.loads(make.settings)
    if "device" in settings:
        return Trial(filter_.name, settings | {"device": "cpu"}, filter_.python)
    return Trial(filter_.name, settings, filter_.python, on_gpu=filter_.gpus > 0)
