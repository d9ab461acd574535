"""`ziggurat curate --dry-run`: what a run would do, and what it may come to, without doing it.

The sources are listed, the pyramid is asked what it knows, the machine is checked, and some of the sources that are
left are tried (`execution.probe`). Nothing is written, into the pyramid or beside it.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from curation.contract import Source, Status
from curation.inputs.sidecars import Sidecars
from curation.inputs.sources import NO_SIDECARS, Refused, list_sources
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from pipelines.commands.pyramid.tiers import plain, still_to_do
from pipelines.config import captions
from pipelines.config.adoption import Choice, choose
from pipelines.config.filters import listed
from pipelines.config.recipe import Recipe
from pipelines.curate import check_gpus
from pipelines.doctor import checks, hardware
from pipelines.embedding import blocks as embeddings
from pipelines.execution.jobs import Options, checked
from pipelines.execution.orders.settled import settled_under, stale_uris
from pipelines.execution.probe import Probe, Probed
from pipelines.execution.records.notices import of_cutting, of_scores

DRAWN = 2000
"""Sources among which those of the trial are chosen, drawn at random from all that are left to do."""

TRIED = 8
_BATCH = 2000

Searching = Callable[[str], AbstractContextManager[None]]
"""Says what takes time, until the block ends."""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What all that is left to do may come to. `disk_bytes`: of sample frames and cut clips. `cpu_hours`: of
    processors, and `hours` on those of this machine.
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
    """What a run would do. `passed_over`: files of folders that are no inputs, by extension; `refused`: entries that
    are no sources, by reason; `settled`: sources that the pyramid knows already; `to_do`, `to_do_bytes`: those that are
    left. `trial`: what some of them came to; `all_of_it`: what that means for all of them. Both are None where nothing
    is left.

    `waiting`: clips of the pyramid that a run would score, by score, `cut`, have captioned or embedded; they are not in
    `all_of_it`.
    """

    pyramid: str
    recipe: str
    is_new: bool
    inputs: int
    passed_over: dict[str, int]
    refused: dict[str, int]
    settled: int
    to_do: int
    to_do_bytes: int
    trial: Probed | None
    all_of_it: Reckoning | None
    waiting: dict[str, int]
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        return {"event": "dry_run", **plain(self)}


@dataclass(slots=True)
class Left:
    """The sources of a listing that are left to do: their number and bytes, and some of them drawn at random.

    `unsized`: those of a store that tells no sizes. An empty file has a size, 0, and a time.
    """

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
        self.unsized += not source.bytes and not source.modified
        if len(self.drawn) < DRAWN:
            self.drawn.append(source)
        elif (place := self._random.randrange(self.number)) < DRAWN:
            self.drawn[place] = source

    def chosen(self, most: int) -> list[Source]:
        """Those to try. All where they are few; else at even steps through the bytes of those drawn, from small to
        large: a source stands for as much as it weighs, and one may be chosen more than once.
        """
        ordered = sorted(self.drawn, key=lambda source: (source.bytes, source.uri))
        if len(ordered) <= most:
            return ordered
        ends = list(accumulate(source.bytes if not self.unsized else 1 for source in ordered))
        points = ((place + 0.5) * ends[-1] / most for place in range(most))
        return [ordered[min(bisect_right(ends, point), len(ordered) - 1)] for point in points]


def dry_run(
    sources: Sequence[str],
    to: str,
    options: Options,
    searching: Searching,
    root: str | None = None,
    follow_links: bool = False,
    tried: int = TRIED,
    sidecars: Sidecars = NO_SIDECARS,
) -> DryRun:
    """What `curate` with these arguments would do. `UserError` for arguments or a machine that it would not take."""
    choice = choose(to, options.recipe, options.replace_recipe)
    recipe, filters = choice.recipe, listed(choice.recipe)
    captions.listed(recipe)
    embeddings.listed(recipe)
    with searching("checking the set-up"):
        check_gpus(recipe, (), bool(hardware.gpus()))
        notes = checks.pass_all(checks.of_machine(recipe))
    with searching("listing the sources, and looking up what is settled"):
        taken, outside = recipe.extensions, root is None
        listing = list_sources(
            sources, extensions=taken, root=root, allow_outside=outside, follow_links=follow_links, sidecars=sidecars
        )
        stale = set() if choice.pyramid is None else stale_uris(Ledger(choice.pyramid), recipe.plan, options.retry)
        left = _left(checked(listing), choice.pyramid, recipe, options.retry, stale)
    tiers = recipe.pyramid_tiers if choice.pyramid is None or choice.replaces else choice.pyramid.tiers
    notes += [*of_scores(tiers, filters), *of_cutting(recipe, to, tiers), *listing.notices()]
    trials: list[Probed] = []
    if left.number:
        with Probe(recipe, tiers, filters, _knows(choice, options.retry, stale)) as probe:
            chosen = left.chosen(tried)
            for number, source in enumerate(dict.fromkeys(chosen), 1):
                with searching(f"trying source {number} of {len(set(chosen))}: {source.uri}"):
                    trials += [probe(source)] * chosen.count(source)
            notes += [f"{name} is not reckoned: {why}" for name, why in probe.untried.items()]
    waiting, more = _waiting(choice)
    return DryRun(
        to,
        recipe.name,
        choice.pyramid is None,
        left.inputs,
        dict(listing.tally.passed_over),
        dict(left.refused),
        left.settled,
        left.number,
        left.bytes,
        summed(trials) if trials else None,
        reckoned(trials, left) if trials else None,
        waiting,
        (*notes, *more, *_of_sizes(left)),
    )


def _of_sizes(left: Left) -> Iterable[str]:
    return [f"{left.unsized} sources have no known size: each is reckoned as the mean"] if left.unsized else []


def _knows(choice: Choice, retry: bool, stale: set[str]) -> Callable[[str], bool]:
    """Whether the pyramid has nothing to do for a content."""
    if choice.pyramid is None:
        return lambda video_id: False
    ledger, plan = Ledger(choice.pyramid), choice.recipe.plan.fingerprint
    dead = tombstones.read(choice.pyramid.files)

    def knows(video_id: str) -> bool:
        if video_id in dead:
            return True
        known = ledger.lookup([video_id]).get(video_id)
        if known is None or known.fingerprint != plan:
            return False
        return stale.isdisjoint(known.uris) and not (retry and known.status is Status.QUARANTINED)

    return knows


def _waiting(choice: Choice) -> tuple[dict[str, int], list[str]]:
    """What a run would do for the clips that are there, and what cannot be said of it."""
    if choice.pyramid is None:
        return {}, []
    if choice.replaces:
        told = f"the recipe {choice.recipe.name} would take the place of {choice.pyramid.recipe_name}"
        return {}, [f"{told}; what it leaves to do for clips that are there is not counted"]
    waiting = still_to_do(choice.pyramid, choice.recipe)
    return {what: count for what, count in waiting.as_data().items() if count}, []


def _left(
    entries: Iterator[Source | Refused], pyramid: Pyramid | None, recipe: Recipe, retry: bool, stale: set[str]
) -> Left:
    left, ledger = Left(), None if pyramid is None else Ledger(pyramid)
    batch: list[Source] = []

    def take() -> None:
        fresh = [source for source in batch if source.uri not in stale]
        settled = set() if ledger is None else settled_under(ledger, recipe.plan, fresh, retry)
        left.settled += len(settled)
        for source in batch:
            if source not in settled:
                left.add(source)
        batch.clear()

    for entry in entries:
        left.inputs += 1
        if isinstance(entry, Refused):
            left.refused[str(entry.verdict.reason)] += 1
            continue
        batch.append(entry)
        if len(batch) == _BATCH:
            take()
    take()
    return left


def summed(trials: Iterable[Probed]) -> Probed:
    """All trials together, each source once."""
    total = Probed()
    for one in {id(one): one for one in trials}.values():
        for name in ("sources", "bytes", "seconds", "clips", "kept", "kept_s", "stored", "not_scored", "not_cut"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.outcomes.update(one.outcomes)
        for stage, spent in one.cpu_s.items():
            total.cpu_s[stage] = total.cpu_s.get(stage, 0.0) + spent
    return total


def reckoned(trials: Sequence[Probed], left: Left) -> Reckoning:
    """What all of `left` may come to. Where all of it was tried, what that came to; else so much for each byte as the
    tried sources took for one of theirs in the mean, and for each source of unknown size as one took.
    """

    def total(value: Callable[[Probed], float]) -> float:
        if len(trials) >= left.number:
            return sum(map(value, trials))
        sized = [one for one in trials if one.bytes]
        by_byte = sum(value(one) / one.bytes for one in sized) / max(1, len(sized))
        return by_byte * left.bytes + left.unsized * sum(map(value, trials)) / len(trials)

    cpu_hours = total(lambda one: sum(one.cpu_s.values())) / 3600
    return Reckoning(
        source_hours=total(lambda one: one.seconds) / 3600,
        clips=round(total(lambda one: one.clips)),
        kept=round(total(lambda one: one.kept)),
        kept_hours=total(lambda one: one.kept_s) / 3600,
        disk_bytes=round(total(lambda one: one.stored)),
        cpu_hours=cpu_hours,
        hours=cpu_hours / hardware.cpus(),
    )
