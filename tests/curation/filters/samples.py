"""Sample frames for the filters' tests: from the labelled real videos, and drawn."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"
VIDEOS = SHARED / "videos"
WEIGHTS = SHARED / "weights"
SIDE = 640


def need(path: Path) -> Path:
    """The path, or skip the test and say what is not there."""
    if not path.exists():
        pytest.skip(f"{path.name} is not there: the shared folder does not lie beside this checkout")
    return path


@functools.lru_cache(maxsize=64)
def frames_at(name: str, *seconds: float) -> tuple[np.ndarray, ...]:
    """The first frames of a shared video at or after these times, BGR, longer side reduced to 640 at most."""
    found: list[np.ndarray] = []
    with av.open(str(need(VIDEOS / name))) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= seconds[len(found)]:
                found.append(reduced(frame.to_ndarray(format="bgr24")))
                if len(found) == len(seconds):
                    break
    assert len(found) == len(seconds), f"{name} is shorter than {seconds}"
    return tuple(found)


def reduced(frame: np.ndarray) -> np.ndarray:
    """What the measuring pass does to a sample frame: longer side to 640 pixels at most."""
    scale = SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def labels() -> dict[str, dict[str, str]]:
    """The labels of the shared videos by file name."""
    with need(VIDEOS / "labels.csv").open() as lines:
        return {row["file"]: row for row in csv.DictReader(lines)}


def blank(height: int = 360, width: int = 640, grey: int = 200) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def written(*lines: tuple[str, int, int], height: int = 360, width: int = 640) -> np.ndarray:
    """A grey frame with lines of dark text, each (text, x, baseline y)."""
    frame = blank(height, width)
    for text, x, y in lines:
        cv2.putText(frame, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 2, cv2.LINE_AA)
    return frame
