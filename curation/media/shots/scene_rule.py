"""The default detector: hard cuts, also through one or two mixed frames. The choice "scene" of `shots.DETECTORS`.

Two things tell a cut. The numbers of `scene_score` say where a frame changes more than its neighbours do; the
thumbnails of the few frames that stand out then say whether another picture follows, or the same one lit or moved.
`docs/shots.md` has the quality and what remains.
"""

from __future__ import annotations

from collections import deque
from math import hypot
from statistics import median
from typing import NamedTuple

from curation.media.shots.base import Boundary, Picture
from curation.media.shots.scene_score import FrameScore, Thumb, colour_difference, luma_difference
from curation.media.shots.thumbnails import distance, share, unexplained

# A frame that changes less than this share of what the frame in question changes repeats the picture before it.
_REPEAT = 0.15
# Repeated pictures count as motion where at least so many others are seen on one side, and one on the other.
_STEPS = 2
# A converter of frame rates leaves up to so many mixed frames at a cut; less or more of a picture than this is whole.
_MIXED = 2
_PART = (0.08, 0.92)
# The most of neither picture in a mix (motion, gamma), and the most that a whole picture moves next to one.
_NEITHER = 0.3
_STILL = 0.22
# A flash lasts up to so many frames at 30 a second, and what comes back differs by less than this share of the jump.
_FLASH = 3
_SAME = 0.45
# Motion leaves less than this share of a difference unexplained; across a cut it is half and more.
_MOVED = 0.4
_NORMAL_FPS = 30.0
# Frames wait in memory for the judgement, so at high rates the wait has a bound.
_LONGEST_WAIT = 48
_ROUNDING = 1e-6


class _Seen(NamedTuple):
    value: float
    """The scene score, or that of the thumbnail's luma or colour: whichever is highest."""
    change: float
    """The mean absolute difference or the colour's, whichever is higher."""
    step: float
    """How far the thumbnail is from the one before, in luma or in colour."""
    thumb: Thumb


def _score(difference: float, before: float) -> float:
    """A difference as a scene score: no more than it has changed."""
    return min(difference, abs(difference - before))


