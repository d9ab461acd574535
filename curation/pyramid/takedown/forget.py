"""Taking videos down: their rows, frames and clips go from every file and every version that is not pinned, and nothing
brings them back.

    alone:  the work is written down, then tombstones           from here on nobody writes anything of it (`gate`)
            what killed runs have left in the journal is committed, without it
    alone:  rows of all datasets, names in records of runs      no reader sees it any more
            files of samples and media that hold deleted rows are written again, indexes made again
    alone:  names, older versions, files of no version          no byte of it is left
            a look at what is left; where nothing is, the work is no longer pending

A deletion of Lance's only marks rows, so files are written again and the versions that had the old ones go. What is
looked for is always what is there, so a kill at any point leaves work that the next `forget` does to its end, whatever
it is given. "Alone" is `locks.alone`; an object store has no locks. There a run that began before the tombstones may
still have a file in its hand: it is named as what is left, and giving the command again when it has ended does the
rest.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from curation.contract import LIKENESS
from curation.identity import FAMILY
from curation.pyramid.commits import indexes, journal
from curation.pyramid.commits.commit import delete_rows
from curation.pyramid.history import names, runs
from curation.pyramid.lifecycle.compaction import TARGET_ROWS, rewritten
from curation.pyramid.lifecycle.upkeep import clean, measure, remove_needless
from curation.pyramid.queries import access
from curation.pyramid.similar import clusters
from curation.pyramid.similar.places import AGAIN
from curation.pyramid.storage.datasets import BYTES
from curation.pyramid.storage.files import Files, is_remote
from curation.pyramid.storage.locks import alone, only_holder
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.storage.transaction import committed, rows_at, written_again
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.leftovers import Swept, clips_in_files, holding, sweep
from curation.pyramid.takedown.subject import ends
from curation.pyramid.takedown.tombstones import Work
from curation.retry import retrying
from curation.rows import nameless_id

STRUCK = "[taken down]"
_SETTLE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went. `rows`: deleted, by dataset; `needless`: rows of frames and bytes besides that no clip had any more;
    `references`: clips of other videos that were called duplicates of one; `records`: of runs, that named one;
    `clusters`: the centroids of clusters, 1 where there were any, for they may be of its vectors.
    `rewritten_rows`, `rewritten_bytes`: what was copied into new files for it, of rows and of frames and clips;
    `versions`, `files`, `freed_bytes`: older versions, files of no version, and what they took. `pins`: tags of
    versions that keep some of it; `manifests`: those that name a clip of it, which never change; `left`: what could not
    go, and why.
    """

    tombstones: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    needless: int = 0
    references: int = 0
    records: int = 0
    clusters: int = 0
    rewritten_rows: int = 0
    rewritten_bytes: int = 0
    versions: int = 0
    files: int = 0
    freed_bytes: int = 0
    pins: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Removed:
    """What the second step did; `fragments`: those of `BYTES` that hold deleted rows, by dataset."""

    rows: Mapping[str, int]
    needless: int
    references: int
    records: int
    clusters: int
    copied: int
    fragments: Mapping[str, Collection[int]]


def forget(pyramid: Pyramid, videos: Collection[str], asked: Collection[str] = ()) -> Forgotten:
    """Take videos down, by their ids, and finish what an earlier takedown was killed in. `asked`: the names by which it
    was asked for. UserError where an upkeep or another takedown is at work.
    """
    with only_holder(pyramid):
        with alone(pyramid.uri):
            new, work, pending = _begun(pyramid, videos, asked)
        at_work = _at_work(pyramid)
        _touch(pyramid)
        journal.recover(pyramid)
        with alone(pyramid.uri):
            removed = _rows_removed(pyramid, work)
        copied, stuck = _rewritten(pyramid, removed.fragments)
        _indexed(pyramid)
        with alone(pyramid.uri):
            versions, freed = _versions_removed(pyramid)
            dead = tombstones.read(pyramid.files)  # of earlier takedowns, too: somebody may have written past all gates
            swept = Swept() if at_work else sweep(pyramid, work.videos | dead, work.clips | dead)
            left = (*at_work, *stuck, *_left(pyramid, work))
            if not left:
                tombstones.done(pyramid.files, pending)
        tombstones.tidy(pyramid.files)
        return Forgotten(
            tombstones=new,
            rows=removed.rows,
            needless=removed.needless,
            references=removed.references,
            records=removed.records,
            clusters=removed.clusters,
            rewritten_rows=removed.copied,
            rewritten_bytes=copied,
            versions=versions,
            files=swept.files,
            freed_bytes=freed + swept.bytes,
            pins=pins(pyramid, work),
            left=left,
        )


