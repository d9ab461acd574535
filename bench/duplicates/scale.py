"""What finding copies costs by the size of the pyramid: all that grows with it, on generated signatures.

    sizes -> [Scale for each] -> the page's table, and what 100 million clips take on paper

A signature is near one of as many centres as there are two thousands of clips, so that every clip has thousands of
others that are somewhat like it, as shots of one kind have. Every hundredth clip sought is a planted copy of another,
half of them mirrored. What two pictures cost to be compared does not grow, and is measured on real shots (`__main__`).
"""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from curation.contract import LIKENESS
from curation.embed import signature
from curation.embed.likeness import COPY, NEAR
from curation.pyramid.commits import indexes
from curation.pyramid.similar import index, places
from curation.pyramid.similar.candidates import Candidates
from curation.pyramid.similar.places import Rule
from curation.pyramid.storage.datasets import of_space as vectors_of
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from curation.spaces import Space, embeddings_schema
from pipelines.duplicates import AT_ONCE, ROUND, lost

BY = "bench"
SPACE = Space("picture", signature.WIDTH, "generated signatures")
RULE = Rule(COPY, ("pixels",), BY)
_BATCH = 20_000
_SPREAD, _CHANGE = 1.1, 0.35
"""Noise beside a centre's length of one, and that of a copy beside its original's: 2 times their dot product is 0.9
within a centre, 1.9 for a copy."""
_SOUGHT = 400
_COPIES = 10
"""One of so many clips is a copy in what stands already."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a pyramid of `clips` takes. Milliseconds are of the processor, all threads."""

    clips: int
    index_s: float
    open_ms: float
    candidates_ms: float
    """A clip."""
    found: float
    """The share of planted copies whose original is among the candidates."""
    lost_ms: float
    """The look for groups that have lost their best, at the start of a run and at its end."""
    peak_mb: int


def measured(clips: int, seed: int = 0) -> Scale:
    """One size, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-duplicates-") as folder:
        data = _Data(clips, seed)
        pyramid, index_s = _build(Path(folder), data)
        made: list[Candidates] = []
        open_ms = _cpu_ms(lambda: made.append(Candidates(pyramid, SPACE, BY, NEAR)))
        hits, taken = 0, 0.0
        for start in range(0, _SOUGHT, AT_ONCE):
            names = [_name(data.copies + place) for place in range(start, start + AT_ONCE)]
            found: dict[str, list[str]] = {}
            taken += _cpu_ms(lambda names=names, found=found: found.update(made[0].of(names)))
            hits += sum(_name(data.original(place)) in found[name] for place, name in enumerate(names, start))
        lost_ms = _cpu_ms(lambda: lost(pyramid, RULE))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return Scale(clips, index_s, open_ms, taken / _SOUGHT, hits / _SOUGHT, lost_ms, peak)


class _Data:
    """Signatures, each batch a function of the seed: nothing large is held. The last `_SOUGHT` are copies."""

    def __init__(self, clips: int, seed: int) -> None:
        self.clips, self.copies, self._seed = clips, clips - _SOUGHT, seed
        rng = np.random.default_rng(seed)
        self._centres = _unit(rng.standard_normal((max(8, clips // 2000), signature.WIDTH), np.float32))

    def original(self, copy: int) -> int:
        """Of which clip a copy is."""
        return copy * (self.copies // _SOUGHT)

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of the first and the signatures (n, `signature.WIDTH`)."""
        kept: dict[int, np.ndarray] = {}
        wanted = {self.original(copy) for copy in range(_SOUGHT)}
        for start in range(0, self.copies, _BATCH):
            rng = np.random.default_rng((self._seed, start))
            size = min(_BATCH, self.copies - start)
            near = self._centres[rng.integers(0, len(self._centres), size)]
            found = _unit(near + _SPREAD * _unit(rng.standard_normal((size, signature.WIDTH), np.float32)))
            kept |= {start + row: found[row] for row in range(size) if start + row in wanted}
            yield start, found
        rng = np.random.default_rng((self._seed, self.copies))
        change = _CHANGE * _unit(rng.standard_normal((_SOUGHT, signature.WIDTH), np.float32))
        copies = _unit(np.stack([kept[self.original(copy)] for copy in range(_SOUGHT)]) + change)
        copies[::2] = signature.mirrored(copies[::2])
        yield self.copies, copies


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _name(place: int) -> str:
    """A clip of a video of its own."""
    return f"{place:012x}{place:020x}"