class SceneRule:
    """A cut is a frame whose scene score stands out from its neighbours', and another picture follows it.

    The report cuts where "the change in scene scores exceeds an empirically determined threshold". Here the change is
    the score less a level, and it must reach `threshold`; of several such frames within `radius` the strongest wins.
    The level is the median score of the `radius` frames on each side, so that action, handheld camera or stop motion
    raise the bar by themselves. The score is taken of luma, of colour and of a thumbnail's luma, in which a pan shows
    little; the highest counts.

    - Repeated pictures (animation on twos or threes, film in 60 frames) have no change and are no level: there the
      change must stand out from those of the `radius` new pictures on each side, too.
    - A cut through mixed frames is one step in several: the picture before and the one after them are compared.
      Mixed frames belong to no shot.
    - A flash, after which the old picture comes back within three frames (at 30 a second, and as long at higher
      rates), is no cut. Neither is a picture that is the one before, moved.
    - The first difference of a file has no predecessor, so its score says nothing about a *change*; it is compared
      with its successor instead.
    - A longer dissolve or fade moves all scores a little and none a lot: no boundary is put inside, and the frames
      stay in the shot. The detector "transnet" finds them.
    """

    __slots__ = ("_before", "_count", "_flash", "_reach", "_seen", "_told", "radius", "threshold")

    wants_picture: tuple[int, int] | None = None

    def __init__(self, threshold: float = 6.0, radius: int = 6, fps: float = _NORMAL_FPS) -> None:
        """`threshold` in units of the scene score (0..100), `radius` in frames, at least 2; `fps`: the video's rate."""
        if threshold <= 0 or radius < 2:
            raise ValueError(f"threshold must be above 0 and radius at least 2, not {threshold}, {radius}")
        self.threshold = threshold
        self.radius = radius
        scale = max(1, round(fps / _NORMAL_FPS))
        self._flash = min(_FLASH * scale, _LONGEST_WAIT - _MIXED)
        self._reach = max(radius, self._flash + _MIXED, min(2 * radius * scale, _LONGEST_WAIT))
        self._seen: deque[_Seen] = deque(maxlen=3 * self._reach + 1)
        self._before: FrameScore | None = None
        self._count = 0
        self._told = 0

    @property
    def lookahead(self) -> int:
        return self._reach + _MIXED

    def push(self, frame: FrameScore, picture: Picture | None = None) -> list[Boundary]:
        before, self._before = self._before, frame
        seen = _Seen(0.0, max(frame.mafd, frame.chroma), max(frame.soft, frame.chroma), frame.thumb)
        if before:
            small = max(_score(frame.chroma, before.chroma), _score(frame.soft, before.soft))
            seen = seen._replace(value=max(frame.score, small))
        self._seen.append(seen)
        self._count += 1
        if self._count == 3:
            first, second = self._seen[1], self._seen[2]
            self._seen[1] = first._replace(value=min(first.value, abs(second.change - first.change)))
        at = len(self._seen) - 1 - self._reach
        return self._judge(at) if at >= 0 else []

    def finish(self) -> list[Boundary]:
        open_ = range(max(0, len(self._seen) - self._reach), len(self._seen))
        found = [boundary for at in open_ for boundary in self._judge(at)]
        self._seen.clear()
        return found

    def _judge(self, at: int) -> list[Boundary]:
        """The boundary at position `at` of what is kept, if there is one."""
        offset = self._count - len(self._seen)
        if offset + at < 1:
            return []
        span = self._abrupt(at) or self._mixed(at)
        if span is None or offset + span[0] <= self._told:
            return []
        end, start = span
        if self._came_back(end, start) or unexplained(self._seen[end - 1].thumb, self._seen[start].thumb) < _MOVED:
            return []
        self._told = offset + start
        return [Boundary(offset + end, offset + start)]

    def _abrupt(self, at: int) -> tuple[int, int] | None:
        """End and start of the shots beside a frame whose value stands out."""
        value = self._seen[at].value
        if value < self.threshold:
            return None
        around = [i for i in self._around(at - self.radius, at + 1 + self.radius) if i != at]
        if any(self._is_stronger(i, at) for i in around):
            return None
        near = [self._seen[i].value for i in around]
        if value - (median(near) if near else 0.0) < self.threshold or self._is_step(at):
            return None
        for mixed in range(_MIXED, 0, -1):
            for start in range(at, at + mixed + 1):
                if self._is_mix(start - mixed, start):
                    return start - mixed, start
        return at, at

    def _is_stronger(self, other: int, at: int) -> bool:
        """Whether another frame stands out more, in value and in pictures; of equal ones, the first."""
        value, rival = self._seen[at].value, self._seen[other].value
        higher = rival > value or (rival == value and other < at)
        return higher and self._apart(other - 1, other) >= self._apart(at - 1, at)

    def _is_step(self, at: int) -> bool:
        """Whether a frame changes as much as its neighbours do, where pictures are shown several times each.

        Repeats have no change, and after one the score is the whole difference: neither is a level. So whole
        differences are compared, of frames and of thumbnails, and only those of frames that show a new picture.
        """
        steps = self._steps(at)
        if len(steps) < _STEPS:
            return False
        changes = median(self._seen[i].change for i in steps)
        jumps = median(self._apart(i - 1, i) for i in steps)
        return self._seen[at].change - changes < self.threshold and self._apart(at - 1, at) - jumps < self.threshold

    def _steps(self, at: int) -> list[int]:
        """Where the nearest new pictures on both sides are; none where no picture is repeated."""
        limit = _REPEAT * self._seen[at].change
        new = [i for i in self._around(at - 2 * self._reach, at + 1 + self._reach) if self._seen[i].change >= limit]
        if not set(self._around(at - self.radius, at + 1 + self.radius)) - set(new):
            return []
        before, after = [i for i in new if i < at][-self.radius :], [i for i in new if i > at][: self.radius]
        # Steps on one side only are a cut between a still and motion, unless the file has no more on the other side.
        begins = at < 2 * self._reach and self._count == len(self._seen)
        ends = at + self._reach >= len(self._seen)
        return before + after if (before or begins) and (after or ends) else []

    def _mixed(self, start: int) -> tuple[int, int] | None:
        """End and start of the shots around one or two mixed frames before `start`, whose steps are small each."""
        for mixed in range(_MIXED, 0, -1):
            end = start - mixed
            if end < 2 or start + 1 >= len(self._seen):
                continue
            if sum(self._seen[i].step for i in range(end, start + 1)) < self.threshold - _ROUNDING:
                continue  # two pictures are no farther apart than the steps between them are long
            jump = self._apart(end - 1, start)
            if jump < self.threshold or not self._is_mix(end, start):
                continue
            if mixed < _MIXED and self._is_mix(end, start + 1):
                continue  # the next frame ends it
            if self._is_whole(end, start):
                spans = (*range(end - 1 - self.radius, end), *range(start + mixed + 1, start + mixed + 1 + self.radius))
                level = [self._apart(i - mixed - 1, i) for i in spans if i > mixed and i < len(self._seen)]
                if jump - (median(level) if level else 0.0) >= self.threshold:
                    return end, start
        return None

    def _is_mix(self, end: int, start: int) -> bool:
        """Whether all frames from `end` to before `start` mix the pictures on both sides."""
        if end < 1 or start >= len(self._seen):
            return False
        parts = [part for at in range(end, start) for part in self._shares(at, end, start)]
        return all(_PART[0] < part < _PART[1] and rest < _NEITHER for part, rest in parts)

    def _is_whole(self, end: int, start: int) -> bool:
        """Whether the change is over with `start` and not begun before `end`: a longer dissolve is none."""
        begun, over = self._shares(end - 2, end, start), self._shares(start + 1, end, start)
        apart = [hypot(part, rest) for part, rest in begun] + [hypot(part - 1, rest) for part, rest in over]
        return max(apart) < _STILL

    def _shares(self, at: int, end: int, start: int) -> list[tuple[float, float]]:
        """How much of the picture at `start`, not of that before `end`, a frame has: in luma, in colour, or in both.

        What hardly changes between the two is left out. Motion does less to colour, so there less is a change.
        """
        old, new, picture = (self._seen[i].thumb for i in (end - 1, start, at))
        luma, colour = luma_difference(old, new), colour_difference(old, new)
        kinds = [slice(0, 1)] if luma >= min(self.threshold, max(luma, colour)) else []
        kinds += [slice(1, 3)] if colour >= min(self.threshold / 2, max(luma, colour)) else []
        return [share(picture[kind], old[kind], new[kind]) for kind in kinds]

    def _came_back(self, end: int, start: int) -> bool:
        """Whether a picture from before is there again after a flash, which may begin or end here."""
        limit = _SAME * self._apart(end - 1, start)
        for earlier in range(min(self._flash, end - 1) + 1):
            before = end - 1 - earlier
            for after in range(start, min(start + self._flash - earlier + 1, len(self._seen))):
                if earlier + after > start and self._apart(before, after) <= limit:
                    return True
            # Between two flashes of different light, the picture itself looks like a mix of both.
            if any(self._apart(before, i) <= _SAME * self._apart(end - 1, i) for i in range(end, start) if earlier):
                return True
        return False

    def _apart(self, a: int, b: int) -> float:
        return distance(self._seen[a].thumb, self._seen[b].thumb)

    def _around(self, first: int, end: int) -> range:
        """Those of these positions that are kept, without the file's first frame: it has no difference."""
        lowest = 1 if self._count == len(self._seen) else 0
        return range(max(lowest, first), min(end, len(self._seen)))
