"""What a filter of the table says of itself, beside the measuring: its part of a recipe, what it needs, how it is made.

The recipe holds a `FilterSection` for each line of `table.FILTERS`. The driver asks it how the filter runs (`spec`) and
what that needs; a worker has the filter made by it (`make`), from plain settings. It is imported in the environment
that a filter runs in, so a module of a section imports its filter's packages no earlier than `make` does.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.exact import Exact
from curation.filters.base import SampleFilter
from curation.filters.table import Filter


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """How a filter runs under a recipe.

    `fingerprint`: of the filter that `settings` make. `settings`: keywords for `make`, of what JSON holds; where one is
    called `device`, the trial before a run, which may be on a machine without a GPU, gives "cpu" for it. `gpus`: that a
    worker holds. `python`: the interpreter of its environment, None for ours.
    """

    fingerprint: str
    settings: Mapping[str, Any]
    gpus: float = 0.0
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """A thing on the machine that a filter works with, in `doctor`'s report. `value`: where it is, or what is lacking;
    `get`: the command that gets it, "" where it is there.
    """

    name: str
    present: bool
    value: str
    get: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment of its own that a filter can run in: `.envs/FOLDER`, or that of `python`, which the recipe names.

    `name`: in `doctor`'s report. `packages`: distributions of which it holds one. `get`: the command that makes it.
    """

    name: str
    folder: str
    packages: tuple[str, ...]
    get: str
    python: str | None = None


class FilterSection(Exact):
    """A filter's table of a recipe: its options are the fields of a subclass. `spec` and `make` are all that it needs.

    Its docstring and those of its fields are what docs/recipe.md says of them.
    """

    enabled: bool = True
    """Whether the score is made."""
    from_tier: str | None = None
    """Only clips that can still be in this tier are scored; without it all are."""

    @abstractmethod
    def spec(self) -> FilterSpec | None:
        """How the filter runs, as far as files and packages by name can tell; nothing is loaded.

        Raises `UserError` where something is missing and the run must not go on; None where the recipe lets it go on
        without the weights that are missing.
        """

    @staticmethod
    @abstractmethod
    def make(*args: Any, **settings: Any) -> SampleFilter:
        """The filter that `FilterSpec.settings` describe, in a worker; it has the fingerprint that `spec` says.

        Raises `UserError` where something that it needs is not there.
        """

    def needs(self) -> Sequence[Need]:
        """Files and the like that the filter works with, for `doctor`, whether it is enabled or not."""
        return ()

    def environment(self) -> Environment | None:
        """The environment that it can run in, for `doctor`, whether the recipe wants it or not."""
        return None

    def required(self) -> frozenset[str]:
        """What the filter cannot do without under this recipe, by the names of `doctor`'s lines: those of its `needs`
        and its `environment`, packages, and `GPU`. Asked where it is enabled.
        """
        return frozenset()


def section_of(one: Filter) -> type[FilterSection]:
    """The section of a line of the table; imports its module."""
    module, _, name = one.section.partition(":")
    kind = getattr(importlib.import_module(module), name)
    assert isinstance(kind, type) and issubclass(kind, FilterSection), one
    return kind
