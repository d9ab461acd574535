"""Commits: the one module that changes what readers of a pyramid see.

A batch is committed in the order samples, media, embeddings, captions, clips, videos, each step one Lance version or
two. The video's row comes last, so a reader who sees a done video finds its clips, their frames and their bytes (read
`videos` first, as `Pyramid.snapshot` does); who sees an aesthetic score finds the vector that it was made from, who
sees a model's caption finds what else the model said. A batch may be committed again at any time, wholly or after a
kill in its middle: the outcome is the same. What holds between concurrent committers, in one process or in many:

* `clips`, `videos`: one row per key, and no update is lost. Rows are read at one version, united with what
  arrives (`merge`) and written on the condition that no other commit touched them since (`upsert`); the loser
  reads again. So names of one content submitted from many jobs are all kept, and scores of different filters
  all land.
* `media`, `samples`: an append cannot be conditional, so two jobs may both append a clip, both rightly. After
  each append, of all rows with one clip_id only the one with the lowest address (the first ever committed) is
  kept. Every committer sees the first one, so all delete the same others; `clips.media` is set to the hash of
  the row that stays.
* `embeddings`, `unembedded`, `captions`: what is there already is not appended (`beside`). A caption that gives way
  to another is put there before the other is in force.
* Two jobs that process one video under different plans at the same time: the last row of `videos` wins; if
  its clips were removed by the other job, `upkeep` finds that and marks the video to be done again.
* What was taken down (`forget`) does not come in: `gate` leaves it out of the batch, `upsert` out of each transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curation.contract import CLIPS, VIDEOS
from curation.errors import UserError
from curation.pyramid.commits import beside, gate, merge, tail
from curation.pyramid.commits.upsert import Upsert
from curation.pyramid.storage.files import is_remote
from curation.pyramid.storage.fragments import read_ticket, write_media_fragments, write_samples_fragments
from curation.pyramid.storage.locks import writing
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.storage.transaction import committed, rows_at
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tiers
from curation.retry import retrying

__all__ = ["Batch", "Committed", "Committer", "write_media_fragments", "write_samples_fragments"]

_HEAVY = ("laplacian", "crop")
"""Columns united as Arrow arrays, not as Python lists."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit adds. Tables hold any columns of `contract.CLIPS` and `VIDEOS`, their key among them.

    `media`, `samples`: tickets of `fragments`. `clips`: rows to insert or unite with existing ones.
    `clip_updates`: columns for clips that exist (a clip that no longer does is skipped). `videos`: ledger
    rows of finished videos; `video_updates`: columns of ledger rows that exist. `replaced`: for a video that
    was done again under another plan, all clip_ids it has now; its other clips go. `embeddings`: vectors, each table of
    one space (`contract.embeddings_schema`). `captions`: what models said, rows of `contract.CAPTIONS`.
    `unembedded`: why clips have no vector, rows of `spaces.UNEMBEDDED`.
    """

    media: Sequence[str] = ()
    samples: Sequence[str] = ()
    clips: pa.Table | None = None
    videos: pa.Table | None = None
    clip_updates: Sequence[pa.Table] = ()
    video_updates: Sequence[pa.Table] = ()
    replaced: Mapping[str, Collection[str]] = field(default_factory=dict)
    embeddings: Sequence[pa.Table] = ()
    captions: Sequence[pa.Table] = ()
    unembedded: Sequence[pa.Table] = ()


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch that does what all of them do, in their order. Each one's `videos` has all columns or is None."""
    return Batch(
        media=[ticket for batch in batches for ticket in batch.media],
        samples=[ticket for batch in batches for ticket in batch.samples],
        # Of jobs with other scores of their own the columns differ.
        clips=_concatenated([batch.clips for batch in batches], promote_options="default"),
        videos=_concatenated([batch.videos for batch in batches]),
        clip_updates=_together((table for batch in batches for table in batch.clip_updates), "clip_id"),
        video_updates=_together((table for batch in batches for table in batch.video_updates), "video_id"),
        replaced={video_id: ids for batch in batches for video_id, ids in batch.replaced.items()},
        embeddings=[table for batch in batches for table in batch.embeddings],
        captions=[table for batch in batches for table in batch.captions],
        unembedded=[table for batch in batches for table in batch.unembedded],
    )


