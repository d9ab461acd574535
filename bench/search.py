"""Times searches on a generated pyramid: recall@10 and latency, with and without ranges, beside faiss and LanceDB.

    python -m bench.search --vectors 1000000

Vectors of 768 numbers, float16, around as many centres as there are topics, and each search is for a vector near one of
them. Ranges are independent of the vectors. Recall is counted against comparing all vectors that pass, in float32.
faiss has the same number of cells and opens as many; LanceDB keeps ranges and vectors in one table. What is not
installed here is "not measured".
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.contract import CLIP_SPACE, CLIPS, embeddings_schema
from curation.pyramid.commits import indexes
from curation.pyramid.lifecycle.upkeep import measure as measure_scores
from curation.pyramid.similar import index, nearest
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers

WIDTH, BY, NAME = CLIP_SPACE.width, "bench", "embeddings/clip"
TOP = 10
SHARES = {"no range": 0.0, "50 %": 50.0, "1 %": 99.0}
"""Ranges by the share of clips that they keep: `motion` from here on, of 0 to 100."""
_BATCH = 20_000
_SPREAD = 1.2


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one way to search under one range: recall@10, and milliseconds."""

    way: str
    case: str
    recall: float
    median: float
    worst: float


class Data:
    """Vectors, scores and what is sought, each batch a function of the seed: nothing large is held."""

    def __init__(self, many: int, seed: int) -> None:
        self.many, self.seed = many, seed
        self.centres = np.random.default_rng(seed).normal(size=(max(16, many // 2000), WIDTH)).astype(np.float32)

    def batch(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (n, 768) float16 of unit length, and motion (n,) float32, from clip `start` on."""
        rng = np.random.default_rng((self.seed, start))
        size = min(_BATCH, self.many - start)
        chosen = self.centres[rng.integers(0, len(self.centres), size)]
        found = chosen + _SPREAD * rng.standard_normal((size, WIDTH), np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found.astype(np.float16), rng.uniform(0, 100, size).astype(np.float32)

    def starts(self) -> range:
        return range(0, self.many, _BATCH)

    def sought(self, many: int) -> np.ndarray:
        """What is searched for: (many, 768) float32, near vectors that are there."""
        rng = np.random.default_rng(self.seed + 1)
        near = np.concatenate([self.batch(start)[0][:many] for start in self.starts()[:2]]).astype(np.float32)
        found = near[rng.permutation(len(near))[:many]] + 0.02 * rng.standard_normal((many, WIDTH), np.float32)
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def truth(data: Data, sought: np.ndarray) -> dict[str, list[set[str]]]:
    """The ten nearest of all that pass, for each range and each vector sought."""
    best = {case: (np.full((len(sought), TOP), -2.0), np.zeros((len(sought), TOP), np.int64)) for case in SHARES}
    for start in data.starts():
        vectors, motion = data.batch(start)
        cosines = sought @ vectors.astype(np.float32).T
        for case, low in SHARES.items():
            passing = np.flatnonzero(motion >= low)
            values = np.concatenate([best[case][0], cosines[:, passing]], axis=1)
            places = np.concatenate([best[case][1], np.tile(start + passing, (len(sought), 1))], axis=1)
            order = np.argsort(-values, axis=1)[:, :TOP]
            best[case] = np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)
    return {case: [{_name(place) for place in row} for row in places] for case, (_, places) in best.items()}


def _name(place: int) -> str:
    return f"{place // 20:012x}{place:020x}"


def build(folder: Path, data: Data) -> tuple[Pyramid, float]:
    """The pyramid with all its indexes, and the seconds that the one of vectors took."""
    import lance

    pyramid = Pyramid.create(folder / "pyramid", Tiers((Tier("all"),)), "bench")

    def clips() -> Iterator[pa.RecordBatch]:
        for start in data.starts():
            _, motion = data.batch(start)
            names = [_name(start + place) for place in range(len(motion))]
            own = {"clip_id": pa.array(names), "video_id": pa.array([name[:12] for name in names])}
            own |= {"motion": pa.array(motion)}
            yield pa.RecordBatch.from_arrays(
                [own.get(f.name, pa.nulls(len(names), f.type)) for f in CLIPS], schema=CLIPS
            )

    schema = embeddings_schema(CLIP_SPACE)

    def vectors() -> Iterator[pa.RecordBatch]:
        for start in data.starts():
            found, _ = data.batch(start)
            many = len(found)
            column = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), WIDTH)
            names = pa.array([_name(start + place) for place in range(many)])
            yield pa.RecordBatch.from_arrays(
                [names, pa.array([CLIP_SPACE.name] * many), pa.array([BY] * many), column], schema=schema
            )

    for name, batches, kind in (("clips", clips(), CLIPS), (NAME, vectors(), schema)):
        reader = pa.RecordBatchReader.from_batches(kind, batches)
        lance.write_dataset(reader, pyramid.dataset_uri(name), mode="append")
        indexes.create(pyramid, name, [one for one in indexes.wanted(pyramid, name) if one != index.COLUMN])
    measure_scores(pyramid)
    began = time.perf_counter()
    index.make(pyramid.dataset(NAME))
    return pyramid, time.perf_counter() - began


def ours(pyramid: Pyramid, worth: float | None) -> Callable[[np.ndarray, float], set[str]]:
    """The search of Ziggurat. `worth`: in the place of `nearest.WORTH`, by which it chooses which comes first."""

    def search(vector: np.ndarray, low: float) -> set[str]:
        before = nearest.WORTH, nearest.FEW
        if worth is not None:
            nearest.WORTH, nearest.FEW = worth, pyramid.dataset(NAME).count_rows()
        try:
            query = pyramid.query().where(motion=(low, None)) if low else pyramid.query()
            return set(nearest.nearest(query, CLIP_SPACE, BY, vector, TOP).similar)
        finally:
            nearest.WORTH, nearest.FEW = before

    return search


def faiss(data: Data) -> tuple[Callable[[np.ndarray, float], set[str]], float]:
    """faiss: cells of bytes, as many and as many opened; ranges as its selector of ids."""
    library: Any = importlib.import_module("faiss")
    flat = library.IndexFlatIP(WIDTH)
    cells = index.cells(data.many)
    made = library.IndexIVFScalarQuantizer(
        flat, WIDTH, cells, library.ScalarQuantizer.QT_8bit, library.METRIC_INNER_PRODUCT
    )
    began = time.perf_counter()
    some = data.starts()[:: max(1, len(data.starts()) * _BATCH // (64 * cells))]
    made.train(np.concatenate([data.batch(start)[0] for start in some]).astype(np.float32))
    motions: list[np.ndarray] = []
    for start in data.starts():
        vectors, motion = data.batch(start)
        made.add(vectors.astype(np.float32))
        motions.append(motion)
    took = time.perf_counter() - began
    passing = {low: np.flatnonzero(np.concatenate(motions) >= low).astype(np.int64) for low in SHARES.values()}
    chosen = {low: library.IDSelectorBatch(ids) for low, ids in passing.items() if low}

    def search(vector: np.ndarray, low: float) -> set[str]:
        wanted = library.SearchParametersIVF(
            nprobe=index.opened(data.many, TOP),  # pyright: ignore[reportCallIssue]
            **({"sel": chosen[low]} if low else {}),
        )
        return {_name(int(place)) for place in made.search(vector[None], TOP, params=wanted)[1][0] if place >= 0}

    return search, took


def lancedb(folder: Path, data: Data) -> tuple[Callable[[np.ndarray, float], set[str]], float]:
    """LanceDB as its own documents have it: one table, its default index of vectors, its filter before the search."""
    library: Any = importlib.import_module("lancedb")
    schema = pa.schema([("clip_id", pa.string()), ("motion", pa.float32()), ("vector", pa.list_(pa.float32(), WIDTH))])

    def rows() -> Iterator[pa.RecordBatch]:
        for start in data.starts():
            vectors, motion = data.batch(start)
            names = pa.array([_name(start + place) for place in range(len(motion))])
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), WIDTH)
            yield pa.RecordBatch.from_arrays([names, pa.array(motion), column], schema=schema)

    table = library.connect(str(folder / "lancedb")).create_table("clips", rows(), schema=schema)
    began = time.perf_counter()
    table.create_index(metric="cosine", vector_column_name="vector")
    table.create_scalar_index("motion")
    took = time.perf_counter() - began

    def search(vector: np.ndarray, low: float) -> set[str]:
        asked = (
            table.search(vector)
            .distance_type("cosine")
            .nprobes(index.opened(data.many, TOP))
            .refine_factor(10)
            .limit(TOP)
        )
        asked = asked.where(f"motion >= {float(low)}", prefilter=True) if low else asked
        return set(asked.select(["clip_id"]).to_arrow()["clip_id"].to_pylist())

    return search, took


def timed(
    way: str, search: Callable[[np.ndarray, float], set[str]], sought: np.ndarray, wanted: dict[str, list[set[str]]]
) -> Iterator[Timing]:
    for case, low in SHARES.items():
        search(sought[0], low)
        taken, recalls = [], []
        for vector, right in zip(sought, wanted[case], strict=True):
            began = time.perf_counter()
            found = search(vector, low)
            taken.append(1000 * (time.perf_counter() - began))
            recalls.append(len(found & right) / TOP)
        yield Timing(way, case, statistics.mean(recalls), statistics.median(taken), max(taken))


def measured(data: Data, searches: int) -> Iterator[tuple[str, float | None, list[Timing]]]:
    """Each way to search: its name, the seconds that its index took, and its timings; None where it is not here."""
    sought = data.sought(searches)
    wanted = truth(data, sought)
    with tempfile.TemporaryDirectory(prefix="bench-search-") as name:
        folder = Path(name)
        pyramid, took = build(folder, data)
        yield "ziggurat", took, list(timed("ziggurat", ours(pyramid, None), sought, wanted))
        for way, worth in (("nearest first", math.inf), ("ranges first", 0.0)):
            yield f"ziggurat, {way}", None, list(timed(way, ours(pyramid, worth), sought, wanted))
        for other, make in (("faiss", lambda: faiss(data)), ("lancedb", lambda: lancedb(folder, data))):
            if importlib.util.find_spec(other) is None:
                yield other, None, []
                continue
            search, took = make()
            yield other, took, list(timed(other, search, sought, wanted))


def tables(data: Data, searches: int, found: list[tuple[str, float | None, list[Timing]]]) -> str:
    cases = list(SHARES)
    lines = [
        f"{data.many:,} vectors of {WIDTH} numbers, {searches} searches for the {TOP} nearest: recall@{TOP} and",
        "milliseconds (median, worst) without a range, and where ranges keep 50 % and 1 % of the clips.",
        "",
        f"| way | index, s | {' | '.join(cases)} |",
        f"|---|---:|{'---:|' * len(cases)}",
    ]
    for way, took, timings in found:
        shown = [f"{one.recall:.3f}, {one.median:.0f} ({one.worst:.0f})" for one in timings]
        cells = shown or ["not measured"] * len(cases)
        lines.append(f"| {way} | {'' if took is None else f'{took:.0f}'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.search")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()
    data = Data(options.vectors, options.seed)
    found: list[tuple[str, float | None, list[Timing]]] = []
    for one in measured(data, options.searches):
        print(f"{one[0]}: {one[1]} s, {one[2]}", file=sys.stderr, flush=True)
        found.append(one)
    print(tables(data, options.searches, found))
    if options.json is not None:
        figures: list[dict[str, Any]] = [
            {"way": way, "index_s": took, "timings": [asdict(one) for one in timings]} for way, took, timings in found
        ]
        options.json.write_text(json.dumps({"cpus": os.cpu_count(), "vectors": data.many, "ways": figures}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
