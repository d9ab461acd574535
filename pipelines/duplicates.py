"""Near-duplicates: every clip gets its `likeness` with a better one, and where that is enough, whose copy it is.

    clips without a place -> rounds of some thousands: [compare] -> what changes (`similar.places`) -> rows

A round's clips are compared with each other and with all that have a place. A round is committed when it is done: that
is what a kill may cost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import LIKENESS, Reason, Verdict, clips_schema
from curation.embed.groups import Pair
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.similar import places
from curation.pyramid.similar.places import Rule
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.spaces import Space
from pipelines.execution.ray_data import StageSpec, run
from pipelines.stages.compare import ClipsToCompare, Compared, CompareStage
from pipelines.stages.results import Scored

if TYPE_CHECKING:
    from pipelines.execution.work import Job

STAGE = "duplicates"
ROUND = 2000
"""Clips that are compared before what was found is committed."""
AT_ONCE = 16
"""Clips of an item: their candidates are looked for in one pass."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run of it works by: the rule, the clips of which tier (None: all), and whose signatures count."""

    rule: Rule
    tier: str | None
    space: Space
    signed_by: str


def find(job: Job, wanted: Wanted, again: Collection[str] = ()) -> None:
    """Find the place of every clip that has none. `again`: see `Ledger.stale_clips`."""
    # No row of its clips is written, so they would come again for ever.
    tombstones.check_ended(job.pyramid.files, "and clips that are to go cannot be compared")
    _unsettle_lost(job, wanted.rule)
    tried = set[str]()
    with job.watch.over(STAGE, job.coordinator):
        while clips := list(islice(_without_place(job.pyramid, wanted, again, tried), ROUND)):
            job.watch.expect(len(clips))
            tried |= _round(job, wanted, clips)
            if len(clips) < ROUND:  # the last one, but for clips whose best has become a copy meanwhile
                _unsettle_lost(job, wanted.rule)


def _unsettle_lost(job: Job, rule: Rule) -> None:
    with job.watch.searching("looking up which groups have lost their best"):
        for some in chunks(sorted(lost(job.pyramid, rule)), ROUND):
            _commit(job, [places.unsettled(clip_id) for clip_id in some])


