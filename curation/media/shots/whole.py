"""No detector at all: the whole of a source is one shot. The choice "none", for clips that are cut already.

What breaks the material (a gap, damage, another size: see docs/clips.md) still ends it.
"""

from __future__ import annotations

from curation.media.shots.base import Boundary, Picture
from curation.media.shots.scene_score import FrameScore


class WholeSource:
    """Finds no boundary."""

    __slots__ = ()

    lookahead = 0
    wants_picture: tuple[int, int] | None = None

    def push(self, frame: FrameScore, picture: Picture | None) -> list[Boundary]:
        return []

    def finish(self) -> list[Boundary]:
        return []
