"""What a pyramid's size costs a run: CPU of a commit, a window's search, a session's first query and a start.

    python -m bench.growth --rows 10000 1000000 [10000000]

Each size is a generated pyramid, indexed as `ziggurat upkeep` leaves it. The figures are CPU-milliseconds of the whole
process, its threads with it, and the ratio to the smallest size. A commit is the mean of two rounds of the tail's
upkeep, which comes every 32 versions, so that it is in the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import growth_data as data
from bench.growth_paper import paper
from bench.meter import cpu_model
from curation.contract import FRAME_SCORES
from curation.pyramid import tail
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.ledger import Ledger
from curation.pyramid.store import NAMES, Pyramid

VIDEOS = 10
"""New videos of a commit, five clips each; so many old ones whose clips get a score."""
_ROUNDS = 2
_REPEATS = 8
_WINDOW = 1000
"""Sources that a start looks up, half of them known."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU-milliseconds of one kind of work in a pyramid of `rows` clips."""

    work: str
    rows: int
    mean: float
    median: float
    worst: float

    @classmethod
    def of(cls, work: str, rows: int, taken: list[float]) -> Cost:
        return cls(work, rows, statistics.fmean(taken), statistics.median(taken), max(taken))


def cpu_ms(action: Callable[[], Any]) -> float:
    """CPU of this process while `action` runs."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    action()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(pyramid: Pyramid, rows: int, seed: int) -> Iterator[Cost]:
    """Everything in the order of a run; what is written stays, and is a few thousand clips."""
    rng = np.random.default_rng(seed)
    yield Cost.of(ONCE, rows, [cpu_ms(lambda: _start(pyramid, rng, rows)) + cpu_ms(lambda: _unscored(pyramid))])
    yield Cost.of("start of a run", rows, [cpu_ms(_start_of(pyramid, rng, rows)) for _ in range(_REPEATS)])
    yield Cost.of("first query of a session", rows, [cpu_ms(_query_of(pyramid, rng, rows)) for _ in range(_REPEATS)])
    commits, searches = _windows(pyramid)
    yield Cost.of("commit of 50 new clips, all four datasets", rows, commits)
    yield Cost.of("a window's search for a missing score", rows, searches)
    last = rows // data.CLIPS_A_VIDEO - VIDEOS
    places = [int(rng.integers(0, last)) for _ in range(tail.EVERY)]
    near = [range(place, place + VIDEOS) for place in places]
    yield Cost.of("commit of scores of 50 old clips, as a search finds them", rows, _scores(pyramid, near))
    far = [rng.integers(0, last, VIDEOS).tolist() for _ in range(tail.EVERY)]
    yield Cost.of("commit of scores of 50 old clips of 10 videos anywhere", rows, _scores(pyramid, far))


ONCE = "once after an upkeep: the first start and search"


def _windows(pyramid: Pyramid) -> tuple[list[float], list[float]]:
    """CPU of commits of new clips, and of the searches for what they lack, each after four commits."""
    committer, first = Committer(pyramid), _next_video(pyramid)
    commits: list[float] = []
    searches: list[float] = []
    for number in range(_ROUNDS * tail.EVERY):
        batch = data.fresh(pyramid, range(first + VIDEOS * number, first + VIDEOS * (number + 1)))
        commits.append(cpu_ms(lambda batch=batch: committer.commit(batch)))
        if number % 4 == 3:  # a window: what is found is scored, and then nothing is left
            ids: list[str] = []
            searches.append(cpu_ms(lambda ids=ids: ids.extend(_unscored(pyramid))))
            assert ids, "a search that finds nothing measures nothing"
            committer.commit(Batch(clip_updates=[data.scored(ids)]))
    return commits, searches


def _scores(pyramid: Pyramid, videos: Iterable[Iterable[int]]) -> list[float]:
    """CPU of one commit for each group of old videos, of a score of all their clips."""
    committer = Committer(pyramid)
    batches = [Batch(clip_updates=[data.scored(list(data.clips_of(some)))]) for some in videos]
    return [cpu_ms(lambda batch=batch: committer.commit(batch)) for batch in batches]


def _next_video(pyramid: Pyramid) -> int:
    """The number of the first video that the pyramid lacks: they are numbered from 0 and none is removed."""
    return pyramid.dataset("videos").count_rows()


def _unscored(pyramid: Pyramid) -> list[str]:
    batches = Ledger(pyramid, remember=True).stale_clips("aesthetic", data.BY["aesthetic"], data.TIERS, "moving")
    return [clip_id for batch in batches for clip_id in batch["clip_id"].to_pylist()]


def _session(pyramid: Pyramid) -> Pyramid:
    """The same pyramid with nothing in its memory."""
    return Pyramid(pyramid.uri, pyramid.about, pyramid.storage_options)


def _start(pyramid: Pyramid, rng: np.random.Generator, rows: int) -> None:
    _start_of(pyramid, rng, rows)()


def _start_of(pyramid: Pyramid, rng: np.random.Generator, rows: int) -> Callable[[], None]:
    """What a run asks of the ledger before its first window, and the names of that window."""
    known = [data.source(int(number)) for number in rng.integers(0, rows // data.CLIPS_A_VIDEO, _WINDOW // 2)]
    unknown = [data.source(10**8 + number) for number in range(_WINDOW // 2)]
    session = _session(pyramid)

    def start() -> None:
        ledger = Ledger(session, remember=True)
        assert ledger.settled([*known, *unknown], data.PLAN) == set(known)
        assert not list(ledger.stale_videos({score: data.BY[score] for score in FRAME_SCORES}))

    return start


def _query_of(pyramid: Pyramid, rng: np.random.Generator, rows: int) -> Callable[[], None]:
    """The clips of one video, and the first hundred of a tier."""
    video_id = data.video_id(int(rng.integers(0, rows // data.CLIPS_A_VIDEO)))
    session = _session(pyramid)

    def query() -> None:
        assert session.where(video_id=video_id).to_table().num_rows == data.CLIPS_A_VIDEO
        assert session.tier("fair").limit(100).to_table().num_rows == 100

    return query


def markdown(costs: list[Cost]) -> str:
    """One row for each kind of work, a pair of columns for each size."""
    sizes = sorted({cost.rows for cost in costs})
    by_place = {(cost.work, cost.rows): cost for cost in costs}
    head = [f"{rows:,} clips" for rows in sizes] + [f"{rows:,} / {sizes[0]:,}" for rows in sizes[1:]]
    lines = [
        f"{cpu_model()}, {os.cpu_count()} processors; CPU-milliseconds, mean (median).",
        "",
        f"| work | {' | '.join(head)} |",
        "|---|" + "---:|" * len(head),
    ]
    for work in dict.fromkeys(cost.work for cost in costs):
        row = [by_place[work, rows] for rows in sizes]
        figures = [f"{cost.mean:.1f} ({cost.median:.1f})" for cost in row]
        ratios = [f"{cost.mean / row[0].mean:.2f}" for cost in row[1:]]
        lines.append(f"| {work} | {' | '.join([*figures, *ratios])} |")
    return "\n".join(lines)


def sizes(pyramid: Pyramid) -> dict[str, dict[str, int]]:
    """Of each dataset on a local disk: bytes of rows and of indexes, files, versions."""
    found: dict[str, dict[str, int]] = {}
    for name in NAMES:
        files = [path for path in Path(pyramid.dataset_uri(name)).rglob("*") if path.is_file()]
        inside = {path: path.relative_to(pyramid.dataset_uri(name)).parts[0] for path in files}
        found[name] = {
            "rows": pyramid.dataset(name).count_rows(),
            "data_bytes": sum(path.stat().st_size for path, part in inside.items() if part == "data"),
            "index_bytes": sum(path.stat().st_size for path, part in inside.items() if part == "_indices"),
            "files": len(files),
            "versions": pyramid.dataset(name).version,
        }
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the pyramids here and use them again")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    costs: list[Cost] = []
    places: dict[int, dict[str, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for rows in sorted(options.rows):
            begun = time.perf_counter()
            pyramid = data.build((options.folder or Path(temporary)) / str(rows), rows)
            print(f"{rows:,} clips are there after {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            costs += measure(pyramid, rows, options.seed)
            places[rows] = sizes(pyramid)
    print(markdown(costs))
    if len(places) > 1:
        by_work = {
            work: {c.rows: c.mean for c in costs if c.work == work} for work in dict.fromkeys(c.work for c in costs)
        }
        print("\n" + paper({work: found for work, found in by_work.items() if work != ONCE}, places))
    if options.json:
        figures = {"cpu": cpu_model(), "costs": [asdict(cost) for cost in costs], "sizes": places}
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
