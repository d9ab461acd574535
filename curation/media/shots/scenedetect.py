"""PySceneDetect's detectors as `ShotDetector`s: the choices "adaptive" and "content" of `shots.DETECTORS`.

The detectors are PySceneDetect's own classes, driven one frame at a time on the small BGR picture that the
measuring pass makes anyway. They find hard cuts. Their defaults are for pictures 256 wide, which is what they
ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curation.media.shots.base import Boundary, DetectorMissingError, Picture, ShotDetector
from curation.media.shots.scene_score import FrameScore

if TYPE_CHECKING:
    from scenedetect import FrameTimecode, SceneDetector

# Only frame numbers go in and come out; a timecode cannot be made without a rate.
_ANY_RATE = 25.0
# Frames that must pass between two cuts; PySceneDetect's default.
_MIN_SHOT = 15


class SceneDetectShots:
    """Drives one PySceneDetect detector; see `adaptive` and `content` for the two that are offered."""

    __slots__ = ("_count", "_detector", "_lookahead", "_timecode")

    wants_picture: tuple[int, int] | None = (256, 0)

    def __init__(self, detector: SceneDetector, lookahead: int) -> None:
        from scenedetect import FrameTimecode

        self._timecode = FrameTimecode
        self._detector = detector
        self._lookahead = lookahead
        self._count = 0

    @property
    def lookahead(self) -> int:
        return self._lookahead

    def push(self, frame: FrameScore, picture: Picture | None) -> list[Boundary]:
        assert picture is not None, "this detector wants a picture"
        now = self._timecode(self._count, _ANY_RATE)
        self._count += 1
        return _boundaries(self._detector.process_frame(now, picture))

    def finish(self) -> list[Boundary]:
        if self._count == 0:
            return []
        return _boundaries(self._detector.post_process(self._timecode(self._count - 1, _ANY_RATE)))


def adaptive(
    threshold: float = 3.0, min_content: float = 15.0, window: int = 2, min_shot: int = _MIN_SHOT
) -> ShotDetector:
    """AdaptiveDetector: the content value against the mean of `window` frames on each side."""
    detectors = _detectors()
    return SceneDetectShots(
        detectors.AdaptiveDetector(
            adaptive_threshold=threshold,
            min_content_val=min_content,
            window_width=window,
            min_scene_len=min_shot,
        ),
        lookahead=window,
    )


def content(threshold: float = 27.0, min_shot: int = _MIN_SHOT) -> ShotDetector:
    """ContentDetector: the content value (hue, saturation, luma) against a fixed threshold."""
    # Cuts closer than min_shot are merged, and the merged one is told when min_shot quiet frames have passed.
    return SceneDetectShots(
        _detectors().ContentDetector(threshold=threshold, min_scene_len=min_shot), lookahead=min_shot
    )


def _detectors() -> Any:
    try:
        from scenedetect import detectors
    except ImportError as error:
        raise DetectorMissingError(
            "the shot detectors 'adaptive' and 'content' need PySceneDetect",
            "pip install scenedetect-headless",
        ) from error
    return detectors


def _boundaries(cuts: list[FrameTimecode]) -> list[Boundary]:
    # A cut at frame 0 would end a shot that has no frames.
    return [Boundary(cut.frame_num, cut.frame_num) for cut in cuts if cut.frame_num > 0]
