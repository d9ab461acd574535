"""At which size frame scores should be made: do motion and sharpness mean the same at every size of the same videos?

    python -m bench.curate.sides --videos DIR [--sides 0 180 256 360 480] [--out FILE]

Each video is encoded at several heights, and windows of two seconds are scored at each side (0: their own size).
Printed as Markdown: the rank correlation of windows that each come at a height drawn at random with the same windows
at full size, how far a score moves with the height, and how much of the ranking at their own full size a side keeps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np

from curation.contract import Crop, Facts
from curation.media.measures.blur import laplacian_variance, sharpness
from curation.media.measures.motion import Motion
from curation.media.measures.scored import ScoredSize

HEIGHTS = (1080, 720, 540, 480, 360, 270, 180)
WINDOW = 48
MOST_WINDOWS = 5
LEAST_LINES = 450
DRAWS = 200
SCORES = ("motion", "sharpness")

Frames = list[np.ndarray]
Window = tuple[str, int]
Found = dict[Window, dict[int, float]]
"""For each window its score at each height."""


@dataclass(frozen=True, slots=True)
class Row:
    """`mixed`: mean rank correlation over draws of heights, `worst` of them; `moved`: median and nine tenths of
    |log2(score / score at full size)|; `kept`: rank correlation with the ranking at the windows' own full size.
    """

    side: int
    score: str
    mixed: float
    worst: float
    moved: tuple[float, float]
    kept: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.curate.sides")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=[0, 180, 256, 360, 480])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found: dict[tuple[int, str], Found] = {(side, score): {} for side in options.sides for score in SCORES}
    files = sorted(path for path in options.videos.iterdir() if path.is_file() and path.suffix != ".csv")
    for path in files:
        for height, frames in _versions(path):
            for start in range(0, min(len(frames), MOST_WINDOWS * WINDOW) - WINDOW + 1, WINDOW):
                for side in options.sides:
                    scores = _scored(frames[start : start + WINDOW], side)
                    for score, value in zip(SCORES, scores, strict=True):
                        found[side, score].setdefault((path.name, start), {})[height] = value
    text = table([_row(found, side, score) for score in SCORES for side in options.sides], found)
    print(text)
    if options.out:
        options.out.write_text(text)
    return 0


def table(rows: Sequence[Row], found: dict[tuple[int, str], Found]) -> str:
    """The rows as Markdown."""
    windows = next(iter(found.values()))
    lines = [
        f"{len(windows)} windows of {len({name for name, _ in windows})} videos, at up to {len(HEIGHTS)} heights from "
        f"{max(HEIGHTS)} to {min(HEIGHTS)} lines.",
        "",
        "| score | side | mixed heights | worst draw | moves by octaves: median, nine tenths | own ranking kept |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        side = str(row.side) if row.side else "own size"
        moved = f"{row.moved[0]:.2f}, {row.moved[1]:.2f}"
        lines.append(f"| {row.score} | {side} | {row.mixed:.3f} | {row.worst:.3f} | {moved} | {row.kept:.3f} |")
    return "\n".join(lines) + "\n"


def _versions(path: Path) -> Iterator[tuple[int, Frames]]:
    """The luma of a video's first seconds at each height up to its own; nothing of one that is small or unreadable."""
    try:
        frames = _lumas(path)
    except (OSError, ValueError, IndexError) as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return
    if len(frames) < WINDOW or min(frames[0].shape) < LEAST_LINES:
        return
    own = frames[0].shape[0] // 2 * 2
    with tempfile.TemporaryDirectory() as folder:
        for height in sorted({own, *(height for height in HEIGHTS if height < own)}, reverse=True):
            copy = Path(folder) / f"{height}.mp4"
            _encode(frames, height, copy)
            yield height, _lumas(copy)


def _lumas(path: Path) -> Frames:
    frames: Frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frames and (frame.height, frame.width) != frames[0].shape:
                break
            frames.append(frame.reformat(format="gray8").to_ndarray())
            if len(frames) == MOST_WINDOWS * WINDOW:
                break
    return frames


def _encode(frames: Frames, height: int, path: Path) -> None:
    width = round(frames[0].shape[1] * height / frames[0].shape[0] / 2) * 2
    grey = np.full((height // 2, width), 128, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for luma in frames:
            small = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
            picture = av.VideoFrame.from_ndarray(np.vstack([small, grey]).astype(np.uint8), format="yuv420p")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _scored(frames: Frames, side: int) -> tuple[float, float]:
    """Motion and sharpness of a window at a side."""
    height, width = frames[0].shape
    facts = Facts("", "", "", "", width, height, width, height, 0, False, 1.0, 24.0, False, 2.0, len(frames), 0.0)
    size, motion = ScoredSize.of(Crop(0, 0, width // 2 * 2, height // 2 * 2), facts, max(width, height), side), Motion()
    for frame in frames:
        motion.push(*size.for_motion(frame))
    five = [frames[round((i + 0.5) / 5 * (len(frames) - 1))] for i in range(5)]
    return motion.mean(len(frames)), sharpness(tuple(laplacian_variance(size.for_sharpness(frame)) for frame in five))


def _row(found: dict[tuple[int, str], Found], side: int, score: str) -> Row:
    """Sharpness is compared from the side upwards: a smaller picture truly has less detail than the side shows."""
    here, own = found[side, score], found.get((0, score), found[side, score])
    least = side if score == "sharpness" else 0
    heights = {window: [h for h in values if h >= least] or [max(values)] for window, values in here.items()}
    full = np.array([values[max(values)] for values in here.values()])
    rng = np.random.default_rng(0)
    draws = [
        _rank_correlation(full, np.array([here[window][rng.choice(heights[window])] for window in here]))
        for _ in range(DRAWS)
    ]
    moves = [
        abs(np.log2((values[h] + 1e-3) / (values[max(values)] + 1e-3)))
        for window, values in here.items()
        for h in heights[window]
        if h != max(values)
    ]
    kept = _rank_correlation(full, np.array([own[window][max(own[window])] for window in here]))
    return Row(side, score, float(np.mean(draws)), min(draws), (median(moves), float(np.quantile(moves, 0.9))), kept)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    x, y = (ranks - ranks.mean() for ranks in (np.argsort(np.argsort(values)) for values in (a, b)))
    return float(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))


if __name__ == "__main__":
    raise SystemExit(main())
