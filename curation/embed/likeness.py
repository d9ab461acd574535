"""How alike two clips are to look at: what decides whether one is a copy of the other.

    two clips' sample frames -> Look -> [likeness] -> a number from -2 to 3

The sum of what `signature` says of them (2 at most, of the clip or its mirror image, whichever is closer) and of how
well their frames lie upon each other (`alignment`, 1 at most). The second is only asked for where the first is `NEAR`
or more, as one in four hundred pairs of unlike clips is. `COPY` and more is a copy: a threshold that is judged on other
videos than those it was chosen on (`bench.duplicates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.embed import alignment, signature

NEAR = 0.7
COPY = 1.75


@dataclass(frozen=True)
class Look:
    """A clip to be compared: its sample frames in order of time, BGR, uint8. `known`: its signature, where it is known;
    else it is computed.
    """

    frames: Sequence[np.ndarray]
    known: np.ndarray | None = None

    @cached_property
    def vector(self) -> np.ndarray:
        return signature.signature(self.frames) if self.known is None else self.known

    @cached_property
    def points(self) -> list[alignment.Points]:
        return [alignment.points(frame) for frame in self._trimmed]

    @cached_property
    def mirrored_points(self) -> list[alignment.Points]:
        return [alignment.points(np.ascontiguousarray(frame[:, ::-1])) for frame in self._trimmed]

    @cached_property
    def _trimmed(self) -> list[np.ndarray]:
        return signature.of_three(signature.trimmed(self.frames))


def likeness(one: Look, other: Look) -> float:
    """How alike two clips are; the order of the two makes no difference beyond rounding and chance."""
    plain, turned = nearness(one.vector, other.vector)
    near = max(plain, turned)
    if near < NEAR:
        return near
    return near + alignment.alignment(one.mirrored_points if turned > plain else one.points, other.points)


def nearness(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """What two signatures say: of the clips as they are, and of the first one mirrored."""
    return 2 * float(one @ other), 2 * float(signature.mirrored(one) @ other)
