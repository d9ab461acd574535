"""Clusters: every clip gets the number of its cluster, and how crowded that is up to it.

    vectors -> centroids, kept in the pyramid -> the cluster of each clip -> ranks within clusters -> rows that change

The clips of a pyramid are ranked together, so all of their ids, ranks and clusters are held: some hundred bytes a clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curation.contract import CROWDING, clips_schema
from curation.embed.clusters import crowding
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries.derived import DERIVED, stored
from curation.pyramid.similar import clusters
from curation.pyramid.similar.clusters import Fit
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.tiering.retier import judged
from curation.pyramid.tiering.tiers import JUDGED, Tiers
from curation.spaces import Space
from pipelines.config.clusters_section import ClustersSection
from pipelines.stages.results import Scored

if TYPE_CHECKING:
    from pipelines.execution.work import Job

STAGE = "clusters"
WRITTEN = ("clip_id", "cluster", CROWDING, f"{CROWDING}_by", f"{CROWDING}_why")
_COMMIT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run works by: the recipe's section, the space, and whose vectors count. `again`: the clusters in force are
    given up and made anew.
    """

    section: ClustersSection
    space: Space
    by: str
    again: bool = False


def find(job: Job, wanted: Wanted) -> list[str]:
    """Find the cluster of every clip, and write what has changed; what a person should know of it."""
    pyramid = job.pyramid
    if not pyramid.query().count():
        return []
    numbered = pyramid.query().having("cluster").count() > 0
    before = clusters.kept(pyramid, wanted.space, wanted.section.asked(wanted.space, wanted.by))
    with job.watch.searching("making clusters of the vectors"):
        fit = _fit(pyramid, wanted)
    while True:
        _write(job, wanted, fit)
        now = clusters.kept(pyramid, wanted.space, fit.asked)
        if now is None or now.name == fit.name:
            break
        fit = now  # another run has made new ones, and rows of both may stand beside each other
    is_new = numbered and (before is None or before.name != fit.name)
    return ["new clusters were made: their numbers mean other clips than before"] if is_new else []


def _write(job: Job, wanted: Wanted, fit: Fit) -> None:
    """Bring the rows in line with some centroids."""
    pyramid = job.pyramid
    with job.watch.searching("ranking the clips of each cluster"):
        rows = _placed(pyramid, wanted, fit, clusters.assigned(pyramid, wanted.space, fit))
    with job.watch.over(STAGE, job.coordinator):
        job.watch.expect(rows.num_rows)
        for start in range(0, rows.num_rows, _COMMIT_ROWS):
            some = rows.slice(start, _COMMIT_ROWS)
            Committer(pyramid).commit(Batch(clip_updates=[some]))
            job.account.add(Scored(some, some.num_rows))
            job.watch.advance(some.num_rows)


def _fit(pyramid: Pyramid, wanted: Wanted) -> Fit:
    """The clusters in force where they are those that are wanted, else new ones, kept. UserError while a takedown is at
    work.
    """
    asked = wanted.section.asked(wanted.space, wanted.by)
    if not wanted.again and (there := clusters.kept(pyramid, wanted.space, asked)) is not None:
        return there
    while True:
        # In this order: a takedown that begins after the first is seen by `keep`, and one that had begun by the second.
        dead = tombstones.read(pyramid.files)
        tombstones.check_ended(pyramid.files, "and clips that are to go would be counted")
        found = clusters.fit(pyramid, wanted.space, asked)
        if clusters.keep(pyramid, found, dead):
            return found


