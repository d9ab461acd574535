"""`ziggurat curate --dry-run`: what a run would do, and what it may come to, without doing it.

The sources are listed, the pyramid is asked what it knows, the set-up is checked, and some of the sources that are left
are measured, scored and cut for a trial (`execution.probe`). Nothing is written, into the pyramid or beside it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from curation.contract import Source
from curation.errors import UserError
from curation.inputs.sources import Refused, list_sources
from curation.pyramid.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.rows import attempt_fingerprint
from pipelines.config.adoption import choose
from pipelines.config.filters import listed
from pipelines.config.recipe import Recipe
from pipelines.doctor import checks
from pipelines.execution.jobs import Options
from pipelines.execution.probe import Probed, probe

DRAWN = 2000
"""Sources among which those of the trial are chosen, drawn at random from all that are left to do."""

TRIED = 8
_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What all that is left to do may come to: as much for each byte of it as the trial did for each of its bytes.

    `disk_bytes`: of sample frames and cut clips. `cpu_hours`: of processors, and `hours` on those of this machine.
    """

    source_hours: float
    clips: int
    kept: int
    kept_hours: float
    disk_bytes: int
    cpu_hours: float
    hours: float


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do. `refused`: entries that are no sources, by reason; `settled`: sources that the pyramid knows
    already; `to_do`, `to_do_bytes`: those that are left. `trial`: what some of them came to; `all_of_it`: what that
    means for all of them. Both are None where nothing is left.
    """

    pyramid: str
    recipe: str
    is_new: bool
    inputs: int
    refused: dict[str, int]
    settled: int
    to_do: int
    to_do_bytes: int
    trial: Probed | None
    all_of_it: Reckoning | None
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        from pipelines.commands.tiers import plain

        return {"event": "dry_run", **plain(self)}


@dataclass(slots=True)
class _Left:
    """The sources of a listing that are left to do: their number and bytes, and some of them drawn at random."""

    inputs: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    number: int = 0
    bytes: int = 0
    unsized: int = 0
    drawn: list[Source] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, source: Source) -> None:
        self.number += 1
        self.bytes += source.bytes
        self.unsized += not source.bytes
        if len(self.drawn) < DRAWN:
            self.drawn.append(source)
        elif (place := self._random.randrange(self.number)) < DRAWN:
            self.drawn[place] = source

    def chosen(self, most: int) -> list[Source]:
        """Some of those drawn, from small to large, so that every size has its share."""
        ordered = sorted(self.drawn, key=lambda source: (source.bytes, source.uri))
        many = min(most, len(ordered))
        return [ordered[int((place + 0.5) * len(ordered) / many)] for place in range(many)]


def dry_run(
    sources: Sequence[str],
    to: str,
    options: Options,
    searching: Callable[[str], AbstractContextManager[None]],
    root: str | None = None,
    follow_links: bool = False,
    tried: int = TRIED,
) -> DryRun:
    """What `curate` with these arguments would do. Raises the `UserError` that it would end with before it begins."""
    choice = choose(to, options.recipe, options.replace_recipe)
    with searching("checking the set-up"):
        notes = checks.pass_all(checks.of_machine(choice.recipe))
    with searching("listing the sources, and looking up what is settled"):
        listing = list_sources(sources, root=root, allow_outside=root is None, follow_links=follow_links)
        left = _left(listing, choice.pyramid, choice.recipe, options.retry)
    if not left.inputs:
        raise UserError("the sources name no video", "give files, folders, globs or lists that hold some")
    with searching("trying some of the sources"):
        trial = (
            probe(choice.recipe, listed(choice.recipe), left.chosen(tried), lambda name: None) if left.number else None
        )
    if choice.replaces and choice.pyramid is not None:
        notes.append(f"the recipe {choice.recipe.name} would take the place of {choice.pyramid.recipe_name}")
    if left.unsized:
        notes.append(f"the size of {left.unsized} sources is not known: all are reckoned as the mean of those tried")
    notes += listing.notices()
    notes += [f"{name} could not be tried ({why}): it is not in what is reckoned" for name, why in _failed(trial)]
    return DryRun(
        to,
        choice.recipe.name,
        choice.pyramid is None,
        left.inputs,
        dict(left.refused),
        left.settled,
        left.number,
        left.bytes,
        trial,
        None if trial is None else reckoned(trial, left.number, left.bytes, by_bytes=not left.unsized),
        tuple(notes),
    )


def _failed(trial: Probed | None) -> Iterable[tuple[str, str]]:
    return trial.failed.items() if trial is not None else ()


def _left(listing: Iterator[Source | Refused], pyramid: Pyramid | None, recipe: Recipe, retry: bool) -> _Left:
    left, ledger = _Left(), None if pyramid is None else Ledger(pyramid)
    plan, attempt = recipe.plan.fingerprint, attempt_fingerprint(recipe.plan)
    batch: list[Source] = []

    def take() -> None:
        settled = set() if ledger is None else ledger.settled(batch, plan, retry, attempt)
        left.settled += sum(source in settled for source in batch)
        for source in batch:
            if source not in settled:
                left.add(source)
        batch.clear()

    for entry in listing:
        left.inputs += 1
        if isinstance(entry, Refused):
            left.refused[str(entry.verdict.reason)] += 1
            continue
        batch.append(entry)
        if len(batch) == _BATCH:
            take()
    take()
    return left


def reckoned(trial: Probed, number: int, size: int, by_bytes: bool = True) -> Reckoning | None:
    """What `number` sources of `size` bytes may come to; None where nothing was tried."""
    if not trial.sources or (by_bytes and not trial.bytes):
        return None
    times = size / trial.bytes if by_bytes else number / trial.sources
    cpu_hours = sum(trial.cpu_s.values()) * times / 3600
    return Reckoning(
        source_hours=trial.seconds * times / 3600,
        clips=round(trial.clips * times),
        kept=round(trial.kept * times),
        kept_hours=trial.kept_s * times / 3600,
        disk_bytes=round(trial.stored * times),
        cpu_hours=cpu_hours,
        hours=cpu_hours / max(1, len(os.sched_getaffinity(0))),
    )
