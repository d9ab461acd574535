"""The picture on which a clip's frame is scored: at the clip's own size, or at a short side that all clips share.

Part of the measuring pass, between the picture inside its borders and the scores of this room. With a side in common
(`MediaPlan.score_side`) a score means the same at every size: the same scene moves by the same number of pixels. At the
clip's own size (side 0) the pixels scored are exactly those that the cutting pass encodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from curation.contract import Crop, Facts
from curation.media.pictures.geometry import Plane, clip_size, even, fit

_SOFTENING = 0.4
"""Sigma, in pixels of the smaller picture, of what is smoothed before a reduction. Chosen by `bench.curate.sides`: less
lets aliasing count as detail, more takes away detail where sizes differ by a small factor only."""


@dataclass(frozen=True, slots=True)
class ScoredSize:
    """Width and height of the pictures that are scored, as coded (not rotated), and whether it is a side in common."""

    width: int
    height: int
    shared: bool

    @classmethod
    def of(cls, crop: Crop, facts: Facts, max_side: int, side: int) -> ScoredSize:
        """`side`: the short side in pixels, also of clips that are smaller; 0 is the clip's own size."""
        width, height = clip_size(crop, facts, max_side)
        if side:
            scale = side / min(width, height)
            width, height = even(width * scale), even(height * scale)
        turned = facts.rotation in (90, 270)
        return cls(height if turned else width, width if turned else height, bool(side))

    def for_motion(self, plane: Plane) -> tuple[Plane, float]:
        """Luma for motion, in every frame, and its `scale` for `Motion.push`: reduced at little cost, for
        motion looks at smoothed pictures, and never enlarged, for it can smooth a smaller one by less.
        """
        if self.shared and plane.shape[0] < self.height:
            return plane, plane.shape[0] / self.height
        return fit(plane, self.width, self.height), 1.0

    def for_sharpness(self, plane: Plane) -> Plane:
        """Luma for sharpness, in few frames: reduced so that the finest detail left is the same from every size."""
        if not self.shared:
            return fit(plane, self.width, self.height)
        ratio = plane.shape[0] / self.height
        if ratio > 1:
            plane = cv2.GaussianBlur(plane, (0, 0), max(0.01, _SOFTENING * (ratio**2 - 1) ** 0.5))
        way = cv2.INTER_LINEAR if ratio > 1 else cv2.INTER_CUBIC
        if plane.shape == (self.height, self.width):
            return plane
        return cv2.resize(plane, (self.width, self.height), interpolation=way)