def _build(folder: Path, data: _Data) -> tuple[Pyramid, float]:
    """The pyramid with its indexes, and the seconds that the one of vectors took."""
    pyramid = Pyramid.create(folder / "pyramid", Tiers((Tier("all"),)), BY, scores=(LIKENESS,), spaces=(SPACE,))
    of_clips, of_space, space = pyramid.schema("clips"), embeddings_schema(SPACE), vectors_of(SPACE.name)

    def clips() -> Iterator[pa.RecordBatch]:
        for start in range(0, data.clips, _BATCH):
            yield _clips(range(start, min(start + _BATCH, data.clips)), of_clips)

    def vectors() -> Iterator[pa.RecordBatch]:
        for start, rows in data.batches():
            flat = pa.array(rows.astype(np.float16).ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, signature.WIDTH)
            many = len(rows)
            columns = [pa.array([_name(start + row) for row in range(many)]), pa.array([SPACE.name] * many)]
            yield pa.RecordBatch.from_arrays([*columns, pa.array([BY] * many), column], schema=of_space)

    for name, batches, schema in (("clips", clips(), of_clips), (space, vectors(), of_space)):
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        lance.write_dataset(reader, pyramid.dataset_uri(name), mode="append")
        indexes.create(pyramid, name, [one for one in indexes.wanted(pyramid, name) if one != index.COLUMN])
    began = time.perf_counter()
    if index.is_worth(pyramid.dataset(space)):
        index.make(pyramid.dataset(space))
    return pyramid, time.perf_counter() - began


def _clips(places_: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of clips of which some are copies of the clip before them."""
    names = [_name(place) for place in places_]
    is_copy = [place % _COPIES == 1 for place in places_]
    likeness = [2.0 if copy else 0.5 for copy in is_copy]
    best = [_name(place - 1) if copy else None for place, copy in zip(places_, is_copy, strict=True)]
    own: dict[str, Any] = {"clip_id": names, "video_id": names, LIKENESS: likeness, places.BEST: best}
    own |= {places.BY: [BY] * len(names), "width": [1280 - copy for copy in is_copy], "height": [720] * len(names)}
    columns = [
        pa.array(own[field.name], field.type) if field.name in own else pa.nulls(len(names), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cpu_ms(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return 1000 * (time.process_time() - begun)


def report(scales: Sequence[Scale], pictures_ms: float) -> Iterator[str]:
    """The page's table. `pictures_ms`: what a clip costs beside its candidates."""
    yield "Generated signatures, a copy planted for each clip that is sought, half of them mirrored; CPU-ms.\n"
    yield "| clips | index, s | opening | candidates, a clip | copies among them | lost groups, a look | peak, MB |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for one in scales:
        row = (f"{one.index_s:.0f}", f"{one.open_ms:.0f}", f"{one.candidates_ms:.1f}", f"{one.found:.3f}")
        yield f"| {one.clips:,} | {' | '.join(row)} | {one.lost_ms:.0f} | {one.peak_mb:,} |"
    last, clips = scales[-1], 100_000_000
    candidates_ms = last.candidates_ms * math.sqrt(clips / last.clips)
    hours = (candidates_ms + pictures_ms) * clips / 3.6e6
    yield (
        f"\nOn paper, 100 million clips: candidates {candidates_ms:.0f} CPU-ms a clip (a cell grows with the root of "
        f"the number), pictures {pictures_ms:.0f}: {hours:,.0f} CPU-hours in {clips // ROUND:,} rounds; signatures "
        f"{2 * signature.WIDTH * clips / 1e9:.0f} GB; a look for lost groups "
        f"{last.lost_ms * clips / last.clips / 1000:,.0f} CPU-s."
    )
