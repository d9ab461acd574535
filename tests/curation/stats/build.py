"""A small pyramid of which every number of its statistics is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curation.contract import CLIPS, VIDEOS
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, table

CAPTIONS = (
    "A fox runs in the snow.",
    "a fox",
    "The same. The same.",
    "The same. The same.",
    "The same. The same.",
    None,
)


def clip(number: int, **values: Any) -> dict[str, Any]:
    """A clip of two, three, ... seconds."""
    text = CAPTIONS[number % len(CAPTIONS)]
    row = {
        "clip_id": f"{number:032x}",
        "video_id": f"v{number % 3}",
        "kind": "video",
        "media": "00",
        "ended_by": "shot",
    }
    row |= {"width": 1600, "height": 900, "fps": 10.0, "frames": 20 + 10 * number, "motion": float(number)}
    row |= {"aesthetic": 4.0 + number / 4, "caption": text, "caption_by": "given" if number == 1 else "dense/m/0"}
    row |= {"caption_why": None if text else "caption_loops: what it said", "cluster": number % 2}
    return row | values


def clips() -> list[dict[str, Any]]:
    """Twelve clips and an image; two have no aesthetic score, and one is not cut."""
    rows = [clip(number) for number in range(12)]
    rows[3] |= {"aesthetic": None, "aesthetic_why": "weights missing"}
    rows[4] |= {"aesthetic": None, "media": None, "media_why": "timed_out: 3 s"}
    image = {"kind": "image", "fps": None, "frames": 1, "width": 500, "height": 1000, "motion": None, "cluster": None}
    return [*rows, clip(12, **image, motion_why="image")]


def filled(place: Path) -> Pyramid:
    """The pyramid, of three videos with clips and two without."""
    made = Pyramid.create(place, TIERS, "test")
    made.dataset("clips").insert(table(clips(), CLIPS, *CLIPS.names))
    names = ("/in/day/a.mp4", "s3://bucket/night/b.mp4?region=x", "/in/day/c.mp4")
    rows: list[dict[str, Any]] = [
        {"video_id": f"v{at}", "uris": [name], "status": "done", "extra": json.dumps({"label": "cat" if at else "dog"})}
        for at, name in enumerate(names)
    ]
    rows += [{"video_id": "x", "uris": ["/in/x"], "status": "rejected", "reason": "too_short"}]
    rows += [{"video_id": "y", "uris": ["/in/y"], "status": "quarantined", "reason": "timed_out"}]
    made.dataset("videos").insert(table(rows, VIDEOS, *VIDEOS.names))
    return made