def _begun(pyramid: Pyramid, videos: Collection[str], asked: Collection[str]) -> tuple[int, Work, tuple[str, ...]]:
    """Write down what is to be done, then that it may never come back: (new tombstones, all work, its files)."""
    files = pyramid.files
    # Their names may still be listed when the files are gone: the row of a source that cannot be read would be one.
    ids = frozenset(videos) | {nameless_id(uri) for uri in _uris(pyramid, videos)}
    known = frozenset(clips_in_files(pyramid, ids))
    tombstones.begin(files, Work(ids, known, frozenset(tombstones.mark(files, name) for name in asked)))
    work, pending = tombstones.pending(files)
    # An id of a clip says whose it is; of those that are older than that rule somebody must know it.
    families = {video_id[:FAMILY] for video_id in work.videos}
    older = {clip_id for clip_id in work.clips if clip_id[:FAMILY] not in families}
    return tombstones.add(files, work.videos | older), work, pending


def _uris(pyramid: Pyramid, videos: Collection[str]) -> list[str]:
    found: list[str] = []
    for some in chunks(sorted(videos), 1000):
        rows = select(pyramid.dataset("videos"), "video_id", some, ["uris"])
        found += (uri for uris in rows["uris"].to_pylist() for uri in uris or ())
    return found


def _at_work(pyramid: Pyramid) -> list[str]:
    """Runs that began before the tombstones and have not ended; on a local disk nobody needs to know."""
    if not is_remote(pyramid.uri):
        return []
    there = [run.run for run in runs.listed(pyramid.files) if runs.state(run) == "running"]
    told = "is at work and may hold files of it: give the command again when it has ended"
    return [f"the run {run} {told}" for run in there]


def _touch(pyramid: Pyramid) -> None:
    """Name the oldest fragments in a transaction: an attempt to insert that has not seen the tombstones is refused by
    it, and looks again (`upsert`).
    """
    import lance

    def touch(name: str) -> None:
        dataset = pyramid.dataset(name)
        if there := {one.fragment_id: one.metadata for one in dataset.get_fragments()}:
            oldest = there[min(there)]
            committed(dataset, lance.LanceOperation.Update(updated_fragments=[oldest], new_fragments=[]))

    for name in ("clips", "videos"):
        retrying(f"commit to {pyramid.dataset_uri(name)}", lambda name=name: touch(name))


def _rows_removed(pyramid: Pyramid, work: Work) -> _Removed:
    """Delete all rows, the ledger's first (no reader finds a done video without its clips), and write the files of rows
    again that hold deleted ones.
    """
    records = _struck(pyramid.files, _uris(pyramid, work.videos))
    rows: dict[str, int] = {}
    fragments: dict[str, Collection[int]] = {}
    needless = copied = 0
    for name in reversed(pyramid.names):
        key, values = _keys(name, work)
        what = f"removal from {name}"
        rows[name] = retrying(what, lambda name=name, key=key, values=values: delete_rows(pyramid, name, key, values))
        if name not in ("videos", "clips"):
            # Of plans from long ago no file says whose the clips were, so all goes that no clip has. What is younger
            # may be of a result that two commit, this command (`journal.recover`) and the run that has it in hand.
            needless += sum(remove_needless(pyramid, name, _SETTLE))
    references = retrying("removal from clips", lambda: _unreferred(pyramid, work.clips))
    centroids = int(clusters.drop(pyramid))  # a cluster may have been of its vectors alone
    for name in pyramid.names:
        holds = _fragments_to_go(pyramid, name, work)
        if name in BYTES:  # large ones, written again one by one while others commit
            fragments[name] = holds
        else:
            copied += _copied(pyramid, name, holds)
    rows = {name: rows[name] for name in pyramid.names}
    return _Removed(rows, needless, references, records, centroids, copied, fragments)


def _keys(name: str, work: Work) -> tuple[str, frozenset[str]]:
    """By what the rows of a dataset are known."""
    return ("video_id", work.videos) if name in ("videos", "clips") else ("clip_id", work.clips)


def _fragments_to_go(pyramid: Pyramid, name: str, work: Work) -> list[int]:
    """Fragments that hold deleted rows of what goes. Of clips of which only frames or bytes are left nobody can tell
    whose they were: there, all that hold any deleted row.
    """
    dataset = pyramid.dataset(name)
    if name not in ("videos", "clips"):
        return [one.fragment_id for one in dataset.get_fragments() if one.metadata.num_deletions]
    wanted = {"video_id": work.videos} | ({"duplicate_of": work.clips} if name == "clips" else {})
    return holding(dataset, pyramid.dataset_uri(name), wanted)


def _unreferred(pyramid: Pyramid, clips: Collection[str]) -> int:
    """Let no clip be called a duplicate of one that goes; how many were. By the next `ziggurat duplicates` they are
    compared again.
    """
    found = 0
    of_likeness = {LIKENESS: "NULL", f"{LIKENESS}_by": f"'{AGAIN}'", f"{LIKENESS}_why": "NULL"}
    for some in chunks(sorted(clips), 1000):
        dataset = pyramid.dataset("clips")
        nothing = {"duplicate_of": "NULL"} | (of_likeness if LIKENESS in dataset.schema.names else {})
        there = select(dataset, "duplicate_of", some, ["clip_id"], with_row_address=True)["_rowaddr"].to_pylist()
        for part in chunks(there, 1000):
            found += dataset.update(nothing, where=rows_at(part))["num_rows_updated"]
    return found


