"""The names that the ledger has recorded, sorted and in files: how a start knows what is settled without reading all.

`names/` beside the datasets holds, for each name of each video, a digest of (uri, size, plan, whether it may be tried
again), the time, and the video. A video that an attempt in vain left under another plan has one of that attempt, too. A
lookup is a binary search in mapped files. `names/index.json` lists them, oldest first, and the fragments of `videos`
that they were made from. Rows of other fragments, the tail, are read: those written since, and again those whose
fragments were merged since, by committers (`pyramid.commits.tail`) or by `upkeep`. What a newer file or the tail says
of a video stands in the place of what an older one says. A run that finds a tail of some length makes a file of it,
merged with the newest ones that are not much larger: a row is written again a few times.

The files are a cache that proves itself: the videos in files and tail together must be as many as there are rows, and
no fragment may have fewer deleted rows than when it was read. Where they are not (a row was deleted), where one has (an
older version was restored, or the machine's fall took the last ones), or where there is no index, all rows are read.

Memory: the tail, 32 bytes a name and 8 a video, and some times that while it is sorted, merged and written; so all
names where all rows are read, as at the first start. Files on a local disk are mapped; from an object store they are
read whole.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.contract import Source, Status
from curation.pyramid.history.failures import TRIED_AGAIN
from curation.pyramid.history.search import identity, is_known
from curation.pyramid.storage.files import is_remote
from curation.pyramid.storage.locks import writing
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

FOLDER = "names"
INDEX = f"{FOLDER}/index.json"
GROWTH = 8
"""A file is merged with a newer one that has an eighth of its videos or more: there are about log8(videos) files."""
FEW = 256
"""Rows of a tail that are read again rather than kept in a file."""
_SUFFIX = ".bin"
_MAGIC = b"names 1\n"
_COLUMNS = ["video_id", "uris", "modified", "bytes", "fingerprint", "status", "reason", "tried"]
_AGAIN = frozenset(map(str, TRIED_AGAIN))


_REST = np.dtype([("second", "<u8"), ("modified", "<f8"), ("video", "<u8")])
_NAME = np.dtype([("first", "<u8"), *_REST.descr])


@dataclass(frozen=True, slots=True)
class Part:
    """Names in the order of their digests of 128 bits: `first` holds one half of each, to be searched, and `rest` the
    other half, the time and the hash of the video, side by side so that a hit touches one page more.

    `videos`: the hashes of all videos that the part was made from, sorted.
    """

    first: np.ndarray
    rest: np.ndarray
    videos: np.ndarray

    def recorded(self, digests: bytes, modified: Sequence[float]) -> Iterator[tuple[int, int]]:
        """(place in `modified`, hash of a video) for each video that is recorded under one of some names: at its time,
        or at any where that is 0, unknown.
        """
        wanted = np.frombuffer(digests, "<u8").reshape(-1, 2)
        order = np.argsort(wanted[:, 0])  # neighbours lie in one page of a mapped file
        starts = np.searchsorted(self.first, wanted[order, 0])
        inside = starts < len(self.first)
        order, starts = order[inside], starts[inside]
        hits = self.first[starts] == wanted[order, 0]
        for number, place in zip(order[hits].tolist(), starts[hits].tolist(), strict=True):
            first, second = wanted[number].tolist()
            while place < len(self.first) and self.first[place] == first:
                other, time, video = self.rest[place].item()
                if other == second and modified[number] in (0.0, time):
                    yield number, video
                place += 1

    def among(self, videos: np.ndarray) -> np.ndarray:
        """Which of some videos, given by their hashes, the part was made from."""
        places = np.minimum(np.searchsorted(self.videos, videos), max(0, len(self.videos) - 1))
        return self.videos[places] == videos if len(self.videos) else np.zeros(len(videos), bool)


@dataclass(frozen=True, slots=True)
class Kept:
    """The files: their parts by file name, the number of videos in all of them, and the fragments that they were made
    from: how many rows of each were deleted, by their `search.identity`.
    """

    parts: Mapping[str, Part]
    videos: int
    fragments: Mapping[str, int]

    def is_of(self, fragments: Mapping[str, Any]) -> bool:
        """Whether a dataset of these fragments may have come from the one that the files were made from: a row never
        comes back but with an older version.
        """
        return all(is_known(fragments[name], self.fragments) for name in self.fragments.keys() & fragments.keys())


_NOTHING = Kept({}, 0, {})


class Names:
    """The names in the latest version of `videos`: those of the files, and of the tail over them."""

    def __init__(self, pyramid: Pyramid) -> None:
        found = _read(pyramid) or _NOTHING  # before the rows: it is never of a later version
        dataset = pyramid.dataset("videos")
        fragments = {identity(one): one for one in dataset.get_fragments()}
        self._kept = found if found.is_of(fragments) else _NOTHING
        self._tail = _part(_rows(dataset, [one for name, one in fragments.items() if name not in self._kept.fragments]))
        if self._kept.videos + self._fresh() != dataset.count_rows():
            self._kept, self._tail = _NOTHING, _part(_rows(dataset, list(fragments.values())))
        self._found = found
        self._rows = dataset.count_rows()
        self._fragments = {name: one.metadata.num_deletions for name, one in fragments.items()}
        self._parts = [*self._kept.parts.values(), self._tail]

    def _fresh(self) -> int:
        """How many videos of the tail no file knows."""
        known = np.zeros(len(self._tail.videos), bool)
        for part in self._kept.parts.values():
            known |= part.among(self._tail.videos)
        return int((~known).sum())

    def settled(
        self, sources: Sequence[Source], plan: str, attempt: str | None, retry_quarantined: bool
    ) -> set[Source]:
        """Those of `sources` that are recorded under `plan`, or tried in vain by `attempt`; see `Ledger.settled`."""
        modified = [source.modified for source in sources]
        found: set[Source] = set()
        recorded = [(plan, False)]
        if not retry_quarantined:
            recorded += [(plan, True), *([(attempt, True)] if attempt else [])]
        for under, again in recorded:
            digests = b"".join(_digest(source.uri, source.bytes, under, again) for source in sources)
            for number, part in enumerate(self._parts):
                hits = list(part.recorded(digests, modified))
                videos = np.array([video for _, video in hits], np.uint64)
                newer = np.zeros(len(hits), bool)
                for one in self._parts[number + 1 :]:
                    newer |= one.among(videos)
                found.update(
                    sources[place] for (place, _), known in zip(hits, newer.tolist(), strict=True) if not known
                )
        return found

    def keep(self, pyramid: Pyramid) -> None:
        """Make a file of the tail, unless it is short. Where the index was found to be untrue, of a short one too: left
        as it is, it would pass for true once as many rows are written as it is wrong by. Nothing of videos that were
        taken down since the rows were read: then the file holds fewer videos than rows were read, and says so.
        """
        with writing(pyramid.uri):
            self._keep(pyramid)

    def _keep(self, pyramid: Pyramid) -> None:
        if len(self._tail.videos) <= FEW and self._found is self._kept:
            return
        kept, merged = dict(self._kept.parts), self._tail
        while kept and len(next(reversed(kept.values())).videos) <= GROWTH * len(merged.videos):
            merged = _merged(kept.popitem()[1], merged)
        held = len(merged.videos)
        merged = _besides(merged, tombstones.read(pyramid.files))
        name = f"{FOLDER}/{int(time.time()):x}-{uuid.uuid4().hex}{_SUFFIX}"  # when it was begun: see `tidy`
        index = {
            "files": [*kept, name],
            "videos": self._rows - (held - len(merged.videos)),
            "fragments": self._fragments,
            "again": sorted(_AGAIN),
        }

        def write() -> None:
            pyramid.files.write(name, _packed(merged), durable=False)
            pyramid.files.write(INDEX, json.dumps(index).encode(), durable=False)
            for old in self._found.parts.keys() - kept.keys():
                pyramid.files.remove(old)

        retrying(f"cannot write to {pyramid.uri}", write)


def tidy(pyramid: Pyramid, settle: timedelta) -> None:
    """Remove the files that the index does not name: those of a start that was killed before it wrote the index, and of
    all but the last of starts that wrote one at the same time. Not those begun less than `settle` ago, which an index
    may be about to name; were one removed all the same, by a clock that is wrong, the next start would read all rows.
    """
    what, before = f"files of names in {pyramid.uri}", time.time() - settle.total_seconds()
    there = retrying(what, lambda: pyramid.files.names(FOLDER, _SUFFIX))
    named = _named(retrying(what, lambda: pyramid.files.read(INDEX)))  # after the list: it names what it names by now
    for name in there:
        if name not in named and _begun(name) <= before:
            retrying(what, lambda name=name: pyramid.files.remove(name))


def _named(index: bytes | None) -> frozenset[str]:
    try:
        return frozenset(json.loads(index or b"{}")["files"])
    except (ValueError, KeyError, TypeError):
        return frozenset()  # none, or damaged: its files are of no use


def _begun(name: str) -> int:
    """Seconds since 1970, by the name of a file; 0 for the names that older versions gave, which do not say it."""
    start, dash, _ = name.removeprefix(f"{FOLDER}/").partition("-")
    try:
        return int(start, 16) if dash else 0
    except ValueError:
        return 0


def _rows(dataset: lance.LanceDataset, fragments: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of `_COLUMNS`."""
    there = [name for name in _COLUMNS if name in dataset.schema.names]  # an old pyramid has no `tried`
    if fragments:
        for batch in dataset.scanner(columns=there, fragments=fragments).to_batches():
            nothing = [None] * batch.num_rows
            columns = (batch[name].to_pylist() if name in there else nothing for name in _COLUMNS)
            yield from zip(*columns, strict=True)


