"""What a shot detector is: it is fed one frame at a time, in decode order, and answers with boundaries.

Second step of the measuring pass. A frame comes with its scores (`scene_score`) and, for a detector that asks for it, a
small picture. The answer comes never later than `lookahead` frames after a boundary, so that the pass can close a shot
without holding the video. `table` lists the detectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from curation.errors import UserError
from curation.media.shots.scene_score import FrameScore

Picture = np.ndarray
"""uint8, shape (height, width, 3), BGR."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Between two shots, in 0-based frames of decode order.

    The shot before ends before `end` (exclusive), the shot after begins with `start`. A hard cut has
    `end == start`; in a dissolve or a fade the frames `end..start-1` are mixed and belong to no shot. A video
    that begins or ends in a fade may have `end` 0 or `start` at the number of frames: an empty shot there.
    """

    end: int
    start: int


class DetectorMissingError(UserError):
    """The package behind a detector is not installed."""


@runtime_checkable
class ShotDetector(Protocol):
    """Finds the boundaries of one video. One object serves one video."""

    @property
    def lookahead(self) -> int:
        """The most frames between a boundary's `end` and the frame whose `push` announces it."""
        ...

    @property
    def wants_picture(self) -> tuple[int, int] | None:
        """Width and height of the BGR picture that `push` needs; None: none; height 0 keeps the aspect."""
        ...

    def push(self, frame: FrameScore, picture: Picture | None) -> list[Boundary]:
        """Takes the next frame; gives the boundaries that are certain now, in order, no two touching."""
        ...

    def finish(self) -> list[Boundary]:
        """Says that no frame follows; gives the boundaries that were still open."""
        ...
