"""A clip while it is being measured: frames come in, and when its end is known all its measures are there.

Part of the measuring pass. Its length is not known before its end, so candidates for the sample and blur frames are
kept on a grid (four a second, fewer for huge pictures); the first and the last frame are always exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import cv2

from curation.contract import LAPLACIANS, Crop, Ending, Facts
from curation.media.frames import Planes, checksum_of
from curation.media.measures.blur import laplacian_variance, sharpness
from curation.media.measures.borders import Borders
from curation.media.measures.jitter import Jitter
from curation.media.measures.motion import Motion
from curation.media.measures.scored import ScoredSize
from curation.media.pictures.geometry import Plane, clip_size, displayed, upright, view
from curation.media.pictures.small import small_bgr
from curation.media.plan import MediaPlan
from curation.media.results import ClipMeasure
from curation.media.stream.rates import Cadence

SAMPLE_SIDE = 640
"""Longer side of a sample frame: what text detection works at, and more than CLIP needs."""

SAMPLE_QUALITY = 92
CANDIDATES_PER_S = 4.0
_GRID_PIXELS = 1920 * 1080


@dataclass(frozen=True, slots=True)
class Waiting:
    """A decoded frame on its way into a clip: its number, its time and the checksum of what was decoded.

    The planes are views of the frame's own memory.
    """

    index: int
    time_s: float
    check: int
    frame: av.VideoFrame
    planes: Planes


@dataclass(frozen=True, slots=True)
class _Kept:
    tick: int
    source: Waiting


class OpenClip:
    """One clip under measurement. `push` frames in order, then `close` with the index after its last one."""

    def __init__(
        self,
        facts: Facts,
        plan: MediaPlan,
        cadence: Cadence,
        shot: int,
        tick: int,
        key_s: float = 0.0,
        conversion: str | None = None,
    ) -> None:
        self._facts, self._plan, self._cadence, self._shot = facts, plan.clips, cadence, shot
        self._score_side = plan.score_side
        self._conversion = conversion
        self._first_tick = self._last_tick = tick
        self._least, self._most = plan.clips.lengths(float(cadence.fps))
        big = max(1.0, facts.coded_width * facts.coded_height / _GRID_PIXELS)
        self._grid = max(1, round(cadence.rate / CANDIDATES_PER_S * big**0.5))
        self._motion, self._jitter = Motion(), Jitter()
        self._borders = Borders(plan.clips.border_limit)
        self._candidates: list[_Kept] = []
        self._last: _Kept | None = None
        self._checks: list[int] = []
        self._start_frame = -1
        self._start_s, self._key_s = 0.0, key_s
        self._inside = Crop(0, 0, facts.coded_width // 2 * 2, facts.coded_height // 2 * 2)
        self._scored = self._scored_size()

    @property
    def frames(self) -> int:
        return self._last_tick - self._first_tick + 1

    def is_full(self, tick: int) -> bool:
        """Whether a frame at `tick` would make the clip longer than the plan's maximum."""
        return tick - self._first_tick >= self._most

    def push(self, tick: int, source: Waiting) -> None:
        """The next source frame; of one that the cadence drops only the checksum is kept."""
        self._checks.append(source.check)
        if self._last is not None and tick == self._last_tick:
            return
        if self._last is None:
            self._start_frame, self._start_s = source.index, source.time_s
        self._last_tick, self._last = tick, _Kept(tick, source)
        if not self._candidates or tick - self._candidates[-1].tick >= self._grid:
            self._candidates.append(self._last)
            self._look_for_borders(source.planes[0])
        y, u, v = source.planes
        inside = self._inside
        self._motion.push(*self._scored.for_motion(view(y, inside)))
        self._jitter.push(small_bgr(view(y, inside), view(u, inside, 2), view(v, inside, 2)))

    def close(self, end_frame: int, end_s: float, ending: Ending) -> ClipMeasure | None:
        """The finished clip, whose last picture ends at `end_s`; None where it is shorter than the plan's minimum."""
        if self.frames < self._least or self._last is None:
            return None
        assert len(self._checks) == end_frame - self._start_frame, "a clip holds every source frame between its ends"
        crop = self._inside
        width, height = clip_size(crop, self._facts, self._plan.max_side)
        grid = self._candidates if self._candidates[-1].tick == self._last.tick else [*self._candidates, self._last]
        variances = tuple(
            laplacian_variance(self._scored.for_sharpness(view(frame.planes[0], crop)))
            for frame in (_nearest(grid, self._at((i + 0.5) / LAPLACIANS)) for i in range(LAPLACIANS))
        )
        return ClipMeasure(
            shot=self._shot,
            start_s=self._start_s,
            end_s=end_s,
            start_frame=self._start_frame,
            end_frame=end_frame,
            key_s=self._key_s,
            crop=crop,
            width=width,
            height=height,
            fps=float(self._cadence.fps),
            frames=self.frames,
            ended_by=ending,
            first_check=self._checks[0],
            last_check=self._checks[-1],
            all_check=checksum_of(self._checks),
            conversion=self._conversion,
            motion=self._motion.mean(self.frames),
            jitter=self._jitter.mean(),
            laplacian=variances,
            sharpness=sharpness(variances),
            samples=tuple(self._sample(_nearest(grid, self._at(share)).frame, crop) for share in (0.0, 0.5, 1.0)),
        )

    def _at(self, share: float) -> float:
        return self._first_tick + share * (self.frames - 1)

    def _look_for_borders(self, luma: Plane) -> None:
        # Borders show in the first frame that is not dark. Frames before it are compared on the whole picture, and the
        # comparison starts again where the crop changes: the mean over a clip hardly feels it.
        if self._plan.remove_borders:
            self._borders.push(luma)
            self._inside = self._borders.crop()
            self._scored = self._scored_size()

    def _scored_size(self) -> ScoredSize:
        return ScoredSize.of(self._inside, self._facts, self._plan.max_side, self._score_side)

    def _sample(self, frame: av.VideoFrame, crop: Crop) -> bytes:
        shown = displayed(frame.width, frame.height, self._facts.sar, 0)
        inner = displayed(crop.width, crop.height, self._facts.sar, 0)
        scale = min(1.0, SAMPLE_SIDE / max(inner))
        width, height = max(2, round(shown[0] * scale)), max(2, round(shown[1] * scale))
        bgr = frame.reformat(width=width, height=height, format="bgr24", threads=1).to_ndarray()
        x, y = width / frame.width, height / frame.height
        left, top = round(crop.x * x), round(crop.y * y)
        part = bgr[top : top + max(1, round(crop.height * y)), left : left + max(1, round(crop.width * x))]
        part = upright(part, self._facts.rotation, self._facts.mirrored)
        _, jpeg = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, SAMPLE_QUALITY])
        return jpeg.tobytes()


def _nearest(frames: list[_Kept], tick: float) -> Waiting:
    return min(frames, key=lambda kept: abs(kept.tick - tick)).source
