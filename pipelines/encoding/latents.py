"""The folder that latents are written to: its head, its rows, and the journal of what is written and not committed yet.

    latents.json      what the rows were made of (`latent_file.Head`); written before the first row
    latents.lance     the rows, in any order
    journal/RUN/      tickets: files of rows that a worker has written, and no version names yet

Workers write rows as files of the dataset (`write`) and keep the ticket in the journal; the driver commits tickets,
many at a time. A kill loses what a worker had in hand. Rows are told by `by`: the head's, or they are refused.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.errors import UserError
from curation.pyramid.storage import about, address
from curation.pyramid.storage.datasets import STORAGE_VERSION, create
from curation.pyramid.storage.files import Files, is_remote, options
from curation.pyramid.storage.locks import only
from curation.pyramid.storage.transaction import committed, written_again
from curation.retry import retrying
from training.data.latent_file import DATASET, HEAD, ROWS, Head

if TYPE_CHECKING:
    import lance

JOURNAL = "journal"
_TICKET = ".json"
_LOCK = ".encoding.lock"
_SMALL_FILES = 64
"""So many files of rows are merged at the end of a run; each part that a worker keeps is one."""
_FILE_ROWS = 4096
_COPIED_ROWS = 64
"""Rows that are held at a time while a file is written again: one may take several megabytes."""
_KEEP = timedelta(days=1)
"""How long older versions stay for those who read them while files are merged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Latents:
    """A folder of latents, by its URI; cheap to send to a worker."""

    uri: str
    storage_options: dict[str, str] | None = None

    @classmethod
    def at(cls, uri: str) -> Latents:
        """From what a person types (`address.located`)."""
        place, storage_options = address.located(uri)
        return cls(place, about.options(place, storage_options))

    @property
    def files(self) -> Files:
        return Files(self.uri, self.storage_options)

    def alone(self) -> AbstractContextManager[None]:
        """UserError where another run encodes to this place."""
        return only(self.uri, _LOCK, f"another encode writes to {self.uri}")

    def head(self) -> Head | None:
        """What is written of the rows, None where nothing is."""
        content = retrying(f"cannot read {self.uri}", lambda: self.files.read(HEAD))
        return None if content is None else Head.from_json(content, f"{self.uri}/{HEAD}")

    def check(self, manifest: str, sha256: str) -> None:
        """UserError where the place holds latents of another manifest: told before any network is loaded."""
        there = self.head()
        if there is not None and there.manifest_sha256 != sha256:
            told = f"the place holds latents of another manifest: {there.manifest}, {there.manifest_sha256[:12]}"
            raise UserError(f"{told} (this is {manifest}, {sha256[:12]})", "name another --to")

    def begin(self, head: Head) -> None:
        """Make the place one for these latents. UserError where it is one for others."""
        what = f"cannot write to {self.uri}"
        self.check(head.manifest, head.manifest_sha256)
        there = self.head()
        if there is not None and there.by != head.by:
            ours, theirs = head.encoders, there.encoders
            parts = {"autoencoder": (ours.autoencoder, theirs.autoencoder), "text encoder": (ours.text, theirs.text)}
            other = [name for name, (one, two) in parts.items() if one != two] or ["version of Ziggurat"]
            told = f"the place holds latents of another {' and '.join(other)}, of the model {there.model}"
            raise UserError(told, "name another --to")
        retrying(what, lambda: create(f"{self.uri}/{DATASET}", ROWS, self.storage_options))
        if there is None:
            if self.dataset().count_rows():
                raise UserError(f"{self.uri} holds latents and no {HEAD} that says whose", "name another --to")
            retrying(what, lambda: self.files.write(HEAD, head.to_json()))

    def dataset(self) -> lance.LanceDataset:
        """The rows, at their latest version."""
        import lance

        uri = f"{self.uri}/{DATASET}"
        return retrying(f"cannot read {uri}", lambda: lance.dataset(uri, storage_options=self.storage_options))

    def done(self, by: str) -> np.ndarray:
        """The samples that have a row, by number, sorted. UserError where a row is of another maker than `by`."""
        found: list[np.ndarray] = [np.empty(0, np.int64)]
        for batch in self.dataset().scanner(columns=["sample", "by"]).to_batches():
            if others := [other for other in batch["by"].unique().to_pylist() if other != by]:
                raise UserError(f"{self.uri} holds rows of another maker ({others[0]})", "name another --to")
            found.append(batch["sample"].to_numpy().astype(np.int64))
        return np.unique(np.concatenate(found))

    def write(self, rows: Sequence[dict[str, Any]]) -> str:
        """Write rows as files that no version names yet; the ticket for `commit`."""
        from lance.fragment import write_fragments

        uri = f"{self.uri}/{DATASET}"
        written = retrying(
            f"cannot write to {self.uri}",
            lambda: write_fragments(
                pa.Table.from_pylist(list(rows), schema=ROWS),
                uri,
                schema=ROWS,
                data_storage_version=STORAGE_VERSION,
                storage_options=options(uri, self.storage_options),
            ),
        )
        samples = [row["sample"] for row in rows]
        return json.dumps({"samples": samples, "fragments": [one.to_json() for one in written]})

    def keep(self, run: str, ticket: str) -> str:
        """Write a ticket down; the entry's name. When this returns a kill loses its rows no more."""
        name = f"{JOURNAL}/{run}/{uuid.uuid4().hex}{_TICKET}"
        retrying(f"cannot write to {self.uri}", lambda: self.files.write(name, ticket.encode(), durable=False))
        return name

    def forget(self, entries: Iterable[str]) -> None:
        """Remove entries of the journal that are committed."""
        for name in entries:
            retrying(f"cannot write to {self.uri}", lambda name=name: self.files.remove(name))

    def commit(self, tickets: Sequence[str], done: set[int]) -> int:
        """Commit the rows of tickets, but of those whose samples are all in `done`, which grows; how many are new."""
        import lance

        fragments, new = [], 0
        for ticket in tickets:
            samples, written = _read_ticket(ticket)
            if set(samples) <= done:
                continue  # a worker that did a lost one's work again: the rows are equal
            new += len(set(samples) - done)
            done.update(samples)
            fragments += written
        if fragments:
            append = lance.LanceOperation.Append(fragments)
            retrying(f"cannot write to {self.uri}", lambda: committed(self.dataset(), append))
        return new

    def recover(self, done: set[int]) -> int:
        """Commit what killed runs have left in the journal; how many samples."""
        names = retrying(f"cannot read {self.uri}", lambda: self.files.names(JOURNAL, _TICKET))
        whole: list[str] = []
        for name in names:
            content = retrying(f"cannot read {self.uri}", lambda name=name: self.files.read(name))
            if content is not None and self._is_whole(content.decode("utf-8", "replace")):
                whole.append(content.decode())
            else:
                _log.warning("an entry of the journal that is not whole is left out, its work is done again: %s", name)
        recovered = self.commit(whole, done)
        retrying(f"cannot write to {self.uri}", lambda: self.files.remove_folder(JOURNAL))
        return recovered

    def _is_whole(self, ticket: str) -> bool:
        """Whether a ticket can be read and its files are on the local disk; a store would have to be asked for each."""
        try:
            _, fragments = _read_ticket(ticket)
        except (ValueError, KeyError, TypeError):
            return False
        data = Path(self.uri, DATASET, "data")
        return is_remote(self.uri) or all((data / file.path).exists() for one in fragments for file in one.files)

    def close(self, run: str) -> None:
        """Remove the journal of a run that has committed all of it."""
        retrying(f"cannot write to {self.uri}", lambda: self.files.remove_folder(f"{JOURNAL}/{run}"))

    def remove(self, samples: Collection[int]) -> int:
        """Leave no file with rows of samples, for they were taken down; how many rows were deleted.

        What is done depends on what is there, not on how many rows that were: a run that was killed here has deleted
        them, and their files may still hold them. To be called alone, with nothing left in the journal. Who reads an
        older version meanwhile will not find its files any more.
        """
        if not samples:
            return 0
        numbers = ", ".join(str(int(number)) for number in sorted(samples))
        before = self.dataset().count_rows()
        what = f"removal from {self.uri}"
        retrying(what, lambda: self.dataset().delete(f"sample IN ({numbers})"))
        removed = before - self.dataset().count_rows()
        for number in [one.fragment_id for one in self.dataset().get_fragments() if one.metadata.num_deletions]:
            retrying(what, lambda number=number: written_again(self.dataset(), {number}, _COPIED_ROWS))
        retrying(
            what,
            lambda: self.dataset().cleanup_old_versions(
                older_than=timedelta(microseconds=1),  # zero would mean the default of Lance, two weeks
                # Files of no version, of workers that were killed, may hold such rows as well. On a disk nobody else
                # writes here; in a store that cannot be known, and Lance removes them when they are a week old.
                delete_unverified=not is_remote(self.uri),
            ),
        )
        return removed

    def tidy(self) -> None:
        """Merge many small files, and remove versions that are older than a day."""
        if len(self.dataset().get_fragments()) >= _SMALL_FILES:
            retrying(
                f"compaction of {self.uri}",
                lambda: self.dataset().optimize.compact_files(target_rows_per_fragment=_FILE_ROWS),
            )
            retrying(f"cleaning of {self.uri}", lambda: self.dataset().cleanup_old_versions(older_than=_KEEP))


def _read_ticket(ticket: str) -> tuple[list[int], list[Any]]:
    from lance import FragmentMetadata

    data = json.loads(ticket)
    fragments = [FragmentMetadata.from_json(json.dumps(one)) for one in data["fragments"]]
    return [int(number) for number in data["samples"]], fragments
