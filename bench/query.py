"""Times queries on a generated pyramid, with DuckDB on Parquet files of the same rows beside them.

    python -m bench.query --rows 10000000

Scores are independent of the order of the rows: the worst case for statistics of pages and row groups. What
is built is what `ziggurat upkeep` builds. Every query is timed many times; the table shows the median and the
worst.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.contract import CLIPS
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers

_BATCH = 100_000
CASES: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "none (0)": {"motion": (50, None), "text_area": (0.9, 1.0), "aesthetic": (9.5, None)},
    "narrow (0.001 %)": {"motion": (2, 20), "text_area": (0, 0.1), "aesthetic": (7.8, None)},
    "three rare (2.5 % each)": {"motion": (15.9, None), "text_area": (0.28, None), "aesthetic": (6.27, None)},
    "selective (0.1 %)": {"motion": (2, 20), "text_area": (0, 0.1), "aesthetic": (6.9, None)},
    "strict (4 %)": {"motion": (2, 20), "text_area": (0, 0.1), "aesthetic": (5.9, None)},
    "wide (27 %)": {"motion": (2, 20), "text_area": (0, 0.1), "aesthetic": (4.9, None)},
    "widest (96 %)": {"motion": (0.1, 100), "text_area": (0, 0.5), "aesthetic": (3.5, None)},
}
"""Three ranges each, as a tier has them; the share of all rows that they keep."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one kind of query in one case."""

    case: str
    kind: str
    rows: int
    ours_median: float
    ours_worst: float
    duckdb_median: float
    duckdb_worst: float


def batches(rows: int, seed: int) -> Iterator[pa.RecordBatch]:
    """`rows` clips of CLIPS in batches; columns that no query reads are null."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, _BATCH):
        size = min(_BATCH, rows - start)
        ids = rng.bytes(16 * size).hex()
        scores = {
            "motion": rng.lognormal(1.2, 0.8, size),
            "sharpness": rng.lognormal(5, 1, size),
            "jitter": rng.lognormal(0.5, 0.7, size),
            "text_area": rng.beta(0.6, 8, size),
            "aesthetic": rng.normal(4.9, 0.7, size),
        }
        columns: dict[str, pa.Array] = {
            "clip_id": pa.array([ids[i : i + 32] for i in range(0, 32 * size, 32)]),
            "video_id": pa.array([f"{(start + i) // 20:032x}" for i in range(size)]),
            "start_s": pa.array(rng.uniform(0, 600, size)),
            "width": pa.array(np.full(size, 1280, np.int32)),
            "height": pa.array(np.full(size, 720, np.int32)),
        }
        columns["end_s"] = pa.array(columns["start_s"].to_numpy() + rng.uniform(2, 8, size))
        missing = rng.random(size) < 0.02
        for name, values in scores.items():
            columns[name] = pa.array(values.astype(np.float32), mask=missing if name == "aesthetic" else None)
            columns[f"{name}_by"] = pa.array(np.full(size, f"{name}-1-00000000"))
        yield pa.RecordBatch.from_arrays(
            [columns[f.name] if f.name in columns else pa.nulls(size, f.type) for f in CLIPS], schema=CLIPS
        )


def build(folder: Path, rows: int, seed: int) -> tuple[Pyramid, str]:
    """The pyramid and the Parquet file, written batch by batch and read by nobody else."""
    import lance

    from curation.pyramid.lifecycle.upkeep import upkeep

    pyramid = Pyramid.create(folder / "pyramid", Tiers((Tier("all"),)), "bench")
    reader = pa.RecordBatchReader.from_batches(CLIPS, batches(rows, seed))
    lance.write_dataset(reader, pyramid.dataset_uri("clips"), mode="append")
    upkeep(pyramid)
    parquet = str(folder / "clips.parquet")
    kept = [name for name in CLIPS.names if name not in ("laplacian", "crop")]
    with pq.ParquetWriter(parquet, pa.schema([CLIPS.field(name) for name in kept])) as writer:
        for batch in batches(rows, seed):
            writer.write_batch(batch.select(kept))
    return pyramid, parquet


def timed(action: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """(median, worst) milliseconds of `repeats` runs after one to warm up, and the result."""
    result = action()
    taken: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken), max(taken), result


def measure(pyramid: Pyramid, parquet: str, repeats: int) -> Iterator[Timing]:
    shown = ("clip_id", "video_id", "start_s", "end_s", "motion", "text_area", "aesthetic")
    db = duckdb.connect()
    db.execute(f"set threads = {os.cpu_count() or 1}")
    for case, bounds in CASES.items():
        ranges = {column: Range.of(pair) for column, pair in bounds.items()}
        ours = pyramid.query().ranges(ranges).columns(*shown)
        tests = [
            f"{column} {operator} {end}"
            for column, pair in bounds.items()
            for operator, end in zip((">=", "<="), pair, strict=True)
            if end is not None
        ]
        rest = f"from '{parquet}' where {' and '.join(tests)}"
        pairs: dict[str, tuple[Query, str]] = {
            "first 100": (ours.limit(100), f"select {', '.join(shown)} {rest} limit 100"),
            "count": (ours, f"select count(*) {rest}"),
            "best 100": (
                ours.order("aesthetic", descending=True).limit(100),
                f"select {', '.join(shown)} {rest} order by aesthetic desc limit 100",
            ),
        }
        for kind, (query, sql) in pairs.items():
            run = query.count if kind == "count" else query.to_table
            median, worst, result = timed(run, repeats)
            other, other_worst, theirs = timed(lambda sql=sql: db.execute(sql).fetchall(), max(3, repeats // 4))
            expected = theirs[0][0] if kind == "count" else len(theirs)
            found = result if kind == "count" else result.num_rows
            assert found == expected, (case, kind, found, expected)
            yield Timing(case, kind, found, median, worst, other, other_worst)


def markdown(timings: list[Timing], rows: int) -> str:
    lines = [
        f"{rows:,} clips, {os.cpu_count()} CPUs, milliseconds: median / worst",
        "",
        "| three ranges keep | query | rows | ziggurat | DuckDB, Parquet |",
        "|---|---|---:|---:|---:|",
    ]
    for t in timings:
        ours, other = (
            f"{median:.1f} / {worst:.1f}"
            for median, worst in ((t.ours_median, t.ours_worst), (t.duckdb_median, t.duckdb_worst))
        )
        lines.append(f"| {t.case} | {t.kind} | {t.rows:,} | {ours} | {other} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="keep the data here and use it again (default: a temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        start = time.perf_counter()
        if (folder / "clips.parquet").exists():
            pyramid, parquet = Pyramid.open(folder / "pyramid"), str(folder / "clips.parquet")
        else:
            pyramid, parquet = build(folder, options.rows, options.seed)
        print(f"data ready after {time.perf_counter() - start:.0f} s", file=sys.stderr)
        timings = list(measure(pyramid, parquet, options.repeats))
    print(markdown(timings, options.rows))
    if options.json:
        figures = {"rows": options.rows, "cpus": os.cpu_count(), "timings": [asdict(t) for t in timings]}
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
