"""Whether two pictures show the same thing from the same place: one is laid on the other, and both are compared.

The second step of finding copies: candidates by `signature`, then this. Two takes of one scene may have like
signatures, but no move, turn and change of size lays one on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

VERSION = 1
_WIDTH = 320
_POINTS = 400
_CLEARLY = 0.8
"""A match counts where the second best is this much further away (Lowe's ratio)."""
_LEAST = 8
_SCALES = (0.6, 1.6)
_OVERLAP = 0.5
_OFF = 4.0
"""Pixels by which a point may miss its place."""
_CHANCE = 0.3
"""A lower correlation is that of any two pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A frame at 320 pixels' width, float32, and its n ORB points: where (n, 2), and what is there (n, 32) uint8."""

    luma: np.ndarray
    places: np.ndarray
    kinds: np.ndarray


def points(frame: np.ndarray) -> Points:
    """Of a BGR frame, uint8, (height, width, 3)."""
    height = max(16, round(_WIDTH * frame.shape[0] / frame.shape[1]))
    luma = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (_WIDTH, height), interpolation=cv2.INTER_AREA)
    found, kinds = _detector().detectAndCompute(luma, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    places = np.array([one.pt for one in found], np.float32).reshape(-1, 2)
    blurred = cv2.blur(luma.astype(np.float32), (5, 5))
    return Points(blurred, places, kinds if kinds is not None else np.zeros((0, 32), np.uint8))


def alignment(some: Sequence[Points], others: Sequence[Points]) -> float:
    """The mean correlation, 0 to 1, of frames that stand for the same moments of two clips, each pair laid upon each
    other; 0 where it is no more than chance.
    """
    mean = float(np.mean([_correlation(*pair) for pair in zip(some, others, strict=True)]))
    return mean if mean >= _CHANCE else 0.0


def _correlation(one: Points, other: Points) -> float:
    move = _move(one, other)
    if move is None:
        return 0.0
    size = (one.luma.shape[1], one.luma.shape[0])
    seen = cv2.warpAffine(np.full(other.luma.shape, 255, np.uint8), move, size) > 250
    if seen.mean() < _OVERLAP:
        return 0.0
    first, second = one.luma[seen], cv2.warpAffine(other.luma, move, size)[seen]
    spread = float(first.std() * second.std())
    return float(np.mean((first - first.mean()) * (second - second.mean()))) / spread if spread > 1e-6 else 0.0


def _move(one: Points, other: Points) -> np.ndarray | None:
    """The move, turn and change of size (2, 3) that lays `other` on `one`; None where none does."""
    if min(len(one.kinds), len(other.kinds)) < _LEAST:
        return None
    pairs = [pair for pair in cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(one.kinds, other.kinds, k=2) if len(pair) == 2]
    good = [best for best, second in pairs if best.distance < _CLEARLY * second.distance]
    if len(good) < _LEAST:
        return None
    there = other.places[[match.trainIdx for match in good]]
    here = one.places[[match.queryIdx for match in good]]
    cv2.setRNGSeed(0)  # the same pair gives the same answer, whatever was compared before
    move, fits = cv2.estimateAffinePartial2D(there, here, ransacReprojThreshold=_OFF)
    if move is None or int(fits.sum()) < _LEAST or not _SCALES[0] < float(np.hypot(*move[:2, 0])) < _SCALES[1]:
        return None
    return move


def _detector() -> cv2.ORB:
    return cv2.ORB_create(_POINTS, 1.2, 6, fastThreshold=8)  # pyright: ignore[reportAttributeAccessIssue]
