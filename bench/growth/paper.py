"""What 100 million and a billion clips take, on paper: the measured slopes of `bench.growth`, carried on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SIZES = (100_000_000, 1_000_000_000)
CLIPS_A_DAY = 1_000_000
"""What the days below add: 12 clips a second, as a cluster of some 200 cores measures and cuts."""
COMMITS_A_DAY = 17_280
"""One every five seconds, the pace of `pipelines.execution.results.committer`."""
SAMPLES_BYTES, MEDIA_BYTES = 150_000, 3_000_000
"""Of a clip: three JPEG frames, and five seconds of encoded video."""
REQUESTS = {"LIST": 12, "PUT": 12, "GET": 124}
"""Of one commit to an object store, counted with a moto server behind a proxy: 50 new clips of 10 videos, on average
over the upkeep of the tail; most GETs open fragments that no index covers yet."""
LISTED = {"first query of a session": 4096}
"""Work that begins by reading the list of an index's pages, and the rows of a page: this grows with the rows."""
ENTRY_US = 1.0
"""CPU of reading one entry of that list: at 10 M clips, pages of 1,024 rows cost a first lookup 6 to 10 ms more than
pages of 4,096, which are 7,300 fewer."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A figure at two sizes: it goes on by as much for each further factor of ten (`decades`), or for each row."""

    rows: tuple[int, int]
    values: tuple[float, float]

    def by_decades(self, rows: int) -> float:
        step = (self.values[1] - self.values[0]) / math.log10(self.rows[1] / self.rows[0])
        return self.values[1] + max(0.0, step) * math.log10(rows / self.rows[1])

    def by_rows(self, rows: int) -> float:
        return self.values[1] + (rows - self.rows[1]) * (self.values[1] - self.values[0]) / (
            self.rows[1] - self.rows[0]
        )


def paper(cpu_ms: Mapping[str, Mapping[int, float]], sizes: Mapping[int, Mapping[str, Mapping[str, int]]]) -> str:
    """A Markdown table. `cpu_ms`: of each kind of work at each size; `sizes`: `__main__.sizes` at each size."""
    ends = min(sizes), max(sizes)
    head = [f"{rows:,} clips" for rows in SIZES]
    lines = [f"| on paper | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]

    def line(what: str, values: Sequence[str]) -> None:
        lines.append(f"| {what} | {' | '.join(values)} |")

    for work, by_rows in cpu_ms.items():
        if work in LISTED:
            pages = [(rows - ends[1]) / LISTED[work] for rows in SIZES]
            line(f"{work}, CPU-ms", [f"{by_rows[ends[1]] + count * ENTRY_US / 1000:.0f}" for count in pages])
            continue
        slope = Slope(ends, (by_rows[ends[0]], by_rows[ends[1]]))
        line(f"{work}, CPU-ms", [f"{slope.by_decades(rows):.0f}" for rows in SIZES])
    for part, what in (("data_bytes", "rows of `clips` and `videos`, GB"), ("index_bytes", "indexes, all four, GB")):
        names = ("clips", "videos") if part == "data_bytes" else tuple(sizes[ends[0]])
        values = tuple(float(sum(sizes[end][name][part] for name in names)) for end in ends)
        slope = Slope(ends, (values[0], values[1]))
        line(what, [f"{slope.by_rows(rows) / 1e9:.0f}" for rows in SIZES])
    line("frames and media, TB", [f"{rows * (SAMPLES_BYTES + MEDIA_BYTES) / 1e12:,.0f}" for rows in SIZES])
    line("`names/`, GB (40 bytes a video, 5 clips a video)", [f"{rows / 5 * 40 / 1e9:.1f}" for rows in SIZES])
    line("full fragments of `clips` / `samples` / `media`", [_fragments(rows) for rows in SIZES])
    commit = Slope(ends, _pair(cpu_ms, "commit of 50 new clips", ends))
    seconds = [COMMITS_A_DAY * commit.by_decades(rows) / 1000 for rows in SIZES]
    line("commits of a day, one in 5 s, CPU-s of the driver", [f"{value:,.0f}" for value in seconds])
    a_day = ", ".join(f"{count * COMMITS_A_DAY / 1e6:.1f} M {kind}" for kind, count in REQUESTS.items())
    line("requests of a day's commits to a store", [a_day] * len(SIZES))
    line("versions that a day adds to each dataset", [f"{COMMITS_A_DAY:,} or more"] * len(SIZES))
    return "\n".join(lines)


def _fragments(rows: int) -> str:
    clips, samples, media = rows / 1e6, rows * SAMPLES_BYTES / (1 << 30), rows * MEDIA_BYTES / (4 << 30)
    return " / ".join(f"{count:,.0f}" for count in (clips, samples, media))


def _pair(cpu_ms: Mapping[str, Mapping[int, float]], begins: str, ends: tuple[int, int]) -> tuple[float, float]:
    (found,) = (by_rows for work, by_rows in cpu_ms.items() if work.startswith(begins))
    return found[ends[0]], found[ends[1]]