def _together(updates: Iterable[pa.Table], key: str) -> list[pa.Table]:
    """The same updates in fewer tables, for each is a transaction: neighbours of the same columns become one, as long
    as no key comes twice, so that of two updates of a row each is united with it, in their order.
    """
    groups: list[list[pa.Table]] = []
    named: set[str] = set()
    for table in updates:
        keys = table[key].to_pylist()
        if not groups or groups[-1][0].schema != table.schema or not named.isdisjoint(keys):
            groups.append([])
            named.clear()
        groups[-1].append(table)
        named.update(keys)
    return [pa.concat_tables(some) for some in groups]


def _concatenated(
    tables: Sequence[pa.Table | None], promote_options: Literal["none", "default"] = "none"
) -> pa.Table | None:
    there = [table for table in tables if table is not None]
    return pa.concat_tables(there, promote_options=promote_options) if there else None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: rows written, and appended rows removed again because the clip was there already."""

    samples: int = 0
    media: int = 0
    clips: int = 0
    updated: int = 0
    videos: int = 0
    duplicates: int = 0
    deleted: int = 0
    embeddings: int = 0
    captions: int = 0


class Committer:
    """Commits batches to one pyramid, as any number of others may; holds no state between batches."""

    def __init__(self, pyramid: Pyramid) -> None:
        self.pyramid = pyramid

    def commit(self, batch: Batch) -> Committed:
        """Commit everything in `batch`; when this returns, readers see it. UserError when the disk is full
        and such.
        """
        with writing(self.pyramid.uri):
            wanted = gate.admitted(self.pyramid, batch)
            done = self._commit(wanted)
            if is_remote(self.pyramid.uri):
                self._take_back(wanted)
            return done

    def _commit(self, batch: Batch) -> Committed:
        sampled, again = self._append("samples", batch.samples, [])
        stored, twice = self._append("media", batch.media, ["sha256"])
        hashes = {row["clip_id"]: row["sha256"] for row in stored}
        vectors = beside.add_embeddings(self.pyramid, batch.embeddings)
        beside.add_unembedded(self.pyramid, batch.unembedded)
        captions = beside.add_captions(self.pyramid, batch.captions)
        clips, updated = self._all_clips(batch, hashes)
        videos, displaced = self._videos(batch.videos) if batch.videos is not None else (0, frozenset())
        videos += sum(self._videos(table)[0] for table in batch.video_updates)
        return Committed(
            samples=len(sampled),
            media=len(stored),
            clips=clips,
            updated=updated,
            videos=videos,
            duplicates=again + twice,
            deleted=self._delete_replaced({**_clips_of(displaced, batch.clips), **batch.replaced}),
            embeddings=vectors,
            captions=captions,
        )

    def _take_back(self, batch: Batch) -> None:
        """Delete frames and bytes that were appended while their video was taken down: no lock of an object store has
        kept the two apart, and no transaction refuses an append.
        """
        still = gate.admitted(self.pyramid, batch)
        for name, before, after in (("samples", batch.samples, still.samples), ("media", batch.media, still.media)):
            late = [clip_id for ticket in before if ticket not in after for clip_id in read_ticket(ticket)[0]]
            if late:
                what = f"removal from {name}"
                retrying(what, lambda name=name, late=late: delete_rows(self.pyramid, name, "clip_id", late))

    def _all_clips(self, batch: Batch, hashes: Mapping[str, str]) -> tuple[int, int]:
        """Write the clips of a batch, judged by the tiers in force: (rows inserted or united, rows updated)."""
        tables = [*([batch.clips] if batch.clips is not None else []), *batch.clip_updates]
        if not tables:
            return 0, 0
        now = self.pyramid.refreshed().tiers
        clips = self._clips(batch.clips, hashes, now, insert=True) if batch.clips is not None else 0
        updated = sum(self._clips(table, hashes, now, insert=False) for table in batch.clip_updates)
        while (later := self.pyramid.refreshed().tiers) != now:
            # A threshold was moved meanwhile, and whoever moved it may have looked before these rows were written.
            now = later
            for table in tables:
                self._clips(table.select(["clip_id"]), {}, now, insert=False)
        return clips, updated

    def _append(self, name: str, tickets: Sequence[str], columns: list[str]) -> tuple[list[dict[str, Any]], int]:
        """Append the tickets' fragments; (the rows that now stand for their clips, number of duplicates
        removed).
        """
        if lost := self._lost(name, tickets):
            raise UserError(
                f"files of {name} in {self.pyramid.uri} are gone before {len(lost)} clips in them were committed",
                "give the command again: it does what is lacking; no `upkeep --keep-days 0` beside a run",
            )
        clip_ids: list[str] = []
        fragments: list[Any] = []
        for ids, written in map(read_ticket, tickets):
            if self._are_there(name, written):
                clip_ids += ids
                fragments += written
        if not fragments:
            return [], 0
        what = f"commit to {self.pyramid.dataset_uri(name)}"
        before, after = retrying(what, lambda: self._append_fragments(name, fragments))
        kept = retrying(what, lambda: self._keep_first(name, clip_ids, columns))
        there = after.stats.dataset_stats()["num_fragments"]
        if tail.due(before.version, after.version) or tail.due(there - len(fragments), there, tail.FRAGMENTS):
            tail.tend(self.pyramid, name)
        return kept

    def is_whole(self, batch: Batch) -> bool:
        """Whether all that the tickets of a batch stand for is there: their files, or their rows."""
        return not self._lost("samples", batch.samples) and not self._lost("media", batch.media)

    def _lost(self, name: str, tickets: Sequence[str]) -> set[str]:
        """The clips of tickets whose files are gone, and that have no row either."""
        gone = {one for ids, written in map(read_ticket, tickets) if not self._are_there(name, written) for one in ids}
        if not gone:
            return gone
        return gone - {*select(self.pyramid.dataset(name), "clip_id", sorted(gone), ["clip_id"])["clip_id"].to_pylist()}

    def _are_there(self, name: str, fragments: Sequence[Any]) -> bool:
        """Whether the files of a ticket are on the local disk. They may be gone where the ticket was committed before,
        out of the journal, and its rows have been copied and older versions removed since: then nothing is lacking.
        """
        if is_remote(self.pyramid.uri):
            return True  # a store would have to be asked for each
        data = Path(self.pyramid.uri, f"{name}.lance", "data")
        return all((data / file.path).exists() for one in fragments for file in one.files)

    def _append_fragments(self, name: str, fragments: list[Any]) -> tuple[Any, Any]:
        """The versions before and after."""
        import lance

        dataset = self.pyramid.dataset(name)
        return dataset, committed(dataset, lance.LanceOperation.Append(fragments))

    def _keep_first(self, name: str, clip_ids: list[str], columns: list[str]) -> tuple[list[dict[str, Any]], int]:
        dataset = self.pyramid.dataset(name)
        rows = select(dataset, "clip_id", sorted(set(clip_ids)), ["clip_id", *columns], with_row_address=True)
        first: dict[str, dict[str, Any]] = {}
        later: list[int] = []
        for row in sorted(rows.to_pylist(), key=lambda row: row["_rowaddr"]):
            if row["clip_id"] in first:
                later.append(row["_rowaddr"])
            else:
                first[row["clip_id"]] = row
        for some in chunks(later, 1000):
            dataset.delete(rows_at(some))
        return list(first.values()), len(later)

    def _clips(self, table: pa.Table, hashes: Mapping[str, str], tiers: Tiers, insert: bool) -> int:
        if not {*table.column_names} <= {*self.pyramid.schema("clips").names}:
            self.pyramid = self.pyramid.refreshed()  # another job has given it scores since it was opened
        columns = self.pyramid.schema("clips")
        assert {*table.column_names} <= {*columns.names}, "a pyramid says which scores it has before they are made"
        incoming = {row["clip_id"]: row for row in _light(table).to_pylist()}  # of equals the last one
        if "media" in table.column_names:
            for clip_id in set(incoming) & set(hashes):
                incoming[clip_id]["media"] = hashes[clip_id]

        def unite(old_table: pa.Table) -> pa.Table:
            old = {row["clip_id"]: row for row in _light(old_table).to_pylist()}
            ids = [clip_id for clip_id in incoming if insert or clip_id in old]
            other = (merge.displaced_caption(old.get(name), incoming[name]) for name in ids)
            beside.keep_captions(self.pyramid, [row for row in other if row is not None])
            rows = [merge.clip(old.get(clip_id), incoming[clip_id], tiers, self.pyramid.scores) for clip_id in ids]
            light = pa.Table.from_pylist(rows, schema=pa.schema([f for f in columns if f.name not in _HEAVY]))
            for name in _HEAVY:
                light = light.append_column(columns.field(name), _coalesced(name, ids, table, old_table))
            return light.select(columns.names)

        return self._upsert(Upsert(self.pyramid, "clips", incoming, unite), "clips")

    def _videos(self, table: pa.Table) -> tuple[int, frozenset[str]]:
        """Write ledger rows: how many, and the videos that another run had settled under another plan meanwhile."""
        incoming: dict[str, dict[str, Any]] = {}
        displaced: frozenset[str] = frozenset()
        for row in table.to_pylist():  # one content may be in the batch under several names
            incoming[row["video_id"]] = merge.video(incoming.get(row["video_id"]), row)

        def unite(old_table: pa.Table) -> pa.Table:
            nonlocal displaced
            old = {row["video_id"]: row for row in old_table.to_pylist()}
            displaced = frozenset(name for name, row in incoming.items() if merge.displaces(old.get(name), row))
            rows = [merge.video(old.get(video_id), row) for video_id, row in incoming.items()]
            return pa.Table.from_pylist(rows, schema=VIDEOS)

        return self._upsert(Upsert(self.pyramid, "videos", incoming, unite), "videos"), displaced

    def _upsert(self, upsert: Upsert, name: str) -> int:
        written = upsert.run()
        if upsert.versions is not None and tail.due(*upsert.versions):
            tail.tend(self.pyramid, name)
        return written

    def _delete_replaced(self, replaced: Mapping[str, Collection[str]]) -> int:
        """Delete clips of an earlier plan, after the video's row: no done video ever lacks its clips."""
        deleted = 0
        for video_ids in chunks(replaced, 100):
            rows = select(self.pyramid.dataset("clips"), "video_id", video_ids, ["clip_id", "video_id"]).to_pylist()
            kept = {video_id: set(replaced[video_id]) for video_id in video_ids}
            stale = [row["clip_id"] for row in rows if row["clip_id"] not in kept[row["video_id"]]]
            deleted += self.delete_clips(stale)
        return deleted

    def delete_clips(self, clip_ids: Collection[str]) -> int:
        """Delete clips; their media and samples become orphans that `upkeep` removes."""
        what = f"commit to {self.pyramid.dataset_uri('clips')}"
        return retrying(what, lambda: delete_rows(self.pyramid, "clips", "clip_id", clip_ids)) if clip_ids else 0


