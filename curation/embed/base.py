"""What an embedder is: it makes vectors of one space, of sample frames or of texts, and compares nothing.

It comes after scoring and captioning (`pipelines.stages.embed`), in a worker, and again in `ziggurat search`, which
makes a vector of what is searched for by the same embedder. Which kinds there are is `pipelines.embedding.blocks`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

Made = np.ndarray | str
"""A vector (width,) float32, or why there is none."""

_MOST = float(np.finfo(np.float16).max)


class Embedder(Protocol):
    """Makes vectors that can be compared with each other. Make it once (it loads weights), call it many times."""

    @property
    def by(self) -> str:
        """How vectors are made: method, version, parameters, weights."""
        ...

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        ...


@runtime_checkable
class OfPictures(Embedder, Protocol):
    """An embedder that sees pictures."""

    def pictures(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Made]:
        """A vector for each clip, in order. A clip is its sample frames in order of time, at least one: BGR, uint8,
        (height, width, 3).
        """
        ...


@runtime_checkable
class OfTexts(Embedder, Protocol):
    """An embedder that reads texts. One that sees pictures too puts both into one space."""

    def texts(self, texts: Sequence[str]) -> list[Made]:
        """A vector for each text, in order."""
        ...


class WrongVector(ValueError):
    """What an embedder has given is no vector of its space."""


def checked(vector: np.ndarray, width: int, who: str) -> np.ndarray:
    """`vector` as float32. Raises `WrongVector` where it is not `width` finite numbers that float16 holds, or has no
    direction.
    """
    found = np.asarray(vector)
    if found.shape != (width,):
        raise WrongVector(f"{who} gave a vector of shape {found.shape}, and its space has {width} numbers")
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all() or np.abs(found).max() > _MOST:
        raise WrongVector(f"{who} gave a vector with a number that float16 does not hold")
    if not found.any():
        raise WrongVector(f"{who} gave a vector of zeros, which is like nothing")
    return found.astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, width) or (width,) at unit length; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