def _copied(pyramid: Pyramid, name: str, numbers: Collection[int]) -> int:
    """Write fragments of rows again without those that are deleted; how many rows were copied."""

    def once(group: Collection[int]) -> int:
        dataset = pyramid.dataset(name)
        left = [one.fragment_id for one in dataset.get_fragments() if one.metadata.num_deletions]
        return written_again(dataset, set(group).intersection(left))

    sizes = {one.fragment_id: one.count_rows() for one in pyramid.dataset(name).get_fragments()}
    groups: list[list[int]] = []
    room = 0
    for number in sorted(numbers):
        if room < sizes[number]:
            groups.append([])
            room = TARGET_ROWS
        groups[-1].append(number)
        room -= sizes[number]
    return sum(retrying(f"compaction of {name}", lambda group=group: once(group)) for group in groups)


def _rewritten(pyramid: Pyramid, fragments: Mapping[str, Collection[int]]) -> tuple[int, list[str]]:
    """Write files of frames and clips again: (bytes copied, what could not be and why)."""
    copied, left = 0, []
    for name, numbers in fragments.items():
        done, stuck = rewritten(pyramid, name, numbers)
        copied += done
        if stuck:
            why = "others keep writing to them, or one of their clips has two rows"
            left.append(f"{len(stuck)} files of {name} hold deleted rows and could not be written again: {why}")
    return copied, left


def _indexed(pyramid: Pyramid) -> None:
    """Make all indexes again, which hold the keys of rows that are deleted, and what queries know of the scores."""
    for name in pyramid.names:
        for column in [index.field_names[0] for index in pyramid.dataset(name).describe_indices()]:
            what = f"index on {name}.{column}"
            retrying(what, lambda name=name, column=column: indexes.make(pyramid, name, column))
    if access.METADATA_KEY in pyramid.dataset("clips").metadata:
        measure(pyramid)


def _versions_removed(pyramid: Pyramid) -> tuple[int, int]:
    """Remove the names, which are a cache, and all versions but the latest and pinned ones: (versions, bytes)."""
    retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.remove_folder(names.FOLDER))
    before = _number_of_versions(pyramid)
    freed = sum(clean(pyramid, name, timedelta(0), idle=False) for name in pyramid.names)
    return before - _number_of_versions(pyramid), freed


def _number_of_versions(pyramid: Pyramid) -> int:
    return sum(len(pyramid.dataset(name).versions()) for name in pyramid.names)


def _left(pyramid: Pyramid, work: Work) -> list[str]:
    """What is still there of it, besides in pinned versions."""
    found: list[str] = []
    for name in pyramid.names:
        dataset, tags = pyramid.dataset(name), _tags(pyramid, name)
        if _has(pyramid, name, None, work):
            found.append(f"rows of {name} that somebody wrote meanwhile: give the command again")
        pinned = {dataset.version, *(pyramid.dataset(name, tag).version for tag in tags)}
        if older := [one for one in dataset.versions() if int(one["version"]) not in pinned]:
            found.append(f"{len(older)} older versions of {name} that could not be removed: give the command again")
    return found


def pins(pyramid: Pyramid, work: Work) -> tuple[str, ...]:
    """The tags of versions that have some of it."""
    return tuple(
        sorted({tag for name in pyramid.names for tag in _tags(pyramid, name) if _has(pyramid, name, tag, work)})
    )


def _tags(pyramid: Pyramid, name: str) -> list[str]:
    return sorted(pyramid.dataset(name).tags.list())


def _has(pyramid: Pyramid, name: str, version: str | None, work: Work) -> bool:
    key, values = _keys(name, work)
    dataset = pyramid.dataset(name, version)
    return any(select(dataset, key, some, [key]).num_rows for some in chunks(sorted(values), 1000))


def _struck(files: Files, uris: Collection[str]) -> int:
    """Strike names out of the records of runs; how many had one. A run at work keeps what is struck out of its own."""
    if not uris:
        return 0
    found = 0
    for run in runs.listed(files):
        clean_one = runs.Run(**_without(dataclasses.asdict(run), uris))
        if json.dumps(dataclasses.asdict(clean_one)) != json.dumps(dataclasses.asdict(run)):
            process = runs.Process(**clean_one.process) if isinstance(clean_one.process, dict) else clean_one.process
            retrying(
                f"cannot write to {files.uri}",
                lambda one=clean_one, process=process: runs.write(files, dataclasses.replace(one, process=process)),
            )
            found += 1
    return found


def _without(value: Any, uris: Collection[str]) -> Any:
    """A value of JSON with names struck out of its texts: texts that are an end of one, and whole names inside."""
    if isinstance(value, dict):
        return {key: _without(one, uris) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(one, uris) for one in value)
    if not isinstance(value, str):
        return value
    for uri in uris:
        if value in ends(uri):
            return STRUCK
        for name in (uri, uri.rpartition("/")[2]):
            if name in value:
                value = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", STRUCK, value)
    return value
