"""The journal: results that are finished and not committed yet, each a small file under `PYRAMID/journal/RUN/`.

A worker keeps its result here before it begins its next item, so that the driver can commit many at a time and a kill
still loses at most what is being worked on. The driver forgets an entry once it is committed; the next run begins with
`recover`, which commits what a killed one left. Committing an entry twice changes nothing (`commit`). What was taken
down is neither kept nor, where an entry of before holds it, committed (`gate`).
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from curation.contract import FORMAT_VERSION
from curation.pyramid.commits import gate, older
from curation.pyramid.commits.commit import Batch, Committer, joined
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.locks import writing
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying

FOLDER = "journal"
ENTRY = ".arrow"
_BATCH_ENTRIES = 256
_DAMAGED = (OSError, pa.ArrowException, ValueError, KeyError, TypeError)
"""What reading bytes that are no whole entry raises. Reading them from the disk or the store is done by then."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one run of the pyramid at `uri`; cheap to send to a worker."""

    uri: str
    run: str
    storage_options: Mapping[str, str] | None = None

    def keep(self, batch: Batch) -> str:
        """Write a batch down; the entry's name. When this returns a kill loses it no more."""
        name = f"{self.run}/{uuid.uuid4().hex}{ENTRY}"
        with writing(self.uri):
            if tombstones.read(self._files):
                batch = gate.admitted(Pyramid.open(self.uri, self.storage_options), batch)
            content = _packed(batch)
            # Not durable: what a machine's fall takes from its disk is measured again.
            retrying(f"journal of {self.uri}", lambda: self._files.write(f"{FOLDER}/{name}", content, durable=False))
        return name

    def forget(self, names: Iterable[str]) -> None:
        """Remove entries that are committed; one that is gone already was recovered by another run."""
        _forget(self._files, names)

    def close(self) -> None:
        """Remove the run's folder: every input has its outcome, so an entry still there was committed under another
        name, by a worker that did a lost one's work again.
        """
        retrying(f"journal of {self.uri}", lambda: self._files.remove_folder(f"{FOLDER}/{self.run}"))

    @property
    def _files(self) -> Files:
        return Files(self.uri, self.storage_options)


def recover(pyramid: Pyramid) -> int:
    """Commit what killed runs have left in the journal; how many entries. Those of a run at work do no harm: it
    commits them once more.
    """
    recovered = 0
    files = pyramid.files
    entries = retrying(f"journal of {pyramid.uri}", lambda: files.names(FOLDER, ENTRY))
    for names in chunks((name.removeprefix(f"{FOLDER}/") for name in entries), _BATCH_ENTRIES):
        committer = Committer(pyramid)
        found = {name: batch for name in names if (batch := _read(pyramid, name)) is not None}
        for name in [name for name, batch in found.items() if not committer.is_whole(batch)]:
            _log.warning("an entry of the journal whose files are gone is left out, its work is done again: %s", name)
            del found[name]
        committer.commit(without_namesakes(pyramid, joined(list(found.values()))))
        _forget(files, names)
        recovered += len(found)
    return recovered


def without_namesakes(pyramid: Pyramid, batch: Batch) -> Batch:
    """The batch without clips that the pyramid holds under another id: a run of an older version called them otherwise,
    and its videos were measured again before anybody came to what it left.
    """
    dataset, place = pyramid.dataset("clips"), ["video_id", "start_frame", "end_frame", "plan"]
    if batch.clips is None or not {*place} <= {*batch.clips.column_names} & {*dataset.schema.names}:
        return batch  # of a version that wrote no plans: it had one form of ids only, and so had its pyramid
    there: dict[tuple[Any, ...], str] = {}
    for some in chunks(set(batch.clips["video_id"].to_pylist()), 1000):
        rows = select(dataset, "video_id", some, ["clip_id", *place]).to_pylist()
        there |= {tuple(row[name] for name in place): row["clip_id"] for row in rows}
    kept = [
        # Of a version that kept no plan nothing can be said, and there was one form of ids only.
        row["plan"] is None or there.get(tuple(row[name] for name in place), row["clip_id"]) == row["clip_id"]
        for row in batch.clips.select(["clip_id", *place]).to_pylist()
    ]
    return replace(batch, clips=batch.clips.filter(pa.array(kept, pa.bool_())))


