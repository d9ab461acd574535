"""Quality of the shot detectors on labelled video.

    python -m bench.shots --videos DIR --labels CSV [--out FILE]

Decodes each file once and feeds every detector of `curation.media.shots.table`, plus a plain threshold on the scene
score, then counts hits, misses and false alarms against the labels, chooses the rule's parameters anew with
each file left out, and writes the table as Markdown. `bench/shots/report.py` holds the text.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np

from curation.errors import UserError
from curation.media.frames import Planes, planes
from curation.media.pictures.convert import Converter
from curation.media.pictures.small import small_bgr
from curation.media.shots.base import Boundary, ShotDetector
from curation.media.shots.scene_rule import SceneRule
from curation.media.shots.scene_score import FrameScore, SceneScore
from curation.media.shots.table import SEEKING, make, prepare

TOLERANCE = 2
MIN_CLIP_S = 2.0
PLAIN = 10.5
# Parameters that the leave-one-out choice and the sensitivity table range over.
THRESHOLDS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0)
RADII = (3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled file: first frames of new shots; spans of fades and dissolves, both ends inclusive."""

    name: str
    cuts: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Decoded:
    """One decoded file: what the detectors saw and what they said."""

    fps: float
    frames: list[FrameScore] = field(default_factory=list)
    found: dict[str, list[Boundary]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts for one or many files; `misses` and `alarms` are frame numbers."""

    hits: int
    misses: tuple[int, ...] = ()
    alarms: tuple[int, ...] = ()
    mixed_ends: int = 0
    mixed_clips: int = 0

    @property
    def precision(self) -> float:
        return self.hits / max(1, self.hits + len(self.alarms))

    @property
    def recall(self) -> float:
        return self.hits / max(1, self.hits + len(self.misses))

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(1, 2 * self.hits + len(self.misses) + len(self.alarms))


def read_labels(path: Path) -> list[Labelled]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Labelled(
                row["file"],
                tuple(int(cut) for cut in row["cut_frames"].split()),
                tuple((int(a), int(b)) for a, b in re.findall(r"(\d+)-(\d+):", row["gradual"])),
            )
            for row in csv.DictReader(file)
        ]


def measure(path: Path, names: Sequence[str]) -> Decoded:
    """One decode of video stream 0, in decode order, through the scene score and the detectors of these names."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        measured = Decoded(float(stream.average_rate or 25))
        detectors = {name: make(name, fps=measured.fps) for name in names}
        measured.found = {name: [] for name in names}
        scene, convert = SceneScore(), Converter()
        for frame in container.decode(stream):
            developed = convert(frame)  # keeps the planes alive
            seen = planes(developed)
            measured.frames.append(scene.push(*seen))
            pictures = _pictures(frame, seen, {detector.wants_picture for detector in detectors.values()})
            for name, detector in detectors.items():
                picture = pictures.get(detector.wants_picture)
                measured.found[name] += detector.push(measured.frames[-1], picture)
    for name, detector in detectors.items():
        measured.found[name] += detector.finish()
    return measured


def _pictures(
    frame: av.VideoFrame, seen: Planes, sizes: set[tuple[int, int] | None]
) -> dict[tuple[int, int] | None, np.ndarray]:
    """Pictures of a fixed size as the measuring pass makes them; others are whole frames made small as PySceneDetect
    does (linear)."""
    pictures: dict[tuple[int, int] | None, np.ndarray] = {}
    for width, height in (size for size in sizes if size is not None):
        if height:
            picture = small_bgr(*seen, width=width, height=height)
        else:
            picture = frame.to_ndarray(format="bgr24")
            if frame.width > width:
                small = (width, max(1, round(frame.height * width / frame.width)))
                picture = cv2.resize(picture, small, interpolation=cv2.INTER_LINEAR)
        pictures[width, height] = picture
    return pictures


def run_rule(rule: ShotDetector, measured: Decoded) -> list[Boundary]:
    """A detector that needs no pictures, on scores that were measured before."""
    found: list[Boundary] = []
    for frame in measured.frames:
        found += rule.push(frame, None)
    return found + rule.finish()


def judge(label: Labelled, measured: Decoded, found: Sequence[Boundary]) -> Outcome:
    """Each labelled cut takes the nearest boundary within the tolerance; what is left over is a false alarm,
    unless it touches a labelled gradual span, where it counts neither for nor against."""
    left, misses = list(found), []
    for cut in label.cuts:
        near = min(left, key=lambda boundary: _distance(cut, boundary), default=None)
        if near is None or _distance(cut, near) > TOLERANCE:
            misses.append(cut)
        else:
            left.remove(near)
    alarms = [b.start for b in left if not any(b.end <= last and b.start >= first for first, last in label.spans)]
    shots = _shots(measured, found)
    ends = [frame for shot in shots for frame in (shot[0], shot[-1])]
    return Outcome(
        len(label.cuts) - len(misses),
        tuple(misses),
        tuple(alarms),
        sum(any(first <= frame <= last for first, last in label.spans) for frame in ends),
        sum(any(shot[0] <= last and shot[-1] >= first for first, last in label.spans) for shot in shots),
    )


def _distance(cut: int, boundary: Boundary) -> int:
    return max(boundary.end - cut, cut - boundary.start, 0)


def _shots(measured: Decoded, found: Sequence[Boundary]) -> list[range]:
    """The shots that are long enough to become clips."""
    starts, ends = [0, *(b.start for b in found)], [*(b.end for b in found), len(measured.frames)]
    shots = (range(start, end) for start, end in zip(starts, ends, strict=True))
    return [shot for shot in shots if len(shot) >= MIN_CLIP_S * measured.fps]


def pool(outcomes: Iterable[Outcome]) -> Outcome:
    every = list(outcomes)
    return Outcome(
        sum(o.hits for o in every),
        tuple(frame for o in every for frame in o.misses),
        tuple(frame for o in every for frame in o.alarms),
        sum(o.mixed_ends for o in every),
        sum(o.mixed_clips for o in every),
    )


Grid = dict[tuple[float, int], list[Outcome]]


def try_grid(labels: Sequence[Labelled], files: Sequence[Decoded]) -> Grid:
    """The rule's outcome per file, for every pair of threshold and radius."""
    return {
        (threshold, radius): [
            judge(label, file, run_rule(SceneRule(threshold, radius, file.fps), file))
            for label, file in zip(labels, files, strict=True)
        ]
        for threshold, radius in product(THRESHOLDS, RADII)
    }


def leave_one_out(grid: Grid, of_equals: Callable[[list[tuple[float, int]]], tuple[float, int]] = min) -> Outcome:
    """Each file judged with the parameters that are best on all others, pooled.

    Many pairs are equally good. `min` takes the lowest threshold, then the smallest radius: a missed cut
    spoils a clip, a false one only shortens it.
    """
    judged = []
    for index in range(len(next(iter(grid.values())))):
        others = {key: pool(o for i, o in enumerate(row) if i != index).f1 for key, row in grid.items()}
        best = max(others.values())
        judged.append(grid[of_equals([key for key, f1 in others.items() if f1 > best - 1e-9])][index])
    return pool(judged)


def available() -> list[str]:
    """The detectors that can be made here; says on standard error which cannot, and the remedy."""
    names: list[str] = []
    for name in SEEKING:
        try:
            prepare(name)
        except UserError as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)
        else:
            names.append(name)
    return names


def main() -> None:
    from bench.shots.report import report  # it needs the types of this module

    parser = argparse.ArgumentParser(description="Quality of the shot detectors on labelled video.")
    parser.add_argument("--videos", type=Path, required=True, help="folder of the labelled files")
    parser.add_argument("--labels", type=Path, required=True, help="CSV with file, cut_frames, gradual")
    parser.add_argument("--out", type=Path, help="where to write the report; default: standard output")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    names = available()
    labels = read_labels(arguments.labels)
    files = []
    for label in labels:
        print(label.name, file=sys.stderr, flush=True)
        files.append(measure(arguments.videos / label.name, names))
    text = report(labels, files, try_grid(labels, files))
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        print(text)
