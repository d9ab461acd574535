"""What the measuring pass adds to a bare decode, by the height of the pictures, in CPU-milliseconds a frame.

    python -m bench.curate.heights --videos DIR [--side 360] [--rounds 3] [--json FILE]

Both in one process on one thread, in turn, the best of some rounds each: what a neighbour on the machine slows down is
not counted. The process keeps its memory as a decoder's does. `bench.curate` runs it too, and has its table. A video
that the measuring pass rejects is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av.error
import av.logging
import cv2

from bench.curate.references import bare_decode
from curation.contract import Facts
from curation.media.measure import measure
from curation.media.plan import Limits, MediaPlan, Rules
from curation.media.probe import Unfit
from curation.media.results import Tally
from curation.media.sandbox.decoder import MEMORY

SIDE = 360
"""The short side of scores that the shipped recipes have (`filters.score_side`)."""

ROUNDS = 3
GOALS_MS = {720: 0.8, 1080: 1.4}

_RULES = Rules(min_duration_s=0, min_bpp=0, min_fps=0, min_aspect=0, max_aspect=100, banned_profiles=())


@dataclass(frozen=True, slots=True)
class Passes:
    """One video: lines of its coded pictures, frames decoded, CPU-seconds of a bare decode and of a measuring pass."""

    video: str
    height: int
    frames: int
    decode_s: float
    measure_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos, not searched below")
    parser.add_argument("--side", type=int, default=SIDE, help="short side of scores, 0: each clip's own size")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the raw numbers here")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    av.logging.set_level(None)
    files = sorted(path for path in options.videos.iterdir() if path.is_file() and path.suffix != ".csv")
    rows = [asdict(row) for path in files if (row := passes(path, options.side, options.rounds))]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))


def passes(path: Path, side: int = SIDE, rounds: int = ROUNDS) -> Passes | None:
    """The costs of one video; None where the measuring pass does not get through it."""
    plan = MediaPlan(rules=_RULES, score_side=side)
    try:
        facts, *_, tally = measure(path, plan, Limits().max_pixels)
    except (Unfit, av.error.FFmpegError):
        return None
    assert isinstance(facts, Facts) and isinstance(tally, Tally)
    decode, measuring = [], []
    for _ in range(rounds):
        decode.append(_took(lambda: bare_decode(str(path))))
        measuring.append(_took(lambda: list(measure(path, plan, Limits().max_pixels))))
    return Passes(path.name, facts.coded_height, tally.decoded, min(decode), min(measuring))


def _took(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown: a line for each height, over all frames of that height. `rows`: `Passes` as objects of JSON."""
    yield "| lines | videos | frames | bare decode, ms a frame | measuring adds | goal | measuring / bare decode |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    found = [Passes(**row) for row in rows]
    for height in sorted({row.height for row in found}, reverse=True):
        yield _line(height, [row for row in found if row.height == height])


def _line(height: int, rows: Sequence[Passes]) -> str:
    frames = sum(row.frames for row in rows)
    decode, measuring = (1000 * sum(seconds) / frames for seconds in zip(*map(_seconds, rows), strict=True))
    return (
        f"| {height} | {len(rows)} | {frames:,} | {decode:.2f} | {measuring - decode:.2f} "
        f"| {GOALS_MS.get(height, '')} | {measuring / decode:.2f} |"
    )


def _seconds(row: Passes) -> tuple[float, float]:
    return row.decode_s, row.measure_s


if __name__ == "__main__":
    if not MEMORY.items() <= os.environ.items():  # glibc reads them as the process starts
        os.execve(
            sys.executable, [sys.executable, "-m", "bench.curate.heights", *sys.argv[1:]], {**os.environ, **MEMORY}
        )
    main()