def _without_place(
    pyramid: Pyramid, wanted: Wanted, again: Collection[str], tried: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Clips, and the video of each; not those that this run has tried in vain."""
    batches = Ledger(pyramid).stale_clips(LIKENESS, wanted.rule.by, pyramid.tiers, wanted.tier, again=again)
    pairs = (pair for batch in batches for pair in zip(*batch.to_pydict().values(), strict=True))
    return (pair for pair in pairs if pair[0] not in tried)


def _round(job: Job, wanted: Wanted, clips: Sequence[tuple[str, str]]) -> set[str]:
    """Compare some clips and write what changes; those that could not be compared."""
    new, rule = frozenset(clip_id for clip_id, _ in clips), wanted.rule
    items = [ClipsToCompare(*zip(*part, strict=True)) for part in chunks(clips, AT_ONCE)]
    pairs, failed, faults = _compared(job, wanted, new, items, is_shown=True)
    while True:
        good = new - {*failed, *faults}
        pairs = [pair for pair in pairs if {pair.one, pair.other}.isdisjoint(faults)]
        rows = _of_pairs(job.pyramid, good, pairs)
        found = places.changed(rows, good, pairs, rule, job.pyramid.tiers)
        if not found.unmet:
            break
        more, _, lost_now = _compared(job, wanted, new, _asked(found.unmet, rows))
        pairs, faults = pairs + more, faults | lost_now
    written = {row["clip_id"] for row in found.rows}
    copies = [places.unsettled(name) for name in _copies_of(job.pyramid, found.deposed) if name not in written]
    _commit(job, [*found.rows, *copies, *(places.without(*one, rule) for one in failed.items())])
    videos = dict(clips)
    lost_new = {name: why for name, why in faults.items() if name in new}
    _commit(job, [places.without(*one, rule) for one in lost_new.items()], [videos[name] for name in lost_new])
    return {*failed, *lost_new}


def _asked(unmet: Sequence[tuple[str, str]], rows: Mapping[str, Mapping[str, Any]]) -> list[ClipsToCompare]:
    """Items for pairs that are to be compared."""
    others: dict[str, list[str]] = {}
    for name, other in unmet:
        others.setdefault(name, []).append(other)
    asked = ((name, rows[name]["video_id"], tuple(some)) for name, some in others.items())
    return [ClipsToCompare(*zip(*part, strict=True)) for part in chunks(asked, AT_ONCE)]


def _compared(
    job: Job, wanted: Wanted, new: frozenset[str], items: Sequence[ClipsToCompare], is_shown: bool = False
) -> tuple[list[Pair], dict[str, str], dict[str, str]]:
    """The pairs of some items, why clips could not be compared, and those for which that is a fault of ours."""
    make = CompareStage(job.pyramid, wanted.space, wanted.signed_by, wanted.rule.by, new, limits=job.recipe.limits)
    stage = StageSpec(STAGE, make, give_up=make.give_up)
    pairs, failed, faults = list[Pair](), dict[str, str](), dict[str, str]()
    for delivery in run(items, [stage], job.coordinator, job.resources, _nothing, job.recipe.run.attempts):
        compared: Compared = delivery.result
        pairs += compared.pairs
        (faults if compared.fault else failed).update(compared.failed)
        job.watch.advance(len(compared) if is_shown else 0)
    return pairs, failed, faults


def _of_pairs(pyramid: Pyramid, new: Collection[str], pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """The rows that `places.changed` wants."""
    rows = _rows(pyramid, {*new, *(name for pair in pairs for name in (pair.one, pair.other))})
    return rows | _rows(pyramid, {row[places.BEST] for row in rows.values() if row[places.BEST]} - rows.keys())


def lost(pyramid: Pyramid, rule: Rule) -> set[str]:
    """Clips of groups that have lost their best; see `places.has_lost_its_best`."""
    clips = pyramid.dataset("clips")
    if places.BY not in clips.schema.names:
        return set()
    found, bests = set[str](), set[str]()
    copies = clips.scanner(columns=["clip_id", places.BEST], filter=pc.field(places.BEST).is_valid())
    for batch in copies.to_batches():
        best_of = dict(zip(*batch.to_pydict().values(), strict=True))
        rows = _rows(pyramid, {*best_of, *best_of.values()})
        for name, best in best_of.items():
            if name in rows and places.has_lost_its_best(rows[name], rows.get(best), rule, pyramid.tiers):
                found |= {name, best} & rows.keys()
                bests.add(best)
    return found | {*_copies_of(pyramid, sorted(bests))}


def _rows(pyramid: Pyramid, clip_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The rows of those clips that are there, with all that ranks them."""
    clips, columns = pyramid.dataset("clips"), places.read(pyramid.scores)
    parts = (select(clips, "clip_id", some, columns).to_pylist() for some in chunks(sorted(clip_ids), ROUND))
    return {row["clip_id"]: row for rows in parts for row in rows}


def _copies_of(pyramid: Pyramid, clip_ids: Sequence[str]) -> list[str]:
    clips = pyramid.dataset("clips")
    parts = (select(clips, places.BEST, some, ["clip_id"]) for some in chunks(clip_ids, ROUND))
    return [name for table in parts for name in table["clip_id"].to_pylist()]


def _commit(job: Job, rows: Sequence[dict[str, Any]], of_lost: Sequence[str] = ()) -> None:
    """Commit rows; those of a fault of ours, of clips of the videos `of_lost`, count as losses."""
    if not rows:
        return
    schema = clips_schema([LIKENESS])
    table = pa.Table.from_pylist(list(rows), schema=pa.schema([schema.field(name) for name in places.WRITTEN]))
    Committer(job.pyramid).commit(Batch(clip_updates=[table]))
    failed = Verdict(Reason.INTERNAL, detail=rows[0][places.WHY]) if of_lost else None
    job.account.add(Scored(table, len(rows), failed, tuple(of_lost)))


def _nothing(_: Compared) -> str:
    """Nothing of a round is kept before it is whole."""
    return ""
