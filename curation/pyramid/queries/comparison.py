"""Two pyramids side by side: videos that ended otherwise, clips gained, lost and changed. For `ziggurat compare`.

Clips and videos are read at one version each, a range of video ids at a time, as Arrow columns: memory is that of one
range, however large the pyramids are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pyramid.history.census import census
from curation.pyramid.queries.matching import ALONE, SAME, Matched, Spans, match
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid

LISTED = 20
"""How many videos are named."""

_ROWS = 300_000
"""Rows of one range, about: ids are hashes, so that ranges of them are even."""

_DIGITS = 4
_CLIP_COLUMNS = (
    "clip_id",
    "video_id",
    "start_frame",
    "end_frame",
    "start_s",
    "end_s",
    "width",
    "height",
    "fps",
    "tier",
)
_FORMAT = ("width", "height", "fps")


@dataclass(frozen=True, slots=True)
class Size:
    """What a pyramid holds. `videos`: by status; `bytes`: of the clips that are cut; `tiers`: clips of each."""

    videos: Mapping[str, int]
    clips: int
    seconds: float
    cut: int
    bytes: int
    tiers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VideoChange:
    """A video with what became of it in each pyramid: "done", "rejected: low_fps"; None where it is not there."""

    video_id: str
    uri: str
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """Clips of one video, or of all. `unchanged`: the same source frames in both, of which `remade` have another size
    or rate; `changed_a`, `changed_b`: the same piece, with other bounds in the other pyramid; then those without a
    counterpart.
    """

    unchanged: int = 0
    remade: int = 0
    changed_a: int = 0
    changed_b: int = 0
    only_a: int = 0
    only_b: int = 0

    @property
    def different(self) -> int:
        return self.changed_a + self.changed_b + self.only_a + self.only_b


@dataclass(slots=True)
class Comparison:
    """All that differs. `outcomes`: videos by what became of them in A and in B, where that differs; `listed`: some of
    them. `clips`: of all; `seconds_only_a`, `seconds_only_b`: of those without a counterpart. `tiers`: unchanged clips
    by their highest tier in A and in B, where that differs. `most`: the videos whose clips differ most.
    """

    a: Size
    b: Size
    outcomes: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    listed: list[VideoChange] = field(default_factory=list)
    clips: Changes = field(default_factory=Changes)
    seconds_only_a: float = 0.0
    seconds_only_b: float = 0.0
    tiers: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    most: list[tuple[str, Changes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Compared:
    """The clips of one range of videos: columns of both pyramids, the number of each clip's video in `videos` (their
    ids), and which clips are which.
    """

    a: pa.Table
    b: pa.Table
    of_a: Spans
    of_b: Spans
    videos: pa.Array
    matched: Matched


def size(pyramid: Pyramid) -> Size:
    """Count a pyramid; memory is bounded by a batch."""
    counts = census(pyramid)
    statuses: Counter[str] = Counter()
    for (status, _), videos in counts.videos.items():
        statuses[status] += videos
    seconds, stored = 0.0, 0
    for batch in pyramid.query().columns("start_s", "end_s").batches():
        seconds += _seconds(pa.Table.from_batches([batch]))
    for batch in pyramid.dataset("media").scanner(columns=["bytes"]).to_batches():
        stored += int(batch["bytes"].fill_null(0).to_numpy(zero_copy_only=False).sum())
    return Size(dict(statuses), counts.clips, seconds, counts.cut, stored, dict(counts.tiers))


def compare(a: Pyramid, b: Pyramid, seen: Callable[[Compared], None] = lambda compared: None) -> Comparison:
    """Compare two pyramids. `seen` is called with the clips of each range, for whoever wants to show some."""
    found = Comparison(size(a), size(b))
    clips, videos = ([one.dataset(name) for one in (a, b)] for name in ("clips", "videos"))
    rows = max(dataset.count_rows() for dataset in (*clips, *videos))
    for low, high in ranges(-(-rows // _ROWS)):
        test = _between(low, high)
        _compare_videos(found, *(_read(one, ("video_id", "status", "reason"), test) for one in videos))
        compared = _matched(*(_read(one, _CLIP_COLUMNS, test) for one in clips))
        _count(found, compared)
        seen(compared)
    found.listed = [_named(videos, change) for change in found.listed]
    return found


def ranges(count: int) -> Iterator[tuple[str | None, str | None]]:
    """`count` ranges of ids, from (inclusive) and to (exclusive), that hold every text; None for an open end."""
    count = min(max(1, count), 16**_DIGITS)
    edges = [f"{16**_DIGITS * n // count:0{_DIGITS}x}" for n in range(1, count)]
    yield from zip([None, *edges], [*edges, None], strict=True)


def _between(low: str | None, high: str | None) -> pc.Expression | None:
    tests = [] if low is None else [pc.field("video_id") >= pc.scalar(low)]
    tests += [] if high is None else [pc.field("video_id") < pc.scalar(high)]
    return None if not tests else tests[0] if len(tests) == 1 else tests[0] & tests[1]


def _read(dataset: Any, columns: Sequence[str], test: pc.Expression | None) -> pa.Table:
    return dataset.scanner(columns=list(columns), filter=test, use_scalar_index=False).to_table()


def _compare_videos(found: Comparison, a: pa.Table, b: pa.Table) -> None:
    both = a.join(b, "video_id", join_type="full outer", right_suffix="_b")
    words: dict[str | None, int] = {}
    ends = np.stack([_codes(both[name], words) for name in ("status", "reason", "status_b", "reason_b")], axis=1)
    differ = np.flatnonzero((ends[:, :2] != ends[:, 2:]).any(axis=1))
    said = list(words)
    for combination, count in zip(*np.unique(ends[differ], axis=0, return_counts=True), strict=True):
        status_a, reason_a, status_b, reason_b = (said[code] for code in combination)
        found.outcomes[_end(status_a, reason_a), _end(status_b, reason_b)] += int(count)
    some = both.take(pa.array(differ[: LISTED - len(found.listed)]))
    for row in some.sort_by("video_id").to_pylist():
        a_end, b_end = _end(row["status"], row["reason"]), _end(row["status_b"], row["reason_b"])
        found.listed.append(VideoChange(row["video_id"], "", a_end, b_end))


def _end(status: str | None, reason: str | None) -> str | None:
    """What became of a video, in words; None where it is not there."""
    return f"{status}: {reason}" if status and reason else status


def _codes(texts: pa.ChunkedArray, words: dict[str | None, int]) -> np.ndarray:
    """A number for each text, the same for the same one; `words` holds those that there are so far."""
    encoded = texts.combine_chunks().dictionary_encode()
    known = [words.setdefault(word, len(words)) for word in encoded.dictionary.to_pylist()]
    numbers = np.array([*known, words.setdefault(None, len(words))])
    return numbers[encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]


def _named(videos: Sequence[Any], change: VideoChange) -> VideoChange:
    for dataset in videos:
        for row in select(dataset, "video_id", [change.video_id], ["uris"]).to_pylist():
            if row["uris"]:
                return VideoChange(change.video_id, row["uris"][0], change.a, change.b)
    return change


def _matched(a: pa.Table, b: pa.Table) -> Compared:
    ids = pa.chunked_array([*a["video_id"].chunks, *b["video_id"].chunks], pa.string())
    encoded = ids.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    of_a, of_b = _spans(a, numbers[: len(a)]), _spans(b, numbers[len(a) :])
    return Compared(a, b, of_a, of_b, encoded.dictionary, match(of_a, of_b))


def _spans(clips: pa.Table, videos: np.ndarray) -> Spans:
    return Spans(videos, *(clips[name].fill_null(0).to_numpy() for name in ("start_frame", "end_frame")))


def _count(found: Comparison, compared: Compared) -> None:
    matched = compared.matched
    same = matched.pairs[matched.a[matched.pairs[:, 0]] == SAME]
    a, b = compared.a.take(pa.array(same[:, 0])), compared.b.take(pa.array(same[:, 1]))
    remade = np.zeros(len(same), bool)
    for name in _FORMAT:
        remade |= a[name].fill_null(0).to_numpy() != b[name].fill_null(0).to_numpy()
    found.clips = _sum(found.clips, _changes(matched.a, matched.b, int(remade.sum())))
    found.seconds_only_a += _seconds(compared.a.filter(pa.array(matched.a == ALONE)))
    found.seconds_only_b += _seconds(compared.b.filter(pa.array(matched.b == ALONE)))
    names: dict[str | None, int] = {}
    tiers = np.stack([_codes(one["tier"], names) for one in (a, b)], axis=1)
    for (before, after), count in zip(*np.unique(tiers, axis=0, return_counts=True), strict=True):
        if before != after:
            found.tiers[list(names)[before], list(names)[after]] += int(count)
    found.most = heapq.nlargest(LISTED, [*found.most, *_by_video(compared)], key=lambda one: (one[1].different, one[0]))


def _changes(a: np.ndarray, b: np.ndarray, remade: int = 0) -> Changes:
    (alone_a, changed_a, same), (alone_b, changed_b, _) = (np.bincount(one, minlength=3).tolist() for one in (a, b))
    return Changes(same, remade, changed_a, changed_b, alone_a, alone_b)


def _sum(one: Changes, other: Changes) -> Changes:
    return Changes(*(getattr(one, name) + getattr(other, name) for name in Changes.__slots__))


def _seconds(clips: pa.Table) -> float:
    """Of what has a length: an image has none."""
    start, end = (clips[name].to_numpy() for name in ("start_s", "end_s"))  # NaN for null
    return float(np.nansum(end - start))


def _by_video(compared: Compared) -> Iterator[tuple[str, Changes]]:
    """The videos of a range whose clips differ most."""
    a, b = compared.matched.a, compared.matched.b
    count = len(compared.videos)
    differ = sum(
        np.bincount(spans.video[of != SAME], minlength=count) for spans, of in ((compared.of_a, a), (compared.of_b, b))
    )
    for number in np.argsort(-np.asarray(differ), kind="stable")[:LISTED].tolist():
        of_a, of_b = a[compared.of_a.video == number], b[compared.of_b.video == number]
        if (changes := _changes(of_a, of_b)).different:
            yield compared.videos[number].as_py(), changes
