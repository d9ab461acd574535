"""Statistics of the clips of a query, in two passes over one version of them; memory is bounded however many there are.

    Query -> [first pass: counts, sketches of numbers, words] -> edges
          -> [second pass: histograms, texts of common captions] -> Stats

`ziggurat stats` shows what comes of it. The report's figures 3 and 4 are `aesthetic`, `duration_s`, `aspect_ratio`,
`caption_words` and `captions.words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curation.caption.cleaning import words_of
from curation.contract import Kind
from curation.inputs import uris
from curation.pyramid.history import census
from curation.pyramid.queries.makers import UNKNOWN
from curation.pyramid.queries.query import Query
from curation.stats import numbers, stop_words
from curation.stats.cluster_words import ClusterWords
from curation.stats.counting import Tally
from curation.stats.numbers import Histogram, Sketch
from curation.stats.report import Captions, Numbers, Repeated, Stats, Values

ASPECT, DURATION, LENGTH = "aspect_ratio", "duration_s", "caption_words"
"""Numbers of a clip beside its scores: height to width, as the report has it; seconds; words of its caption."""

SHOWN = 50
"""Values of a source, a maker or a cluster that are told one by one."""
WORDS = 200
COMMONEST = 20
LONGEST = 500
_PLACES = ("host", "folder")
_LATER = "not computed yet"
_READ = ("kind", "duration_s", "width", "height", "ended_by", "media", "media_why", "cluster")
_CAPTION = ("caption", "caption_by", "caption_why")


def gather(query: Query, tier: str | None = None, words: tuple[str, ...] = (), own: tuple[str, ...] = ()) -> Stats:
    """Look at the clips of `query`. `tier`, `words`: what it asks for, to be told; `own`: columns of a list by whose
    values clips are counted, too.
    """
    scores = query.pyramid.scores
    whys = tuple(f"{score}_why" for score in scores)
    pinned = query.columns(*_READ, *_CAPTION, *scores, *whys, "uri", *own).pinned()
    first = _First(scores, own)
    for batch in pinned.batches():
        first.add(batch)
    histograms = {
        name: Histogram.of(sketch, whole=name == LENGTH) for name, sketch in first.sketches.items() if sketch.count
    }
    if lengths := histograms.get(LENGTH):
        lengths.add(np.array([*first.lengths], np.float64), np.array([*first.lengths.values()], np.int64))
    second = _Second(scores, histograms, {key for key, count in first.texts.highest(COMMONEST) if count > 1})
    texts = ("caption",) if second.common else ()
    for batch in pinned.columns(DURATION, "width", "height", *texts, *scores).batches():
        second.add(batch)
    videos, reasons = census.apart(census.videos(query.pyramid))
    assert isinstance(pinned.version, int)
    return Stats(
        pyramid=query.pyramid.uri,
        version=pinned.version,
        tier=tier,
        query=words,
        caption_by=query.makers,
        clips=first.clips,
        hours=first.seconds / 3600,
        kinds=dict(first.kinds),
        numbers={name: first.told(name, histograms.get(name)) for name in first.sketches},
        captions=first.captions(second.found),
        sources={name: _values(tally) for name, tally in first.sources.items()},
        ended_by=_ordered(first.ended_by),
        not_cut=_ordered(first.not_cut),
        clusters=_values(first.clusters) if first.clusters.total else None,
        cluster_words=first.cluster_words(),
        cluster_words_are_exact=first.of_clusters.is_exact,
        videos=videos,
        reasons=reasons,
    )


class _First:
    """The first pass."""

    def __init__(self, scores: tuple[str, ...], own: tuple[str, ...]) -> None:
        self._scores = scores
        self.clips = 0
        self.seconds = 0.0
        self.kinds: Counter[str] = Counter()
        self.sketches = {name: Sketch() for name in (*scores, DURATION, ASPECT, LENGTH)}
        self.missing: dict[str, Counter[str]] = {name: Counter() for name in self.sketches}
        self._own = {name: name if name not in _PLACES else f"{name} (of a list)" for name in own}
        self.sources: dict[str, Tally[str]] = {name: Tally() for name in (*_PLACES, *self._own.values())}
        self.ended_by: Counter[str] = Counter()
        self.not_cut: Counter[str] = Counter()
        self.clusters: Tally[int] = Tally()
        self.texts: Tally[int] = Tally()
        self.lengths: Counter[int] = Counter()
        self._words: Tally[str] = Tally()
        self.of_clusters = ClusterWords()
        self._makers: Tally[str] = Tally()

    def add(self, batch: pa.RecordBatch) -> None:
        self.clips += batch.num_rows
        self.kinds.update(batch["kind"].to_pylist())
        self.seconds += float(pc.sum(batch["duration_s"]).as_py() or 0)  # type: ignore
        for name, values in _columns(batch, self._scores).items():
            self.sketches[name].add(values)
        for score in self._scores:
            self.missing[score].update(_whys(batch, score, f"{score}_why"))
        self._shapes(batch)
        self.not_cut.update(_whys(batch, "media", "media_why", "not cut yet"))
        self.ended_by.update(pc.drop_null(batch["ended_by"]).to_pylist())  # type: ignore
        self.clusters.add(pc.drop_null(batch["cluster"]).to_pylist())  # type: ignore
        self._captions(batch)
        self._sources(batch)

    def _shapes(self, batch: pa.RecordBatch) -> None:
        """Why there is no length, and no shape."""
        kinds = batch["kind"].to_pylist()
        lengths = batch["duration_s"].is_valid().to_pylist()
        for kind, there in zip(kinds, lengths, strict=True):
            if not there:
                self.missing[DURATION][str(kind) if kind == Kind.IMAGE else "no frame rate"] += 1
        if flat := batch.num_rows - _aspects(batch).size:
            self.missing[ASPECT]["no size"] += flat

    def _captions(self, batch: pa.RecordBatch) -> None:
        self.missing[LENGTH].update(_whys(batch, "caption", "caption_why", "no caption"))
        lengths: list[int] = []
        captioned = batch.filter(batch["caption"].is_valid())
        for text, cluster in zip(captioned["caption"].to_pylist(), captioned["cluster"].to_pylist(), strict=True):
            words = list(words_of(text))
            lengths.append(len(words))
            self._words.add(words)
            self.of_clusters.add(cluster, words)
            self.texts.add((_key(text),))
        self._makers.add(by or UNKNOWN for by in captioned["caption_by"].to_pylist())
        self.lengths.update(lengths)
        self.sketches[LENGTH].add(np.array(lengths, np.float64))

    def _sources(self, batch: pa.RecordBatch) -> None:
        for uri in batch["uri"].to_pylist():
            host, folder = _place(uri)
            self.sources["host"].add((host,))
            self.sources["folder"].add((folder,))
        for name, told in self._own.items():
            self.sources[told].add("null" if value is None else str(value) for value in batch[name].to_pylist())

    def told(self, name: str, histogram: Histogram | None) -> Numbers:
        """A distribution; `histogram`: of the second pass, None where there is no value."""
        sketch, missing = self.sketches[name], _ordered(self.missing[name])
        if histogram is None:
            return Numbers(0, missing)
        quantiles = {
            f"{share:g}": found for share in numbers.QUANTILES if (found := sketch.quantile(share)) is not None
        }
        return Numbers(
            sketch.count,
            missing,
            sketch.least,
            sketch.most,
            sketch.mean,
            quantiles,
            tuple(histogram.edges.tolist()),
            tuple(histogram.counts.tolist()),
            histogram.below,
            histogram.above,
        )

    def cluster_words(self) -> dict[str, tuple[str, ...]]:
        """Of the clusters that are told."""
        told = self.of_clusters.typical(cluster for cluster, _ in self.clusters.highest(SHOWN))
        return {str(cluster): words for cluster, words in told.items() if words}

    def captions(self, found: Mapping[int, str]) -> Captions:
        """`found`: the texts of the commonest captions."""
        texts, alike = self.texts.repeated()
        commonest = [(key, count) for key, count in self.texts.highest(COMMONEST) if key in found]
        return Captions(
            clips=self.sketches[LENGTH].count,
            missing=_ordered(self.missing[LENGTH]),
            by=_values(self._makers),
            texts=texts,
            clips_alike=alike,
            commonest=tuple(Repeated(found[key][:LONGEST], count) for key, count in commonest),
            equal_are_exact=self.texts.is_exact,
            words=dict(self._words.highest(WORDS, stop_words.tells)),
            words_are_exact=self._words.is_exact,
        )


@dataclass(slots=True)
class _Second:
    """The second pass: counts between the edges that the first one gave, and the texts that it found to be common."""

    scores: tuple[str, ...]
    histograms: Mapping[str, Histogram]
    common: set[int]
    found: dict[int, str] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        for name, values in _columns(batch, self.scores).items():
            if name in self.histograms:
                self.histograms[name].add(values)
        if len(self.found) < len(self.common):
            for text in pc.drop_null(batch["caption"]).to_pylist():  # type: ignore
                if (key := _key(text)) in self.common:
                    self.found.setdefault(key, text)


def _columns(batch: pa.RecordBatch, scores: tuple[str, ...]) -> dict[str, numbers.Numbers]:
    """The finite numbers of a batch, by column."""
    found = {name: _finite(batch[name]) for name in (*scores, DURATION)}
    return {**found, ASPECT: _aspects(batch)}


def _finite(column: pa.Array) -> numbers.Numbers:
    values = pc.drop_null(column).to_numpy(zero_copy_only=False).astype(np.float64)  # type: ignore
    return values[np.isfinite(values)]


def _aspects(batch: pa.RecordBatch) -> numbers.Numbers:
    """Height to width."""
    width, height = (batch[name].fill_null(0).to_numpy(zero_copy_only=False) for name in ("width", "height"))
    there = (width > 0) & (height > 0)
    return height[there] / width[there]


def _whys(batch: pa.RecordBatch, column: str, why: str, unsaid: str = _LATER) -> Iterator[str]:
    """Of the clips without a value the kind of reason, without its detail."""
    for text in batch[why].filter(batch[column].is_null()).to_pylist():
        yield text.partition(":")[0] if text else unsaid


def _key(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _place(uri: str | None) -> tuple[str, str]:
    """The store that a video comes from, and the folder there."""
    if uri is None:
        return "unknown", "unknown"
    local = uris.local_path(uri)
    if local is not None:
        return "local files", local.rpartition("/")[0].encode("utf-8", "replace").decode() or "/"
    folder = uri.partition("?")[0].rpartition("/")[0]
    return "/".join(folder.split("/")[:3]), folder


def _values(tally: Tally[str] | Tally[int]) -> Values:
    shown = tally.highest(SHOWN)
    return Values(
        {str(value): count for value, count in shown},
        tally.total - sum(count for _, count in shown),
        tally.is_exact,
    )


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
