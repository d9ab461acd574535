"""What of a video is in no clip: before, between and behind its clips."""

from __future__ import annotations

from typing import Any

import pytest

from curation.pyramid.history.uncovered import Piece, uncovered

VIDEO = {"video_id": "v", "duration_s": 20.0, "fps": 10.0}


def clip(start: int, end: int, **other: Any) -> dict[str, Any]:
    row = {"video_id": "v", "kind": "video", "start_frame": start, "end_frame": end}
    return {**row, "start_s": start / 10, "end_s": end / 10, **other}


@pytest.mark.parametrize(
    ("clips", "pieces"),
    [
        ([clip(0, 200)], []),
        ([clip(0, 60), clip(64, 200)], [Piece(60, 64, 6.0, 6.4)]),
        ([clip(64, 200), clip(5, 60)], [Piece(0, 5, 0.0, 0.5), Piece(60, 64, 6.0, 6.4)]),
        ([clip(0, 191)], [Piece(191, None, 19.1, 20.0)]),
        ([clip(0, 200, end_s=19.97)], []),
        ([clip(0, 120), clip(60, 100), clip(110, 200)], []),
        ([clip(0, 200, video_id="another's"), clip(50, 200)], [Piece(0, 50, 0.0, 5.0)]),
        ([], []),
        ([clip(0, 1, kind="image", end_s=None)], []),
    ],
)
def test_what_is_in_no_clip(clips: list[dict[str, Any]], pieces: list[Piece]) -> None:
    assert uncovered(VIDEO, clips) == pieces


def test_a_video_whose_length_is_not_known_says_nothing_of_its_end() -> None:
    assert uncovered({**VIDEO, "duration_s": None}, [clip(2, 60)]) == [Piece(0, 2, 0.0, 0.2)]
