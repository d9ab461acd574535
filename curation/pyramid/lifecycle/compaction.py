"""Merges the small fragments of `samples` and `media`, which a run leaves by the million: part of `upkeep`. And writes
fragments again without the rows that are deleted in them (`rewritten`), whose bytes else stay: part of `forget`.

Every measured video and every cut segment is a fragment of its own, and each commit writes, each reader reads
a manifest that lists them all. A group of small fragments is read row by row, written as one new fragment and
put in their place in one transaction. Pinned versions keep the old files; a kill leaves files that no version
refers to.

`commit` takes the row of a clip with the lowest address for the first ever committed, and a moved row has a
new, higher address. Two rules keep that true. A fragment stays as it is while one of its clips has a second
row. And the new fragment's number is reserved before it is checked that nobody has appended such a second row
meanwhile: what is appended later gets a higher number.

While a group is copied, others delete rows, append, and extend the indexes, every 32 versions (`tail`). Lance would
refuse the transaction for each extension that covers a fragment of the group since the version it is made from. So it
is made from the latest version, once that has the fragments just as they were copied, and again from the next where an
extension comes first after all. Where a fragment has changed (a row of it was deleted), the group is copied again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.contract import BLOB_FIELD
from curation.pyramid.queries.access import SCAN_ROWS
from curation.pyramid.storage.fragments import read_ticket, write_media_fragments, write_samples_fragments
from curation.pyramid.storage.transaction import committed, rows_at
from curation.pyramid.store import Pyramid
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

_log = logging.getLogger(__name__)

TARGET_BYTES = {"samples": 1 << 30, "media": 4 << 30}
"""What a full fragment holds. 100 M clips of 150 kB of frames and 3 MB of video fill some 14,000 and 70,000."""
TARGET_ROWS = 1 << 19
"""A fragment with so many rows is full too; Lance would cut one of twice as many in two."""
SMALL = 1 / 8
"""Fragments less full than this are merged, larger ones are never copied."""
GROWTH = 8
"""A merged fragment that is still small is so many times as full as any of its parts. Hence a row is copied
at most 1 + log_8(SMALL * target / what was first written) times: 4 times from 150 kB of frames on, 3 times
from 3 MB of video on, however often upkeep runs. What is left unmerged is less than SMALL, in about 100
fragments at most."""
_PASSES = 3
_TRIES = 10
_ROWS = 8
"""Rows read at a time; a few MB each at most."""
_READ_AHEAD = 64 << 20


@dataclass(frozen=True, slots=True)
class Compacted:
    """Bytes copied, and fragments left alone because a clip's bytes no longer have their sha256."""

    copied_bytes: int = 0
    damaged: int = 0


def plan(fullness: Mapping[int, float]) -> list[list[int]]:
    """Groups of fragments to merge, by number; `fullness`: share of the target, of every fragment."""
    small = sorted((share, number) for number, share in fullness.items() if share < SMALL)
    total, worth = 0.0, 0
    for count, (share, _) in enumerate(small, 1):
        total += share
        if total >= SMALL or total >= GROWTH * share:
            worth = count
    groups: list[list[int]] = []
    room = 0.0
    for number in sorted(number for _, number in small[:worth]):
        if room < fullness[number]:
            groups.append([])
            room = 1.0
        groups[-1].append(number)
        room -= fullness[number]
    if len(groups) > 1 and 1 - room < SMALL:
        last = groups.pop()
        groups[-1] += last
    return groups


def compact(pyramid: Pyramid, name: str, target_bytes: int | None = None) -> Compacted:
    """Merge the small fragments of `name`, samples or media.

    Memory: 16 bytes a row and their sorting, and about 1 GB of buffers, however much is copied.
    """
    target = target_bytes or TARGET_BYTES[name]
    copied = 0
    damaged: set[int] = set()
    for _ in range(_PASSES):
        dataset = pyramid.dataset(name)
        sizes = _sizes(dataset)
        fragments = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
        rows = {number: fragment.count_rows() for number, fragment in fragments.items()}
        fullness = {n: max(size / target, rows[n] / TARGET_ROWS) for n, size in sizes.items() if n not in damaged}
        if not plan(fullness):
            break
        twins = _Twins(dataset)
        groups = plan({number: share for number, share in fullness.items() if number not in twins.fragments})
        merged = [_merge(pyramid, name, dataset, [fragments[n] for n in group], twins, damaged) for group in groups]
        copied += sum(sum(sizes[number] for number in group) for group in groups)
        if all(merged):
            break
    return Compacted(copied, len(damaged))


