"""What lies below a pyramid and belongs to no version: files of writers that were killed or refused. Part of `forget`.

`upkeep` leaves such files until they are a week old, for the result they belong to may still be on its way to a commit.
A takedown cannot wait, so it looks into them: into data files, for the keys of their rows. Rows that are deleted lie in
files of versions; which files those are is found the same way (`holding`).

On a local disk it works inside `locks.alone`, so what is not finished there never will be. In an object store nobody
can know that, so `forget` comes here only where no run that began before it is at work.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.identity import FAMILY
from curation.pyramid.commits import journal
from curation.pyramid.history import names, runs
from curation.pyramid.similar import clusters
from curation.pyramid.storage.files import Files, is_remote, options
from curation.pyramid.store import Pyramid
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

_BATCH_ROWS = 8192
_OWNERS = ["clip_id", "video_id"]
_SMALL = (journal.FOLDER, names.FOLDER, runs.FOLDER, clusters.FOLDER)
"""Folders of small files that are written inside `locks.writing`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the versions of a dataset that are there refer to: data files and transactions by name, indexes by id."""

    data: frozenset[str]
    indexes: frozenset[str]
    transactions: frozenset[str]

    @classmethod
    def of(cls, pyramid: Pyramid, name: str) -> Kept:
        data: set[str] = set()
        indexes: set[str] = set()
        transactions: set[str] = set()
        for version in pyramid.dataset(name).versions():
            dataset = pyramid.dataset(name, int(version["version"]))
            data.update(file.path for one in dataset.get_fragments() for file in one.metadata.files)
            indexes.update(str(part.uuid) for index in dataset.describe_indices() for part in index.segments)
            made_by = dataset.read_transaction(dataset.version)
            if made_by is not None:
                transactions.add(f"{made_by.read_version}-{made_by.uuid}.txn")
        return cls(frozenset(data), frozenset(indexes), frozenset(transactions))


@dataclass(frozen=True, slots=True)
class Swept:
    """Files that were removed, and their bytes (of those on a local disk)."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(self.files + other.files, self.bytes + other.bytes)


def sweep(pyramid: Pyramid, videos: Collection[str], clips: Collection[str]) -> Swept:
    """Remove every file of no version that holds rows of these videos or clips, that was never finished, or that is of
    an index, and small files that were never finished.
    """
    done = sum((_swept(pyramid, name, videos, clips) for name in pyramid.names), Swept())
    return done if is_remote(pyramid.uri) else done + _unfinished(pyramid.uri)


def holding(dataset: lance.LanceDataset, place: str, wanted: Mapping[str, Collection[str]]) -> list[int]:
    """Which fragments of a dataset, at `place`, have files with a row, deleted or not, that has one of the wanted
    values in one of the columns.
    """
    given = dataset.latest_storage_options()
    return [
        one.fragment_id
        for one in dataset.get_fragments()
        if one.metadata.num_deletions
        and any(_holds(f"{place}/data/{file.path}", wanted, (), given) for file in one.metadata.files)
    ]


def clips_in_files(pyramid: Pyramid, videos: Collection[str]) -> set[str]:
    """The ids of all clips that the videos have or had, as far as any file of `clips` still says so: of the latest
    version, older ones, pinned ones or none. One pass over two columns of all of them.
    """
    found: set[str] = set()
    given = options(pyramid.uri, pyramid.storage_options)
    for path in _listed(pyramid.files, "clips.lance/data"):
        if path.endswith(".lance"):
            for batch in _read(f"{pyramid.uri}/{path}", _OWNERS, given) or ():
                if batch.schema.names != _OWNERS:
                    continue  # columns that were added to rows later
                pairs = zip(batch["clip_id"].to_pylist(), batch["video_id"].to_pylist(), strict=True)
                found.update(clip_id for clip_id, video_id in pairs if video_id in videos)
    return found