def delete_rows(pyramid: Pyramid, name: str, key: str, values: Collection[str]) -> int:
    """Delete the rows of some keys; how many there were. By their addresses, so that no file holds the keys for it, and
    again where others move rows meanwhile. Raises as Lance does.
    """
    deleted = 0
    for some in chunks(sorted(values), 1000):
        while True:
            dataset = pyramid.dataset(name)
            there = select(dataset, key, some, [key], with_row_address=True)["_rowaddr"].to_pylist()
            if not there:
                break
            for part in chunks(there, 1000):
                deleted += dataset.delete(rows_at(part))["num_deleted_rows"]
    return deleted


def _clips_of(video_ids: Collection[str], clips: pa.Table | None) -> dict[str, list[str]]:
    """The ids of a batch's clips for each of some videos."""
    found: dict[str, list[str]] = {video_id: [] for video_id in video_ids}
    if found and clips is not None:
        for row in clips.select(["clip_id", "video_id"]).to_pylist():
            if row["video_id"] in found:
                found[row["video_id"]].append(row["clip_id"])
    return found


def _light(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in _HEAVY if name in table.column_names])


def _coalesced(name: str, ids: list[str], new: pa.Table, old: pa.Table) -> pa.Array:
    """Column `name` for `ids`: from `new`, where that is null or lacks it from `old`."""
    type_ = CLIPS.field(name).type
    given = new[name].cast(type_).chunks if name in new.column_names else [pa.nulls(len(new), type_)]
    # One null at the end, for a clip that is in neither.
    values = pa.concat_arrays([*given, *old[name].chunks, pa.nulls(1, type_)])
    place = {clip_id: len(new) + index for index, clip_id in enumerate(old["clip_id"].to_pylist())}
    valid = values.is_valid().to_pylist()
    for index, clip_id in enumerate(new["clip_id"].to_pylist()):
        if valid[index] or clip_id not in place:
            place[clip_id] = index
    return values.take(pa.array([place.get(clip_id, len(values) - 1) for clip_id in ids], pa.int64()))
