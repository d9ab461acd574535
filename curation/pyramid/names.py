"""The names that the ledger has recorded, sorted and in one file: how a start knows what is settled without reading it.

`names.bin` beside the datasets holds, for each name of each video, a digest of (uri, size, plan, whether it may be
tried again), the time, and the video. A lookup is a binary search in the mapped file. It covers the fragments that it
was made from. Rows written since, the tail, are read from `videos`, and what the tail says of a video stands in the
place of what the file says. A run begins by making the file again where the tail has grown, at a cost that its growth
pays for.

The file is a cache that proves itself: every row that it was made from and that is gone must have its new form in the
tail. Where one has not (a row was deleted), or where there is no file, all rows are read.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.contract import Source, Status
from curation.pyramid.failures import TRIED_AGAIN
from curation.pyramid.files import is_remote
from curation.pyramid.retry import retrying
from curation.pyramid.search import identity
from curation.pyramid.store import Pyramid

if TYPE_CHECKING:
    import lance

FILE = "names.bin"
GROWTH = 8
"""The file is made again once the tail has an eighth of its rows."""
FEW = 256
"""Rows that are always read rather than kept in the file."""
_MAGIC = b"ziggurat names 1\n"
_COLUMNS = ["video_id", "uris", "modified", "bytes", "fingerprint", "status", "reason"]
_AGAIN = frozenset(map(str, TRIED_AGAIN))


@dataclass(frozen=True, slots=True)
class Part:
    """Names in the order of their digests (`first`, `second`: 64 bits each), their times, the hashes of their videos.

    `videos`: the hashes of all videos that the part was made from, sorted.
    """

    first: np.ndarray
    second: np.ndarray
    modified: np.ndarray
    video: np.ndarray
    videos: np.ndarray

    def recorded(self, digests: bytes, modified: Sequence[float]) -> Iterator[tuple[int, int]]:
        """(place in `modified`, hash of a video) for each video that is recorded under one of some names: at its time,
        or at any where that is 0, unknown.
        """
        wanted = np.frombuffer(digests, "<u8").reshape(-1, 2)
        starts = np.searchsorted(self.first, wanted[:, 0])
        inside = np.flatnonzero(starts < len(self.first))
        for number in inside[self.first[starts[inside]] == wanted[inside, 0]].tolist():
            first, second = wanted[number]
            place = int(starts[number])
            while place < len(self.first) and self.first[place] == first:
                if self.second[place] == second and modified[number] in (0.0, self.modified[place]):
                    yield number, int(self.video[place])
                place += 1

    def shared(self, videos: np.ndarray) -> int:
        """How many of some different videos the part was made from."""
        places = np.searchsorted(self.videos, videos)
        inside = places < len(self.videos)
        return int((self.videos[places[inside]] == videos[inside]).sum())


@dataclass(frozen=True, slots=True)
class Covered:
    """What a file was made from: `rows` of them, in fragments by their `search.identity`."""

    rows: int
    fragments: frozenset[str]


class Names:
    """The names in the latest version of `videos`: those of the file, and of the tail over them."""

    def __init__(self, pyramid: Pyramid) -> None:
        dataset = pyramid.dataset("videos")
        fragments = {identity(one): one for one in dataset.get_fragments()}
        part, covered = _read(pyramid) or (_part([]), Covered(0, frozenset()))
        tail = [one for name, one in fragments.items() if name not in covered.fragments]
        newer = _part(_rows(dataset, tail))
        there = sum(one.metadata.num_rows for name, one in fragments.items() if name in covered.fragments)
        if covered.rows - there != part.shared(newer.videos):
            part, newer = _part([]), _part(_rows(dataset, list(fragments.values())))
        self._old, self._new = part, newer
        self._superseded = frozenset(newer.videos.tolist())
        self._covered = Covered(dataset.count_rows(), frozenset(fragments))

    def settled(self, sources: Sequence[Source], plan: str, retry_quarantined: bool) -> set[Source]:
        """Those of `sources` that are recorded under `plan`; see `Ledger.settled`."""
        modified = [source.modified for source in sources]
        found: set[Source] = set()
        for again in (False,) if retry_quarantined else (False, True):
            digests = b"".join(_digest(source.uri, source.bytes, plan, again) for source in sources)
            found.update(sources[place] for place, _ in self._new.recorded(digests, modified))
            old = self._old.recorded(digests, modified)
            found.update(sources[place] for place, video in old if video not in self._superseded)
        return found

    def keep(self, pyramid: Pyramid) -> None:
        """Write the file, unless the tail is still short."""
        if len(self._new.videos) <= max(FEW, len(self._old.videos) // GROWTH):
            return
        content = _packed(_merged(self._old, self._new), self._covered)
        retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(FILE, content, durable=False))


def _rows(dataset: lance.LanceDataset, fragments: list[Any]) -> Iterator[dict[str, Any]]:
    if fragments:
        for batch in dataset.scanner(columns=_COLUMNS, fragments=fragments).to_batches():
            yield from batch.to_pylist()


def _part(rows: Iterable[dict[str, Any]]) -> Part:
    names, made_from = bytearray(), bytearray()
    for row in rows:
        video = hashlib.blake2b(row["video_id"].encode(), digest_size=8).digest()
        made_from += video
        if row["fingerprint"] is None or row["reason"] in _AGAIN:
            continue
        again = row["status"] == Status.QUARANTINED
        for uri, modified in zip(row["uris"] or (), row["modified"] or (), strict=True):
            names += _digest(uri, row["bytes"] or 0, row["fingerprint"], again) + struct.pack("<d", modified) + video
    table = np.frombuffer(bytes(names), _NAME)
    videos = np.frombuffer(bytes(made_from), "<u8")
    return _sorted(table["first"], table["second"], table["modified"], table["video"], videos)


_NAME = np.dtype([("first", "<u8"), ("second", "<u8"), ("modified", "<f8"), ("video", "<u8")])


def _sorted(first: np.ndarray, second: np.ndarray, modified: np.ndarray, video: np.ndarray, videos: np.ndarray) -> Part:
    order = np.lexsort((second, first))
    return Part(first[order], second[order], modified[order], video[order], np.unique(videos))


def _merged(old: Part, new: Part) -> Part:
    """One part of both: of a video that is in both, what the new one says."""
    kept = ~np.isin(old.video, new.videos)
    return _sorted(
        np.concatenate((old.first[kept], new.first)),
        np.concatenate((old.second[kept], new.second)),
        np.concatenate((old.modified[kept], new.modified)),
        np.concatenate((old.video[kept], new.video)),
        np.concatenate((old.videos, new.videos)),
    )


def _digest(uri: str, size: int, plan: str, again: bool) -> bytes:
    """16 bytes that stand for a name under a plan: wide enough that two never share them."""
    text = json.dumps([uri, size, plan, again]).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def _packed(part: Part, covered: Covered) -> bytes:
    counts = {"names": len(part.first), "videos": len(part.videos)}
    header = json.dumps({**counts, "rows": covered.rows, "fragments": sorted(covered.fragments)}).encode()
    front = _MAGIC + struct.pack("<Q", len(header)) + header
    arrays = (part.first, part.second, part.modified, part.video, part.videos)
    return front + b"\0" * (-len(front) % 8) + b"".join(array.tobytes() for array in arrays)


def _read(pyramid: Pyramid) -> tuple[Part, Covered] | None:
    """What the file holds; None where there is none or it is damaged: it was not written durably."""
    content = retrying(f"cannot read {pyramid.uri}", lambda: _mapped(pyramid))
    try:
        return None if content is None else _unpacked(content)
    except (ValueError, KeyError, TypeError, struct.error):
        return None


def _unpacked(content: bytes | mmap.mmap) -> tuple[Part, Covered]:
    begin = len(_MAGIC) + 8
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("no file of names")
    (length,) = struct.unpack("<Q", content[len(_MAGIC) : begin])
    header = json.loads(content[begin : begin + length])
    place = begin + length + -(begin + length) % 8
    names, videos = int(header["names"]), int(header["videos"])
    if len(content) != place + 8 * (4 * names + videos):
        raise ValueError("cut short")
    arrays = []
    for type_, count in (("<u8", names), ("<u8", names), ("<f8", names), ("<u8", names), ("<u8", videos)):
        arrays.append(np.frombuffer(content, type_, count, place))
        place += 8 * count
    return Part(*arrays), Covered(int(header["rows"]), frozenset(header["fragments"]))


def _mapped(pyramid: Pyramid) -> bytes | mmap.mmap | None:
    if is_remote(pyramid.uri):
        return pyramid.files.read(FILE)
    try:
        with Path(pyramid.uri, FILE).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except ValueError:  # an empty file cannot be mapped
        return None