def _placed(pyramid: Pyramid, wanted: Wanted, fit: Fit, of_clips: pa.Table) -> pa.Table:
    """The rows (`WRITTEN`) of the clips whose place is another than what stands."""
    section, tiers = wanted.section, pyramid.tiers.without([CROWDING])
    pool = section.pool(pyramid.tiers)
    schema = pa.schema([clips_schema([CROWDING]).field(name) for name in WRITTEN])
    if not (tables := [*_ranked(pyramid, tiers, section.best, wanted.space)]):
        return schema.empty_table()
    clips = pa.concat_tables(tables)
    found = pc.fill_null(pc.index_in(clips["key"], of_clips["key"]), -1)  # pyright: ignore[reportAttributeAccessIssue]
    place = found.to_numpy()
    cluster = np.where(place >= 0, np.append(of_clips["cluster"].to_numpy(), -1)[place], -2).astype(np.int64)
    in_pool = clips["tier"].to_numpy() >= (-1 if pool is None else tiers.position(pool))
    ranked = in_pool & (cluster >= 0)
    values = np.full(clips.num_rows, np.nan)
    order = np.flatnonzero(ranked)[_best_first(clips.filter(pa.array(ranked)), section.best)]
    values[order] = crowding(cluster[order])
    why = np.full(clips.num_rows, None, object)
    why[cluster == -1] = f"its vector in {wanted.space.name} has no length"
    why[cluster == -2] = f"no vector in {wanted.space.name}"
    why[~in_pool] = f"{clusters.NOT_IN_TIER}{pool}"
    by = pa.array([section.settled_by(fit, pool)] * clips.num_rows)
    is_new = [clips["clip_id"], pa.array(cluster, mask=cluster < 0), pa.array(values, mask=~ranked), by, pa.array(why)]
    rows = pa.table(dict(zip(WRITTEN, is_new, strict=True))).cast(schema)
    return rows.filter(pa.array(_differs(rows, clips)))


def _ranked(pyramid: Pyramid, tiers: Tiers, best: tuple[str, ...], space: Space) -> Iterator[pa.Table]:
    """Of all clips what stands (`WRITTEN`); the `key` that a vector of it has; `tier`, the place of the strictest that
    admits it, -1 for none; the columns that rank it; `chance`.
    """
    columns = [name.removeprefix("-") for name in best]
    read = {*WRITTEN, *pyramid.scores, *stored((*JUDGED, *columns)), *clusters.key_columns(space)}
    number = {None: -1} | {name: position for position, name in enumerate(tiers.names)}
    for batch in pyramid.dataset("clips").scanner(columns=sorted(read)).to_batches():
        names = batch["clip_id"].to_pylist()
        found = {name: batch[name] for name in WRITTEN}
        found["key"] = clusters.keys_of(batch, space)
        found["tier"] = pa.array([number[tier] for tier in judged(batch, tiers)], pa.int32())
        for name in columns:
            found[f"best {name}"] = _number(batch, name)
        found["chance"] = pa.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], pa.uint64())
        yield pa.table(found)


def _number(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column as float64, derived or not; NaN where a clip has no value."""
    parts = DERIVED[name].parts if name in DERIVED else (name,)
    numbers = [batch[part].cast(pa.float64()).to_numpy(zero_copy_only=False) for part in parts]
    return pa.array(DERIVED[name].numbers(*numbers) if name in DERIVED else numbers[0])


def _best_first(clips: pa.Table, best: tuple[str, ...]) -> np.ndarray:
    """The order of clips: the strictest tier first, then the best; what has no number comes last."""
    keys = [clips["chance"].to_numpy()]
    for name in reversed(best):
        numbers = clips[f"best {name.removeprefix('-')}"].to_numpy()
        keys.append(np.nan_to_num(numbers if name.startswith("-") else -numbers, nan=np.inf))
    return np.lexsort([*keys, -clips["tier"].to_numpy()])


def _differs(rows: pa.Table, standing: pa.Table) -> np.ndarray:
    """Which rows say something else than what stands."""
    differs = np.zeros(rows.num_rows, bool)
    for name in WRITTEN[1:]:
        one, other = rows[name], standing[name]
        same = pc.or_(pc.fill_null(pc.equal(one, other), False), pc.and_(pc.is_null(one), pc.is_null(other)))  # pyright: ignore[reportAttributeAccessIssue]
        differs |= ~same.to_numpy()
    return differs