def rewritten(pyramid: Pyramid, name: str, numbers: Collection[int]) -> tuple[int, list[int]]:
    """Write fragments of samples or media again without the rows that are deleted in them: (bytes copied, fragments
    that could not be, because one of their clips has a second row or others kept changing them).

    A clip whose bytes no longer have their sha256 is copied as it is, its sha256 too: that it is damaged still shows.
    """
    copied = 0
    for _ in range(_TRIES):
        dataset = pyramid.dataset(name)
        left = [one for one in dataset.get_fragments() if one.fragment_id in numbers and one.metadata.num_deletions]
        if not left:
            return copied, []
        sizes, twins = _sizes(dataset), _Twins(dataset)
        for one in left:
            if one.fragment_id not in twins.fragments and _merge(pyramid, name, dataset, [one], twins, None):
                copied += sizes[one.fragment_id]
    there = {one.fragment_id: one.metadata.num_deletions for one in pyramid.dataset(name).get_fragments()}
    return copied, sorted(number for number in numbers if there.get(number))


def hashed(dataset: lance.LanceDataset, fragments: list[Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of all clip ids, and the addresses of their rows: 16 bytes a row."""
    hashes, addresses = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    scanner = dataset.scanner(columns=["clip_id"], with_row_address=True, batch_size=SCAN_ROWS, fragments=fragments)
    for batch in scanner.to_batches():
        digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in batch["clip_id"].to_pylist())
        hashes.append(np.frombuffer(b"".join(digests), np.uint64))
        addresses.append(batch["_rowaddr"].to_numpy())
    return np.concatenate(hashes), np.concatenate(addresses)


class _Twins:
    """Which fragments of one version hold a clip that has another row, there or appended since."""

    def __init__(self, dataset: lance.LanceDataset) -> None:
        self._known = {fragment.fragment_id for fragment in dataset.get_fragments()}
        self._hashes, addresses = hashed(dataset)
        self._numbers = (addresses >> np.uint64(32)).astype(np.uint32)
        values, counts = np.unique(self._hashes, return_counts=True)
        self.fragments = self._holding(values[counts > 1])

    def _holding(self, hashes: np.ndarray) -> set[int]:
        if not hashes.size:
            return set()
        return set(np.unique(self._numbers[np.isin(self._hashes, hashes)]).tolist())

    def skip(self, *numbers: int) -> None:
        """Fragments appended by this compaction: their rows are known from where they were."""
        self._known.update(numbers)

    def look(self, latest: lance.LanceDataset) -> None:
        """Take in what others have appended, up to the version `latest`."""
        added = [fragment for fragment in latest.get_fragments() if fragment.fragment_id not in self._known]
        if added:
            self._known.update(fragment.fragment_id for fragment in added)
            self.fragments |= self._holding(hashed(latest, added)[0])


def _sizes(dataset: lance.LanceDataset) -> dict[int, int]:
    """Bytes of the rows of each fragment. Blobs lie in files of their own, which Lance does not count."""
    metadata = {fragment.fragment_id: fragment.metadata for fragment in dataset.get_fragments()}
    sizes = {n: sum(file.file_size_bytes or 0 for file in one.files) for n, one in metadata.items()}
    sizes = {n: size * metadata[n].num_rows // max(1, metadata[n].physical_rows) for n, size in sizes.items()}
    if "bytes" in dataset.schema.names:
        for batch in dataset.scanner(columns=["bytes"], with_row_address=True, batch_size=SCAN_ROWS).to_batches():
            numbers, places = np.unique(batch["_rowaddr"].to_numpy() >> np.uint64(32), return_inverse=True)
            blobs = np.bincount(places, batch["bytes"].fill_null(0).to_numpy())
            for number, more in zip(numbers.tolist(), blobs.tolist(), strict=True):
                sizes[number] += int(more)
    return sizes


def _merge(
    pyramid: Pyramid,
    name: str,
    dataset: lance.LanceDataset,
    group: list[Any],
    twins: _Twins,
    damaged: set[int] | None,
) -> bool:
    """Put one new fragment in the place of a group's; False where the group must be looked at anew. `damaged` takes in
    fragments that are left alone, for a clip's bytes are not what they were; None: they are copied as they are.
    """
    ticket = retrying(f"compaction of {name}", lambda: _copied(pyramid, name, dataset, group, damaged))
    if damaged is not None and any(fragment.fragment_id in damaged for fragment in group):
        return False
    ids, written = read_ticket(ticket)
    if len(written) != 1 or len(ids) != sum(fragment.count_rows() for fragment in group):
        raise RuntimeError(f"{name}: {len(ids)} rows in {len(written)} fragments is not what was to be copied")
    latest, place, number = retrying(f"compaction of {name}", lambda: _reserve(pyramid, name))
    twins.skip(place.id, number)
    twins.look(latest)
    if not any(fragment.fragment_id in twins.fragments for fragment in group):
        old = [*(fragment.metadata for fragment in group), place]
        new = dataclasses.replace(written[0], id=number)
        if retrying(f"compaction of {name}", lambda: _put(pyramid, name, old, new)):
            return True
    only = rows_at([place.id << 32])
    retrying(f"compaction of {name}", lambda: pyramid.dataset(name).delete(only))
    return False


def _put(pyramid: Pyramid, name: str, old: list[Any], new: Any) -> bool:
    """Put a fragment in the place of others, of which it is a copy; False where one of them is not as it was. Raises as
    Lance does where another commit comes between.
    """
    import lance

    dataset = pyramid.dataset(name)
    there = {fragment.fragment_id: fragment.metadata for fragment in dataset.get_fragments()}
    if new.id in there:
        return True  # by an attempt whose answer was lost
    if any(there.get(one.id) != one for one in old):
        return False
    # No rewritten index: it takes rows of fragments that are gone for deleted and those of the new one for not
    # indexed, until `upkeep` extends it; to rewrite it for every group would copy it as often.
    committed(dataset, lance.LanceOperation.Rewrite([lance.LanceOperation.RewriteGroup(old, [new])], []))
    return True


def _reserve(pyramid: Pyramid, name: str) -> tuple[lance.LanceDataset, Any, int]:
    """Reserve a fragment number: (the version that did it, a placeholder to be replaced, the number).

    Appends two fragments: a placeholder with one row of no clip, by which the number is known, and an empty
    one, which Lance numbers next and then leaves out. No row ever had an address under that number. A
    placeholder that a kill leaves behind is an orphan to `upkeep`.
    """
    import lance
    from lance import FragmentMetadata

    write: Any = {"samples": write_samples_fragments, "media": write_media_fragments}[name]
    content: Any = {"samples": [], "media": b""}[name]
    (placeholder,) = read_ticket(write(pyramid.uri, [("", content)], pyramid.storage_options))[1]
    dataset = pyramid.dataset(name)
    empty = FragmentMetadata(id=0, files=[], physical_rows=0)
    latest = committed(dataset, lance.LanceOperation.Append([placeholder, empty]))
    path = placeholder.files[0].path
    place = next(one.metadata for one in reversed(latest.get_fragments()) if one.metadata.files[0].path == path)
    return latest, place, place.id + 1


def _copied(
    pyramid: Pyramid, name: str, dataset: lance.LanceDataset, fragments: list[Any], damaged: set[int] | None
) -> str:
    """Write the rows of `fragments` again, in their order; a ticket. Ends at a damaged one, which it adds."""
    if name == "samples":
        rows = (
            (row["clip_id"], row["frames"])
            for batch in _scan(dataset, fragments, ["clip_id", "frames"])
            for row in batch.to_pylist()
        )
        return write_samples_fragments(pyramid.uri, rows, pyramid.storage_options)
    return write_media_fragments(pyramid.uri, _media(dataset, fragments, damaged), pyramid.storage_options)


def _media(
    dataset: lance.LanceDataset, fragments: list[Any], damaged: set[int] | None
) -> Iterator[tuple[str, bytes, *tuple[str, ...]]]:
    for batch in _scan(dataset, fragments, ["clip_id", "sha256"]):
        rows = batch.to_pylist()
        files = dataset.take_blobs(BLOB_FIELD, addresses=[row["_rowaddr"] for row in rows])
        for row, file in zip(rows, files, strict=True):
            assert file is not None, row
            with file:
                content = file.readall()
            if damaged is None:
                yield row["clip_id"], content, row["sha256"]
                continue
            # The writer makes a new hash: of other bytes it would be right, and the damage hidden for ever.
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                _log.warning("the bytes of a clip do not have their sha256", extra={"clip": row["clip_id"]})
                damaged.add(row["_rowaddr"] >> 32)
                return
            yield row["clip_id"], content


def _scan(dataset: lance.LanceDataset, fragments: list[Any], columns: list[str]) -> Iterator[Any]:
    return dataset.scanner(
        columns=columns,
        fragments=fragments,
        with_row_address=True,
        batch_size=_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
        io_buffer_size=_READ_AHEAD,
        scan_in_order=True,
    ).to_batches()
