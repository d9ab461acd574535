"""The signature of a clip's pictures: a vector of numbers that no network has learned.

    sample frames -> [signature] -> a vector of the space `picture` -> candidates for near-duplicates, "looks like this"

Each of three frames gives a part. Dark borders are cut off first, so that a letterbox makes no other picture of it. The
part has a histogram of gradients (eight directions in 4 x 4 cells, of the frame at 64 and at 128 pixels) with the mean
colours of 4 x 4 cells, less the mean of natural pictures; and the signs of the 63 lowest terms of a cosine transform of
its brightness. Half of a vector's length goes to each of the two, so that twice the dot product of two vectors is the
mean correlation of their gradients and colours plus that of their signs, at most 2: together they tell copies from
others better than each alone. A picture with little in it has a shorter vector, so that it is close to nothing.

Cells, directions and terms are laid out so that a mirrored picture has the same numbers in other places: `mirrored`
turns a stored vector into that of the mirrored clip.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

Thing = TypeVar("Thing")

VERSION = 1
"""Raise it where vectors come out otherwise: they are then made again."""
FRAMES = 3
SIDES = (64, 128)
"""Pixels of the squares whose gradients are counted."""
CELLS = 4
DIRECTIONS = 8
GRADIENTS = len(SIDES) * CELLS * CELLS * DIRECTIONS
COLOURS = CELLS * CELLS * 3
SHAPE = GRADIENTS + COLOURS
"""Numbers of a frame's gradients and colours."""
TERMS = 8
SIGNS = TERMS * TERMS - 1
PART = SHAPE + SIGNS
WIDTH = FRAMES * PART

_COLOUR_WEIGHT = 0.5
"""Length of the colours beside the gradients' sqrt(2): copies in grey stay close."""
_LUMA_SIDE = 32
_FAINT = 4.0
"""A term of the cosine transform below this, a quarter of a grey level, has no sign: in a flat picture it is noise."""
_FLAT = 1.0
"""A mean gradient (Sobel's, 8 for a slope of a grey level a pixel) below this is that of a picture without any."""
_DARK = 24
_MOST = 0.3
"""A border is as dark as this, and at most this share of a side is cut on each."""


def signature(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The vector (`WIDTH`,), float32, of length 1 at most, of a clip's sample frames in order of time.

    `frames`: at least one, BGR, uint8, (height, width, 3), of one size; of fewer than three some stand twice, so an
    image is compared with a clip as a clip that stands still.
    """
    assert frames, "a clip without frames has no signature"
    parts = of_three([_part(frame) for frame in trimmed(frames)])
    return np.concatenate(parts) / np.float32(np.sqrt(2 * FRAMES))


def of_three(things: Sequence[Thing]) -> list[Thing]:
    """Three of a clip's frames, or of what there is of each: first, middle, last."""
    return [things[round(place * (len(things) - 1) / (FRAMES - 1))] for place in range(FRAMES)]


def mirrored(vectors: np.ndarray) -> np.ndarray:
    """The signatures of the mirrored clips of `vectors` (..., `WIDTH`)."""
    order, sign = _mirror()
    return vectors[..., order] * sign


def trimmed(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The frames without borders that are dark in all of them."""
    brightest = np.max([frame.max(axis=2) for frame in frames], axis=0)
    rows, columns = (_lit(np.percentile(brightest, 90, axis=axis)) for axis in (1, 0))
    return [np.ascontiguousarray(frame[rows, columns]) for frame in frames]


def _lit(line: np.ndarray) -> slice:
    """The part of a row or column of brightnesses that is no border."""
    lit = np.flatnonzero(line > _DARK)
    if not len(lit):
        return slice(0, len(line))
    most = int(_MOST * len(line))
    return slice(min(int(lit[0]), most), max(int(lit[-1]) + 1, len(line) - most))


def _part(frame: np.ndarray) -> np.ndarray:
    found = shape_of(frame)
    shape = found - _mean() if found[:GRADIENTS].any() else np.zeros(SHAPE, np.float32)
    signs = _signs(_luma(frame, _LUMA_SIDE))
    return np.concatenate([shape / max(float(np.linalg.norm(shape)), 1e-9), signs / np.float32(np.sqrt(SIGNS))])


def shape_of(frame: np.ndarray) -> np.ndarray:
    """The gradients and colours of a frame, (`SHAPE`,) float32, before the mean is taken off."""
    return np.concatenate([*(_gradients(_luma(frame, side)) for side in SIDES), _COLOUR_WEIGHT * _colours(frame)])


def _luma(frame: np.ndarray, side: int) -> np.ndarray:
    small = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)


def _gradients(luma: np.ndarray) -> np.ndarray:
    """Square roots of the shares that each cell and direction has of all gradients: of length 1, or of 0 where the
    picture is flat.
    """
    strength, angle = cv2.cartToPolar(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
    # Rounded and not floored: an upright edge lies in the middle of its direction, and so does its mirror image.
    direction = np.rint(angle * (DIRECTIONS / (2 * np.pi))).astype(np.intp) % DIRECTIONS
    cell = np.arange(len(luma)) * CELLS // len(luma)
    place = (cell[:, None] * CELLS + cell) * DIRECTIONS + direction
    counts = np.bincount(place.ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS)
    if counts.sum() < _FLAT * luma.size:
        return np.zeros(counts.size, np.float32)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def _colours(frame: np.ndarray) -> np.ndarray:
    """Mean Lab colours of the cells less the mean of all, of length 1 (0 in a picture that has but one grey)."""
    small = cv2.resize(frame, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).astype(np.float32).ravel()
    colours -= colours.mean()
    return colours / max(float(np.linalg.norm(colours)), 1e-6)


def _signs(luma: np.ndarray) -> np.ndarray:
    terms = cv2.dct(luma)[:TERMS, :TERMS].ravel()[1:]
    return np.where(np.abs(terms) < _FAINT, 0, np.sign(terms)).astype(np.float32)


@functools.cache
def _mean() -> np.ndarray:
    """The mean of `shape_of` over natural pictures and their mirror images (`python -m bench.duplicates --mean`)."""
    text = Path(__file__).with_name("natural_mean.json").read_text()
    return np.array(json.loads(text), np.float32)


@functools.cache
def _mirror() -> tuple[np.ndarray, np.ndarray]:
    """For each number of a vector the place at which the mirrored clip has it, and 1, or -1 where its sign turns."""
    row, column, direction = np.indices((CELLS, CELLS, DIRECTIONS))
    flipped = (row * CELLS + CELLS - 1 - column) * DIRECTIONS
    gradients = (flipped + (DIRECTIONS // 2 - direction) % DIRECTIONS).ravel()
    row, column, channel = np.indices((CELLS, CELLS, 3))
    colours = ((row * CELLS + CELLS - 1 - column) * 3 + channel).ravel()
    starts = [side * len(gradients) for side in range(len(SIDES))]
    shape = np.concatenate([*(start + gradients for start in starts), GRADIENTS + colours])
    part = np.concatenate([shape, SHAPE + np.arange(SIGNS)])
    odd = np.arange(TERMS * TERMS)[1:] % TERMS % 2
    sign = np.concatenate([np.ones(SHAPE), 1 - 2 * odd])
    order = np.concatenate([frame * PART + part for frame in range(FRAMES)])
    return order, np.tile(sign, FRAMES).astype(np.float32)
