"""Which sample frames a model sees, and at what size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.caption.pictures import chosen, reduced


@pytest.mark.parametrize(("count", "frames"), [(1, "m"), (2, "fl"), (3, "fml"), (5, "fml")])
def test_frames_are_spread_over_the_clip(count: int, frames: str) -> None:
    assert "".join(chosen("fml", count)) == frames
    assert chosen(("image",), count) == ("image",) and chosen((), count) == ()


@pytest.mark.parametrize(("height", "width", "size"), [(100, 200, (50, 100)), (300, 3, (100, 1)), (40, 60, (40, 60))])
def test_no_side_is_longer_than_was_said(height: int, width: int, size: tuple[int, int]) -> None:
    file = reduced(np.full((height, width, 3), 90, np.uint8), 100)
    assert file[:2] == b"\xff\xd8"
    found = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None and found.shape[:2] == size