def _read(pyramid: Pyramid, name: str) -> Batch | None:
    """The batch of an entry; None where another run was faster, or where the entry is damaged, which is told: a machine
    that goes down leaves files cut short anywhere. What it held is not in the ledger, so this run does it again.
    """
    content = retrying(f"journal of {pyramid.uri}", lambda: pyramid.files.read(f"{FOLDER}/{name}"))
    try:
        return None if content is None else _unpacked(content, pyramid)
    except _DAMAGED as error:
        _log.warning("a damaged entry of the journal is left out, its work is done again: %s (%s)", name, error)
        return None


def _forget(files: Files, names: Iterable[str]) -> None:
    for name in names:
        retrying(f"journal of {files.uri}", lambda name=name: files.remove(f"{FOLDER}/{name}"))


_PACKED = pa.schema(
    [
        ("media", pa.list_(pa.string())),
        ("samples", pa.list_(pa.string())),
        ("replaced", pa.string()),
        ("clips", pa.binary()),
        ("videos", pa.binary()),
        ("clip_updates", pa.list_(pa.binary())),
        ("video_updates", pa.list_(pa.binary())),
        ("embeddings", pa.list_(pa.binary())),
        ("captions", pa.list_(pa.binary())),
        ("unembedded", pa.list_(pa.binary())),
        ("format", pa.int32()),
    ]
)
"""One row: tickets as they are, tables as Arrow streams, `replaced` as JSON; `format`: whose columns the tables have,
null in what a version before format 4 has written.
"""


def _packed(batch: Batch) -> bytes:
    row: dict[str, Any] = {
        "media": list(batch.media),
        "samples": list(batch.samples),
        "replaced": json.dumps({video_id: list(clip_ids) for video_id, clip_ids in batch.replaced.items()}),
        "clips": None if batch.clips is None else _stream(batch.clips),
        "videos": None if batch.videos is None else _stream(batch.videos),
        "clip_updates": [_stream(table) for table in batch.clip_updates],
        "video_updates": [_stream(table) for table in batch.video_updates],
        "embeddings": [_stream(table) for table in batch.embeddings],
        "captions": [_stream(table) for table in batch.captions],
        "unembedded": [_stream(table) for table in batch.unembedded],
        "format": FORMAT_VERSION,
    }
    return _stream(pa.Table.from_pylist([row], schema=_PACKED))


def _unpacked(content: bytes, pyramid: Pyramid) -> Batch:
    (row,) = _table(content).to_pylist()
    videos = None if row["videos"] is None else _table(row["videos"])
    updates = [_table(stream) for stream in row.get("video_updates") or ()]
    if videos is not None and "status" not in videos.column_names:  # an older version's way to write an update
        videos, updates = None, [videos, *updates]
    batch = Batch(
        media=row["media"],
        samples=row["samples"],
        clips=None if row["clips"] is None else _table(row["clips"]),
        videos=videos,
        clip_updates=[_table(stream) for stream in row["clip_updates"]],
        video_updates=updates,
        replaced=json.loads(row["replaced"]),
        embeddings=[_space(_table(stream), pyramid) for stream in row.get("embeddings") or ()],
        captions=[_table(stream) for stream in row.get("captions") or ()],
        unembedded=[_table(stream) for stream in row.get("unembedded") or ()],
    )
    return batch if row.get("format") else older.batch(batch)


def _space(vectors: pa.Table, pyramid: Pyramid) -> pa.Table:
    """`vectors`; ValueError where the pyramid has no space that they are of."""
    if unknown := {*vectors["space"].to_pylist()} - {*pyramid.spaces}:
        raise ValueError(f"no space is called {sorted(unknown)}")
    return vectors


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(content: bytes) -> pa.Table:
    return ipc.open_stream(content).read_all()
