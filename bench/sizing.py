"""Sizing on paper: what a million and a hundred million source videos take, from rates that other parts measured.

    newest result of `curate` -> Rates -> for each number of videos: hours, storage, requests, money

Nothing is measured here, so it costs nothing to run: `python -m bench.sizing`. What a source is like, and what things
cost to rent, are assumptions, and stand in the page. What no part has measured (captions on a GPU, a store's limits on
requests) is not in it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.growth.paper import MEDIA_BYTES, SAMPLES_BYTES

RESULTS = Path(__file__).parent / "results"
VIDEOS = (1_000_000, 100_000_000)
LINES = 720
COORDINATING = ("driver", "coordinator")
"""Processes of which a run has one, however many nodes there are."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a source is like, on average. `kept`: the share of its clips that the recipe's cut tier keeps."""

    seconds: float = 60.0
    fps: float = 30.0
    megabytes: float = 30.0
    clips: float = 5.0
    clip_s: float = 8.0
    kept: float = 0.5


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars. `requests`: of a million PUT and of a million GET."""

    cpu_hour: float = 0.04
    gigabyte_month: float = 0.023
    put: float = 5.0
    get: float = 0.4


@dataclass(frozen=True, slots=True)
class Rates:
    """CPU-seconds, measured: `decode` and `measure` a frame of 720 lines, `text` a clip, `encode` a second of a clip at
    medium, `driver` a video, of the processes that a run has one of. Megabytes: `stored` of a cut clip with its sample
    frames, `rows` of a clip.
    """

    decode: float
    measure: float
    text: float
    encode: float
    driver: float
    stored: float = (SAMPLES_BYTES + MEDIA_BYTES) / 1e6
    rows: float = 0.0002


@dataclass(frozen=True, slots=True)
class Size:
    """What so many videos take. Hours are of one processor; `least_hours`: of the wall, however many nodes there are,
    for one run's driver; `parts`: the hours by stage.
    """

    videos: int
    parts: Mapping[str, float]
    driver_hours: float
    stored_tb: float
    rows_gb: float
    read_tb: float
    gets: float
    puts: float
    usd: float
    usd_month: float

    @property
    def hours(self) -> float:
        return sum(self.parts.values())


def rates(curate: Mapping[str, Any]) -> Rates:
    """Out of a result of `bench.curate`."""
    heights = [one for one in curate["heights"] if one["height"] == LINES]
    frames = sum(one["frames"] for one in heights)
    decode = sum(one["decode_s"] for one in heights) / frames
    measure = sum(one["measure_s"] for one in heights) / frames - decode
    encode = sum(curate["references"]["encode_s"]["medium"].values()) / curate["clip_seconds"]
    runs = {run["copies"]: run for run in curate["runs"] if run["preset"] == "medium" and run["share"] == "all"}
    fewest, most = min(runs), max(runs)
    spent = [sum(runs[copies]["cost"]["cpu_by"][name] for name in COORDINATING) for copies in (fewest, most)]
    driver = (spent[1] - spent[0]) / ((most - fewest) * curate["videos"])
    return Rates(decode, measure, curate["ocr"]["ms_per_clip"] / 1000, encode, driver)


def sized(videos: int, rates: Rates, source: Source = Source(), prices: Prices = Prices()) -> Size:
    frames, clips = source.seconds * source.fps, videos * source.clips
    cut_s = clips * source.kept * source.clip_s
    seconds = {
        "decode and measure": videos * frames * (rates.decode + rates.measure),
        "text": clips * rates.text,
        "cut: decode": cut_s * source.fps * rates.decode,
        "cut: encode": cut_s * rates.encode,
    }
    parts = {name: spent / 3600 for name, spent in seconds.items()}
    driver = videos * rates.driver / 3600
    stored, rows = clips * source.kept * rates.stored, clips * rates.rows
    # A source is read once to be measured and once to be cut; a result is an entry of the journal and a part of a file.
    gets, puts = 2.0 * videos, 2.0 * videos + clips / 32 + 2.0 * videos
    usd = (sum(parts.values()) + driver) * prices.cpu_hour + (gets * prices.get + puts * prices.put) / 1e6
    read_tb = videos * source.megabytes * 2 / 1e6
    return Size(
        videos, parts, driver, stored / 1e6, rows / 1e3, read_tb, gets, puts, usd, stored / 1e3 * prices.gigabyte_month
    )


def _jobs(driver_hours: float, within: float) -> int:
    return max(1, math.ceil(driver_hours / within))


def table(found: Sequence[Size]) -> str:
    """Of Markdown."""
    rows: list[tuple[str, list[str]]] = [
        *((f"{name}, CPU-hours", [f"{size.parts[name]:,.0f}" for size in found]) for name in found[0].parts),
        ("together, CPU-hours", [f"{size.hours:,.0f}" for size in found]),
        ("on 1,000 processors, days", [f"{size.hours / 24_000:,.1f}" for size in found]),
        ("drivers, CPU-hours", [f"{size.driver_hours:,.0f}" for size in found]),
        (
            "jobs that must share it to be done in 7 days",
            [f"{max(1, -(-size.driver_hours // 168)):,.0f}" for size in found],
        ),
        ("processors that one driver keeps busy", [f"{size.hours / size.driver_hours:,.0f}" for size in found]),
        ("read from the store, TB", [f"{size.read_tb:,.0f}" for size in found]),
        ("clips and frames stored, TB", [f"{size.stored_tb:,.1f}" for size in found]),
        ("rows, GB", [f"{size.rows_gb:,.0f}" for size in found]),
        ("requests, million GET / PUT", [f"{size.gets / 1e6:,.0f} / {size.puts / 1e6:,.0f}" for size in found]),
        ("to compute and request, USD", [f"{size.usd:,.0f}" for size in found]),
        ("to keep, USD a month", [f"{size.usd_month:,.0f}" for size in found]),
    ]
    head = " | ".join(f"{size.videos:,} videos" for size in found)
    lines = [f"| on paper | {head} |", "|---|" + "---:|" * len(found)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def page(rates: Rates, source: Source = Source(), prices: Prices = Prices()) -> str:
    frame, clip = f"decode {rates.decode * 1e3:.2f} and measure {rates.measure * 1e3:.2f}", f"{rates.text * 1e3:.0f}"
    encode, driver = f"{rates.encode * 1e3:.0f}", f"{rates.driver * 1e3:.0f}"
    told = [
        f"A source is taken to be {source.seconds:.0f} s of {LINES} lines at {source.fps:.0f} frames a second and",
        f"{source.megabytes:.0f} MB, with {source.clips:.0f} clips of {source.clip_s:.0f} s,",
        f"of which {source.kept:.0%} are cut. Rented: {prices.cpu_hour} USD a CPU-hour,",
        f"{prices.gigabyte_month} a GB and month, {prices.put} and {prices.get} a million PUT and GET.",
        f"Rates of `bench.curate`, CPU-ms: {frame} a frame, text {clip} a clip,",
        f"encode (medium) {encode} a second of a clip, driver and coordinator {driver} a video.",
        "",
        table([sized(videos, rates, source, prices) for videos in VIDEOS]),
        "",
        "What breaks first is the driver, of which a run has one. So a job should have about as many processors as",
        "one driver keeps busy, and more work is shared by more jobs of the same cluster ([jobs](jobs.md)).",
        f"The next is the store: {2 * source.megabytes:.0f} MB are read of each source, once to be measured and",
        "once to be cut. Not in it: CLIP, captions, embeddings and near-duplicates; what a store's limits on",
        "requests, and several drivers that commit to one pyramid, do at this size (not measured).",
    ]
    return "\n".join(told)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sizing")
    parser.add_argument("--json", type=Path, help="where the sizes go")
    options = parser.parse_args(arguments)
    newest = max(path for path in RESULTS.glob("*-curate.json"))
    found = rates(json.loads(newest.read_text()))
    if options.json:
        sizes = [sized(videos, found) for videos in VIDEOS]
        options.json.write_text(json.dumps([{"videos": size.videos, "cpu_hours": size.hours} for size in sizes]))
    print(f"From {newest.name}. {page(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