def _part(rows: Iterable[tuple[Any, ...]]) -> Part:
    names, made_from = bytearray(), bytearray()
    for video_id, uris, times, size, plan, status, reason, tried in rows:
        video = hashlib.blake2b(video_id.encode(), digest_size=8).digest()
        made_from += video
        if plan is None or reason in _AGAIN:
            continue
        under = [(plan, status == Status.QUARANTINED), *([(tried, True)] if tried else [])]
        for uri, modified in zip(uris or (), times or (), strict=True):
            for one, again in under:
                names += _digest(uri, size or 0, one, again) + struct.pack("<d", modified) + video
    table = np.frombuffer(bytes(names), _NAME)
    videos = np.frombuffer(bytes(made_from), "<u8")
    return _sorted(table["first"], table[list(_REST.names or ())].astype(_REST), videos)


def _sorted(first: np.ndarray, rest: np.ndarray, videos: np.ndarray) -> Part:
    order = np.lexsort((rest["second"], first))
    return Part(first[order], rest[order], np.unique(videos))


def _merged(old: Part, new: Part) -> Part:
    """One part of both: of a video that is in both, what the new one says."""
    kept = ~np.isin(old.rest["video"], new.videos)
    first, rest = np.concatenate((old.first[kept], new.first)), np.concatenate((old.rest[kept], new.rest))
    return _sorted(first, rest, np.concatenate((old.videos, new.videos)))


