"""`ziggurat migrate`: brings a pyramid of an older format to this one, in place; nothing of it is lost.

    vectors copied out of `clips` -> pyramid.json says so -> late vectors, columns -> pyramid.json says that it is done

Until the second step an older version works on the pyramid as before: what can fail by what the pyramid holds comes
first. From then on an older version refuses it, and this one does until the last. Each step looks at what is there, so
after a kill, or beside another migration, the same command does what is left. Frames and clips are not touched, and of
`clips` no row is written anew: columns are renamed, added and taken away in the schema; `upkeep` frees what they took.

A commit of an older version that is under way brings its columns back when it is tried again: it knows them, and adds
what it misses. So whether all is done goes by the columns too, and a later `migrate` does what such a commit undid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.contract import BEFORE_FORMAT_4, CLIPS, FORMAT_VERSION
from curation.errors import UserError
from curation.pyramid.commits import beside, journal, older
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import runs
from curation.pyramid.storage.columns import missing, writable
from curation.pyramid.storage.datasets import create
from curation.pyramid.storage.locks import only_holder
from curation.pyramid.store import Pyramid
from curation.retry import explained, retrying

if TYPE_CHECKING:
    import lance

COMMAND = "ziggurat migrate"

_ROWS = 4096
"""Rows whose vectors are moved at a time: 6 MB."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did. `before`: the format that the pyramid had, None where an earlier attempt has said that it
    is of this one; `work`: whether there was anything to do; `vectors`: moved to a dataset of their own, by this
    command; `entries`: of killed runs, committed; `columns`: added to `videos` and `clips`.
    """

    before: int | None
    work: bool = True
    now: int = FORMAT_VERSION
    vectors: int = 0
    entries: int = 0
    columns: tuple[str, ...] = ()


def migrate(uri: str, storage_options: Mapping[str, str] | None = None) -> Migrated:
    """Bring the pyramid at `uri` to this format; one that has it is left as it is. UserError where a run is at work on
    it or another migration, and where one of its datasets cannot be read.
    """
    pyramid = Pyramid.open(uri, storage_options, unready=True)
    with only_holder(pyramid):
        pyramid = pyramid.refreshed()
        if pyramid.about.under_way and not pyramid.about.under_way.startswith(COMMAND):
            Pyramid.open(uri, storage_options)  # says what makes it ready
        if _is_done(pyramid):
            return Migrated(pyramid.about.format, work=False)
        before = pyramid.about.format if pyramid.about.format < FORMAT_VERSION else None
        _check(pyramid)
        for name in pyramid.beside:
            _create(pyramid, name)
        moved = _copy_vectors(pyramid, pyramid.dataset("clips"))
        pyramid = pyramid.made_by(f"{COMMAND} {pyramid.uri}")
        added: list[str] = []
        while not _is_laid_out(pyramid):
            moved += _take_vectors_away(pyramid)
            _rename_makers(pyramid)
            added += _add_columns(pyramid)
        pyramid = pyramid.made_by("")
        return Migrated(before, vectors=moved, entries=journal.recover(pyramid), columns=tuple(dict.fromkeys(added)))


def _is_done(pyramid: Pyramid) -> bool:
    about = pyramid.about
    return about.format >= FORMAT_VERSION and not about.under_way and not _left(pyramid)


def _is_laid_out(pyramid: Pyramid) -> bool:
    return not _left(pyramid) and not any(_lacking(pyramid, name) for name in ("videos", "clips"))


def _left(pyramid: Pyramid) -> set[str]:
    """The columns of older formats that `clips` still has, or has again."""
    return {*BEFORE_FORMAT_4} & {*pyramid.dataset("clips").schema.names}


def _check(pyramid: Pyramid) -> None:
    """UserError where not every dataset of old is there, or a run is at work."""
    for name in pyramid.names:
        if name not in pyramid.beside:
            pyramid.dataset(name)
    if running := runs.running(pyramid.files):
        raise UserError(f"the run {running[0].run} is at work on {pyramid.uri}", "wait until it has ended, or end it")


def _create(pyramid: Pyramid, name: str) -> None:
    place = pyramid.dataset_uri(name)
    retrying(f"cannot write to {place}", lambda: create(place, pyramid.schema(name), pyramid.storage_options))


def _copy_vectors(pyramid: Pyramid, clips: lance.LanceDataset) -> int:
    """Copy the vectors that one version of `clips` has to their dataset; how many were not there yet."""
    if older.VECTOR not in clips.schema.names:
        return 0
    columns = [name for name in ("clip_id", older.SCORE, older.MAKER, older.VECTOR) if name in clips.schema.names]
    # As text: an expression of Arrow's cannot name a column of lists to Lance.
    scanner = clips.scanner(columns=columns, filter=f"{older.VECTOR} IS NOT NULL", batch_size=_ROWS)
    try:
        tables = (pa.Table.from_batches([batch]) for batch in scanner.to_batches())
        return sum(beside.add_embeddings(pyramid, [older.vectors(table)]) for table in tables)
    except (OSError, RuntimeError, ValueError) as error:
        raise explained(error, f"cannot read {pyramid.dataset_uri('clips')}") or error from error


def _take_vectors_away(pyramid: Pyramid) -> int:
    """Take the column away once what it holds is copied, that of commits which came between as well; how many of its
    vectors were not there yet.
    """
    clips = pyramid.dataset("clips")
    if older.VECTOR not in clips.schema.names:
        return 0
    moved = _copy_vectors(pyramid, clips)
    last = _without(pyramid, older.VECTOR)
    return moved + _copy_vectors(pyramid, last)


def _without(pyramid: Pyramid, column: str) -> lance.LanceDataset:
    """Take a column of `clips` away; the last version that had it, whoever took it away. Lance lets a deletion of a
    column follow on a commit that it had not seen, so what that has brought is in this version.
    """

    def once() -> int:
        clips = pyramid.dataset("clips")
        if column in clips.schema.names:
            clips.drop_columns([column])
        return clips.version

    version = retrying(f"columns of {pyramid.dataset_uri('clips')}", once)
    while column not in (found := pyramid.dataset("clips", version)).schema.names:
        version -= 1
    return found


def _rename_makers(pyramid: Pyramid) -> None:
    for name, today in older.RENAMED.items():
        names = pyramid.dataset("clips").schema.names
        if name in names and today not in names:
            _rename(pyramid, name, today)
        elif name in names:  # brought back by a commit of an older version
            _carry_over(pyramid, pyramid.dataset("clips"), name, today)
            _carry_over(pyramid, _without(pyramid, name), name, today)


def _rename(pyramid: Pyramid, name: str, today: str) -> None:
    """Rename a column of `clips`, unless another migration has."""
    change: Any = {"path": name, "name": today}

    def once() -> None:
        clips = pyramid.dataset("clips")
        if name in clips.schema.names and today not in clips.schema.names:
            clips.alter_columns(change)

    try:
        retrying(f"columns of {pyramid.dataset_uri('clips')}", once)
    except (OSError, ValueError, RuntimeError):
        if name in pyramid.dataset("clips").schema.names:
            raise


def _carry_over(pyramid: Pyramid, clips: lance.LanceDataset, name: str, today: str) -> None:
    """Write what a version of `clips` has in the column `name` to the one that it is called today, with its caption."""
    schema = pa.schema([CLIPS.field(column) for column in ("clip_id", "caption", today)])
    scanner = clips.scanner(columns=["clip_id", "caption", name], filter=f"{name} IS NOT NULL", batch_size=_ROWS)
    for batch in scanner.to_batches():
        Committer(pyramid).commit(Batch(clip_updates=[pa.Table.from_arrays(batch.columns, schema=schema)]))


def _lacking(pyramid: Pyramid, name: str) -> list[pa.Field]:
    return missing(pyramid.dataset(name), pyramid.schema(name))


def _add_columns(pyramid: Pyramid) -> list[str]:
    added = [field.name for name in ("videos", "clips") for field in _lacking(pyramid, name)]
    for name in ("videos", "clips"):
        retrying(f"columns of {name}", lambda name=name: writable(pyramid, name))
    return added
