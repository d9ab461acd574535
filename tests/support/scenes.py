"""Pictures of scenes that differ, and what is made of them again: clips to be told apart without a video."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def scene(seed: int, frames: int = 3, width: int = 320, height: int = 180) -> list[np.ndarray]:
    """Rectangles and discs of many colours on a slope of light, BGR; they move a little from frame to frame."""
    random = np.random.default_rng(seed)
    left, right = random.uniform(60, 200, 2).tolist()
    slope = np.linspace(left, right, width)[None, :, None] * np.ones((height, 1, 3))
    things = [
        (random.uniform(0, width), random.uniform(0, height), *random.uniform(8, 60, 2), random.uniform(20, 235, 3))
        for _ in range(25)
    ]
    made: list[np.ndarray] = []
    for number in range(frames):
        frame = slope.astype(np.uint8)
        for index, (x, y, w, h, colour) in enumerate(things):
            at = (round(x + number * (index % 5)), round(y + number * (index % 3)))
            if index % 2:
                cv2.rectangle(frame, at, (at[0] + round(w), at[1] + round(h)), colour.tolist(), -1)
            else:
                cv2.circle(frame, at, round(w / 2), colour.tolist(), -1)
        made.append(frame)
    return made


def mirrored(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]


def jpegs(frames: Sequence[np.ndarray]) -> list[bytes]:
    """As the measuring pass keeps sample frames."""
    return [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes() for frame in frames]
