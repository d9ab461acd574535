"""Where shots end: the streaming protocol, the default rule, and the mapping of all detectors.

Second step of the measuring pass: it is fed one frame at a time, in decode order, with that frame's scene
score (`scene.py`) and, for a detector that asks for it, a small picture. It answers with boundaries, never
later than `lookahead` frames after them, so that the pass can close a shot without holding the video.
`docs/shots.md` has the measured quality of each detector; `python -m bench.shots` makes it again.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, runtime_checkable

import numpy as np

from curation.errors import UserError

Picture = np.ndarray
"""uint8, shape (height, width, 3), BGR."""

# A flash is one frame that differs as much from the next frame as from the last one, and quiet follows.
_FLASH_SAME = 0.1
_FLASH_QUIET = 0.5


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

    def push(self, score: float, mafd: float, picture: Picture | None) -> list[Boundary]:
        """Takes the next frame; gives the boundaries that are certain now, in order, no two touching."""
        ...

    def finish(self) -> list[Boundary]:
        """Says that no frame follows; gives the boundaries that were still open."""
        ...


class SceneRule:
    """The default: a cut is a frame whose scene score stands out from its neighbours' (hard cuts only).

    The report cuts where "the change in scene scores exceeds an empirically determined threshold". Here the
    change is the score less the median score of the `radius` frames on each side, and it must reach
    `threshold`; of several such frames within `radius` the strongest wins. So a level that action, handheld
    camera or stop motion keeps up for some frames raises the bar by itself, and the threshold can be low
    enough for cuts between similar pictures.

    - A flash of one frame is no cut: the mean difference of the next frame shows the picture coming back. A
      longer or slowly fading one (an explosion) looks like a cut in the scores and is taken for one: a
      needless cut costs a shorter clip, a missed one spoils the clip.
    - The first difference of a file has no predecessor, so its score says nothing about a *change*; it is
      compared with its successor instead.
    - A dissolve or a fade moves all its scores a little and none a lot: no boundary is put inside, and the
      frames stay in the shot. The detector "transnet" finds them.
    """

    __slots__ = ("_count", "_mafds", "_scores", "radius", "threshold")

    wants_picture: tuple[int, int] | None = None

    def __init__(self, threshold: float = 6.0, radius: int = 6) -> None:
        """`threshold` in units of the scene score (0..100), `radius` in frames, at least 2."""
        if threshold <= 0 or radius < 2:
            raise ValueError(f"threshold must be above 0 and radius at least 2, not {threshold}, {radius}")
        self.threshold = threshold
        self.radius = radius
        # Frame 0 has no score, so what is kept begins with frame 1; the last item is the newest frame.
        self._scores: deque[float] = deque(maxlen=2 * radius + 1)
        self._mafds: deque[float] = deque(maxlen=2 * radius + 1)
        self._count = 0

    @property
    def lookahead(self) -> int:
        return self.radius

    def push(self, score: float, mafd: float, picture: Picture | None = None) -> list[Boundary]:
        frame = self._count
        self._count = frame + 1
        if frame == 0:
            return []
        scores, mafds = self._scores, self._mafds
        if frame == 2:
            scores[0] = min(scores[0], abs(mafd - mafds[0]))
        scores.append(score)
        mafds.append(mafd)
        at = len(scores) - 1 - self.radius
        # Nearly every frame leaves here: the median is taken only where a cut is possible at all.
        if at < 0 or scores[at] < self.threshold:
            return []
        return self._judge(at)

    def finish(self) -> list[Boundary]:
        newest = len(self._scores)
        open_ = range(max(0, newest - self.radius), newest)
        found = [boundary for at in open_ for boundary in self._judge(at)]
        self._scores.clear()
        self._mafds.clear()
        return found

    def _judge(self, at: int) -> list[Boundary]:
        """The boundary at position `at` of what is kept, if there is one."""
        scores = list(self._scores)
        score = scores[at]
        before, after = scores[max(0, at - self.radius) : at], scores[at + 1 : at + 1 + self.radius]
        if score < self.threshold or max(before, default=-1.0) >= score or max(after, default=-1.0) > score:
            return []
        level = median(before + after) if before or after else 0.0
        if score - level < self.threshold or self._is_flash(at):
            return []
        frame = self._count - len(scores) + at
        return [Boundary(frame, frame)]

    def _is_flash(self, at: int) -> bool:
        if at + 2 >= len(self._mafds):
            return False
        into, out, then = self._mafds[at], self._mafds[at + 1], self._mafds[at + 2]
        return abs(out - into) <= _FLASH_SAME * into and then <= _FLASH_QUIET * into


def _adaptive(**options: Any) -> ShotDetector:
    from curation.media.shots_scenedetect import adaptive

    return adaptive(**options)


def _content(**options: Any) -> ShotDetector:
    from curation.media.shots_scenedetect import content

    return content(**options)


def _transnet(**options: Any) -> ShotDetector:
    from curation.media.shots_transnet import TransNetShots

    return TransNetShots(**options)


DETECTORS: Mapping[str, Callable[..., ShotDetector]] = {
    "scene": SceneRule,
    "adaptive": _adaptive,
    "content": _content,
    "transnet": _transnet,
}
"""Every detector by the name that a recipe uses; the keyword arguments are the detector's parameters."""


def prepare(detector: str) -> None:
    """Load what the detector needs; `DetectorMissingError` where its package is not installed."""
    DETECTORS[detector]()