def _read(path: str, columns: Sequence[str], given: Mapping[str, str] | None) -> Iterator[pa.RecordBatch] | None:
    """Batches of those of `columns` that a data file has, deleted rows among them; nothing where it has none of them,
    None where the file is not whole. Raises what a store fails with.
    """
    from lance.file import LanceFileReader

    try:
        there = LanceFileReader(path, storage_options=dict(given or {})).metadata().schema.names
        wanted = [name for name in columns if name in there]
        if not wanted:
            return iter(())
        rows = LanceFileReader(path, storage_options=dict(given or {}), columns=wanted)
        return iter(rows.read_all(batch_size=_BATCH_ROWS).to_batches())
    except (OSError, ValueError, RuntimeError):
        if is_remote(path):
            raise
        return None


def _swept(pyramid: Pyramid, name: str, videos: Collection[str], clips: Collection[str]) -> Swept:
    kept, files, top = Kept.of(pyramid, name), pyramid.files, f"{name}.lance"
    there = _listed(files, top)
    whole = {path.removesuffix(".lance") for path in there if path.endswith(".lance")}
    by_video = name in ("videos", "clips")
    wanted = {"video_id": videos} if by_video else {"clip_id": clips}
    families = () if by_video else {video_id[:FAMILY] for video_id in videos}

    def belongs_to_nobody(path: str) -> bool:
        """Not of a version, and either of what is to go or of nobody who could still commit it."""
        kind, _, rest = path.removeprefix(f"{top}/").partition("/")
        first = PurePosixPath(rest).parts[0] if rest else ""
        if kind == "_indices":
            return first not in kept.indexes
        if kind == "_transactions":
            return first not in kept.transactions
        if kind != "data" or first in kept.data or f"{first}.lance" in kept.data:
            return False
        if rest != first:  # the bytes of a large clip, beside the file that names them
            return f"{top}/data/{first}" not in whole or f"{top}/data/{first}.lance" in gone
        return path in gone or not path.endswith(".lance")

    data = [path for path in there if path.startswith(f"{top}/data/") and path.endswith(".lance")]
    free = [path for path in data if PurePosixPath(path).name not in kept.data]
    given = options(pyramid.uri, pyramid.storage_options)
    gone = {path for path in free if _holds(f"{pyramid.uri}/{path}", wanted, families, given)}
    return _removed(files, filter(belongs_to_nobody, there))


def _holds(
    path: str, wanted: Mapping[str, Collection[str]], families: Collection[str], given: Mapping[str, str] | None
) -> bool:
    """Whether a data file has a row with one of the wanted values, or one that begins as one of `families`. A file that
    cannot be read was never finished: it is taken for one that has.
    """
    batches = _read(path, list(wanted), given)
    if batches is None:
        return True
    there = ((batch[name].to_pylist(), wanted[name]) for batch in batches for name in batch.schema.names)
    return any(_any(values, some, families) for values, some in there)


def _any(values: Sequence[str | None], wanted: Collection[str], families: Collection[str]) -> bool:
    return not frozenset(wanted).isdisjoint(values) or any(value and value[:FAMILY] in families for value in values)


def _listed(files: Files, folder: str) -> list[str]:
    """The names of all files below `folder`, hidden ones too."""
    if is_remote(files.uri):
        return retrying(f"cannot read {files.uri}", lambda: files.names(folder, ""))
    top = Path(files.uri)
    return [
        Path(place, file).relative_to(top).as_posix() for place, _, found in os.walk(top / folder) for file in found
    ]


def _removed(files: Files, names_: Iterable[str]) -> Swept:
    done = Swept()
    for name in list(names_):
        size = 0 if is_remote(files.uri) else Path(files.uri, name).stat().st_size
        retrying(f"cannot write to {files.uri}", lambda name=name: files.remove(name))
        done += Swept(1, size)
    return done


def _unfinished(uri: str) -> Swept:
    """Small files that a killed writer has begun, under the hidden names of `atomic`."""
    files: Any = Files(uri)
    found = [name for folder in _SMALL for name in _listed(files, folder)]
    return _removed(files, [name for name in found if PurePosixPath(name).name.startswith(".")])