def _besides(part: Part, dead: Collection[str]) -> Part:
    """A part without what is of some videos, given by their ids."""
    hashes = np.array([_hash(video_id) for video_id in dead], "<u8")
    gone = np.isin(part.rest["video"], hashes)
    return Part(part.first[~gone], part.rest[~gone], part.videos[~np.isin(part.videos, hashes)])


def _hash(video_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=8).digest(), "little")


def _digest(uri: str, size: int, plan: str, again: bool) -> bytes:
    """16 bytes that stand for a name under a plan: wide enough that two never share them."""
    text = f"{size} {again:d} {plan}\0{uri}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


def _packed(part: Part) -> bytes:
    head = _MAGIC + struct.pack("<QQ", len(part.first), len(part.videos))
    return head + b"".join(array.tobytes() for array in (part.first, part.rest, part.videos))


def _unpacked(content: bytes | mmap.mmap) -> Part:
    place = len(_MAGIC) + 16
    names, videos = struct.unpack("<QQ", content[len(_MAGIC) : place])
    if content[: len(_MAGIC)] != _MAGIC or len(content) != place + 8 * (4 * names + videos):
        raise ValueError("no file of names, or one cut short")
    first = np.frombuffer(content, "<u8", names, place)
    rest = np.frombuffer(content, _REST, names, place + 8 * names)
    return Part(first, rest, np.frombuffer(content, "<u8", videos, place + 32 * names))


def _read(pyramid: Pyramid) -> Kept | None:
    """What the files hold; None where there are none, or where one is gone or damaged (none is written durably), or
    where they were made by other rules.
    """
    content = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(INDEX))
    if content is None:
        return None
    try:
        index = json.loads(content)
        if index["again"] != sorted(_AGAIN):  # a name of another reason was left out, or was not
            return None
        parts = {str(name): _unpacked(_mapped(pyramid, str(name))) for name in index["files"]}
        fragments = {str(name): int(deleted) for name, deleted in index["fragments"].items()}
        return Kept(parts, int(index["videos"]), fragments)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None  # also of an older shape, which did not say as much


def _mapped(pyramid: Pyramid, name: str) -> bytes | mmap.mmap:
    if is_remote(pyramid.uri):
        return retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(name)) or b""
    try:
        with Path(pyramid.uri, name).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:  # another run has merged it meanwhile
        return b""
