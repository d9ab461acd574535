"""The journal: results that are finished and not committed yet, each a small file under `PYRAMID/journal/RUN/`.

A worker keeps its result here before it begins its next item, so that the driver can commit many at a time and a kill
still loses at most what is being worked on. The driver forgets an entry once it is committed; the next run begins with
`recover`, which commits what a killed one left. Committing an entry twice changes nothing (`commit`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs, ipc

from curation import uris
from curation.pyramid.about import is_remote
from curation.pyramid.commit import Batch, Committer, joined
from curation.pyramid.retry import retrying
from curation.pyramid.store import Pyramid, chunks

FOLDER = "journal"
_ENTRY = ".arrow"
_BATCH_ENTRIES = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one run of the pyramid at `uri`; cheap to send to a worker."""

    uri: str
    run: str

    def keep(self, batch: Batch) -> str:
        """Write a batch down; the entry's name. When this returns a kill loses it no more."""
        name = f"{self.run}/{uuid.uuid4().hex}{_ENTRY}"
        system, root = _place(self.uri)
        content = _packed(batch)
        retrying(f"journal of {self.uri}", lambda: _write(system, f"{root}/{name}", content))
        return name

    def forget(self, names: Iterable[str]) -> None:
        """Remove entries that are committed; one that is gone already was recovered by another run."""
        _forget(self.uri, names)

    def close(self) -> None:
        """Remove the run's folder: every input has its outcome, so an entry still there was committed under another
        name, by a worker that did a lost one's work again.
        """
        system, root = _place(self.uri)
        if system.get_file_info(f"{root}/{self.run}").type == fs.FileType.Directory:
            system.delete_dir(f"{root}/{self.run}")


def recover(pyramid: Pyramid) -> int:
    """Commit what killed runs have left in the journal; how many entries. Those of a run at work do no harm: it
    commits them once more.
    """
    recovered = 0
    for names in chunks(_entries(pyramid.uri), _BATCH_ENTRIES):
        found = {name: batch for name in names if (batch := _read(pyramid.uri, name)) is not None}
        Committer(pyramid).commit(joined(list(found.values())))
        _forget(pyramid.uri, names)
        recovered += len(found)
    return recovered


def _place(uri: str) -> tuple[fs.FileSystem, str]:
    system, path = uris.remote(uri) if is_remote(uri) else (fs.LocalFileSystem(), uri)
    return system, f"{path}/{FOLDER}"


def _write(system: fs.FileSystem, path: str, content: bytes) -> None:
    local = isinstance(system, fs.LocalFileSystem)
    if local:
        system.create_dir(path.rpartition("/")[0], recursive=True)
    # Under another name until it is whole, for a half-written entry is no entry; an object appears whole by itself.
    place = f"{path}.tmp" if local else path
    try:
        with system.open_output_stream(place) as file:
            file.write(content)
        if local:
            system.move(place, path)
    except OSError:
        with contextlib.suppress(OSError):  # what is left of it takes room that a full disk lacks
            system.delete_file(place)
        raise


def _entries(uri: str) -> Iterator[str]:
    system, root = _place(uri)
    wanted = fs.FileSelector(root, allow_not_found=True, recursive=True)
    found = retrying(f"journal of {uri}", lambda: system.get_file_info(wanted))
    for entry in found:
        if entry.path.endswith(_ENTRY):
            yield "/".join(entry.path.rsplit("/", 2)[-2:])


def _read(uri: str, name: str) -> Batch | None:
    """The batch of an entry; None where another run was faster, or the machine went down before the disk had it."""
    system, root = _place(uri)

    def content() -> bytes | None:
        try:
            with system.open_input_file(f"{root}/{name}") as file:
                return file.read()
        except FileNotFoundError:
            return None

    found = retrying(f"journal of {uri}", content)
    try:
        return None if found is None else _unpacked(found)
    except pa.ArrowInvalid:
        _log.warning("a damaged entry of the journal is left out: %s", name)
        return None


def _forget(uri: str, names: Iterable[str]) -> None:
    system, root = _place(uri)

    def forget(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            system.delete_file(f"{root}/{name}")

    for name in names:
        retrying(f"journal of {uri}", lambda name=name: forget(name))


_PACKED = pa.schema(
    [
        ("media", pa.list_(pa.string())),
        ("samples", pa.list_(pa.string())),
        ("replaced", pa.string()),
        ("clips", pa.binary()),
        ("videos", pa.binary()),
        ("clip_updates", pa.list_(pa.binary())),
    ]
)
"""One row: tickets as they are, tables as Arrow streams, `replaced` as JSON."""


def _packed(batch: Batch) -> bytes:
    row: dict[str, Any] = {
        "media": list(batch.media),
        "samples": list(batch.samples),
        "replaced": json.dumps({video_id: list(clip_ids) for video_id, clip_ids in batch.replaced.items()}),
        "clips": None if batch.clips is None else _stream(batch.clips),
        "videos": None if batch.videos is None else _stream(batch.videos),
        "clip_updates": [_stream(table) for table in batch.clip_updates],
    }
    return _stream(pa.Table.from_pylist([row], schema=_PACKED))


def _unpacked(content: bytes) -> Batch:
    (row,) = _table(content).to_pylist()
    return Batch(
        media=row["media"],
        samples=row["samples"],
        clips=None if row["clips"] is None else _table(row["clips"]),
        videos=None if row["videos"] is None else _table(row["videos"]),
        clip_updates=[_table(stream) for stream in row["clip_updates"]],
        replaced=json.loads(row["replaced"]),
    )


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(content: bytes) -> pa.Table:
    return ipc.open_stream(content).read_all()
