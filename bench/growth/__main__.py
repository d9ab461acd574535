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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.growth import data
from bench.growth.paper import paper
from bench.meter import cpu_model
from curation.filters.table import FRAME_SCORES
from curation.pyramid.commits import tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid

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


class Subject:
    """A pyramid under measurement. What is written to it stays, and is a few thousand clips."""

    def __init__(self, pyramid: Pyramid, rows: int, seed: int) -> None:
        self.pyramid, self.rows = pyramid, rows
        self.taken: dict[str, list[float]] = {}
        self._rng = np.random.default_rng(seed)
        self._committer, self._next = Committer(pyramid), pyramid.dataset("videos").count_rows()

    def costs(self) -> list[Cost]:
        return [Cost.of(work, self.rows, taken) for work, taken in self.taken.items()]

    def _time(self, work: str, action: Callable[[], Any]) -> None:
        self.taken.setdefault(work, []).append(cpu_ms(action))

    def once(self) -> None:
        start = _start_of(self.pyramid, self._rng, self.rows)
        self._time(ONCE, lambda: (start(), _unscored(self.pyramid)))

    def start(self) -> None:
        self._time("start of a run", _start_of(self.pyramid, self._rng, self.rows))

    def query(self) -> None:
        self._time("first query of a session", _query_of(self.pyramid, self._rng, self.rows))

    def window(self) -> None:
        """Four commits of new clips, then the search for what they lack; it is scored, and then nothing is left."""
        for _ in range(4):
            batch = data.fresh(self.pyramid, range(self._next, self._next + VIDEOS))
            self._next += VIDEOS
            self._time("commit of 50 new clips, all four datasets", lambda batch=batch: self._committer.commit(batch))
        ids: list[str] = []
        self._time("a window's search for a missing score", lambda: ids.extend(_unscored(self.pyramid)))
        assert ids, "a search that finds nothing measures nothing"
        self._committer.commit(Batch(clip_updates=[data.scored(ids)]))

    def scores(self) -> None:
        """A score for old clips: of ten videos side by side, and of ten anywhere."""
        last = self.rows // data.CLIPS_A_VIDEO - VIDEOS
        first = int(self._rng.integers(0, last))
        self._score("as a search finds them", range(first, first + VIDEOS))
        self._score("of 10 videos anywhere", self._rng.integers(0, last, VIDEOS).tolist())

    def _score(self, which: str, videos: Iterable[int]) -> None:
        batch = Batch(clip_updates=[data.scored(list(data.clips_of(videos)))])
        self._time(f"commit of scores of 50 old clips, {which}", lambda: self._committer.commit(batch))


def measure(subjects: Sequence[Subject]) -> list[Cost]:
    """All kinds of work in turn, one size after the other each time: a machine that others load is as slow for each."""
    works = [(Subject.once, 1), (Subject.start, _REPEATS), (Subject.query, _REPEATS)]
    works += [(Subject.window, _ROUNDS * tail.EVERY // 4), (Subject.scores, tail.EVERY)]
    for work, times in works:
        for _ in range(times):
            for subject in subjects:
                work(subject)
    return [cost for subject in subjects for cost in subject.costs()]


ONCE = "once: the first start and search of all"


def _unscored(pyramid: Pyramid) -> list[str]:
    batches = Ledger(pyramid, remember=True).stale_clips("aesthetic", data.BY["aesthetic"], data.TIERS, "moving")
    return [clip_id for batch in batches for clip_id in batch["clip_id"].to_pylist()]


def _session(pyramid: Pyramid) -> Pyramid:
    """The same pyramid with nothing in its memory."""
    return Pyramid(pyramid.uri, pyramid.about, pyramid.storage_options)


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
    """Of each dataset: rows, bytes of them and of their indexes (of the latest version), versions."""
    found: dict[str, dict[str, int]] = {}
    for name in pyramid.names:
        dataset = pyramid.dataset(name)
        files = [file for fragment in dataset.get_fragments() for file in fragment.metadata.files]
        found[name] = {
            "rows": dataset.count_rows(),
            "data_bytes": sum(file.file_size_bytes or 0 for file in files),
            "index_bytes": sum(index.total_size_bytes or 0 for index in dataset.describe_indices()),
            "versions": dataset.version,
        }
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the pyramids here and use them again")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        subjects: list[Subject] = []
        for rows in sorted(options.rows):
            begun = time.perf_counter()
            pyramid = data.build((options.folder or Path(temporary)) / str(rows), rows)
            print(f"{rows:,} clips are there after {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            subjects.append(Subject(pyramid, rows, options.seed))
        costs = measure(subjects)
        places = {subject.rows: sizes(subject.pyramid) for subject in subjects}
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
