"""Pyramids whose clips are of known sizes, for the tests of manifests; also what their child processes run."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curation.pyramid.commits.commit import Committer
from curation.pyramid.store import Pyramid
from curation.shards import folder, freezing
from curation.shards.freezing import Order, freeze
from tests.curation.pyramid.build import clip_ids, clips, whole_image, whole_video

SIZE = {"width": 320, "height": 180, "frames": 60, "fps": 24.0}


def filled(pyramid: Pyramid, video_id: str, count: int = 3, **values: Any) -> list[str]:
    """Commit a video with clips of one size, all cut, with captions; their ids."""
    batch = whole_video(pyramid, video_id, count)
    assert batch.clips is not None
    facts = {**SIZE, "caption": f"clip of {video_id}", "caption_by": "given", **values}
    Committer(pyramid).commit(replace(batch, clips=clips(*(row | facts for row in batch.clips.to_pylist()))))
    return clip_ids(video_id, count)


def pictured(pyramid: Pyramid, video_id: str, **values: Any) -> None:
    """Commit an image of 320x180."""
    facts = {"width": 320, "height": 180, "caption": "an image", "caption_by": "given"}
    Committer(pyramid).commit(whole_image(pyramid, video_id, **facts | values))


@dataclass(frozen=True)
class Placed:
    """A bucket, as a rule would give it."""

    frames: int
    fps: float | None
    resolution: str = "128px"
    ratio: str = "16:9"
    height: int = 96
    width: int = 160
    batch: int = 2
    interval: int = 1


def assign(number: int, clip: Mapping[str, Any]) -> Placed | str:
    """A rule that leaves out what is small, and images apart takes every frame up to 16."""
    if clip["width"] < 100:
        return "too small"
    return Placed(1, None) if clip["kind"] == "image" else Placed(16, clip["fps"])


def order(name: str, **values: Any) -> Order:
    words: dict[str, Any] = {"tier": None, "query": (), "preset": "mine", "table": "", "seed": 42, "made_by": "test"}
    return Order(name=name, **{**words, **values})


def die_in_freeze(uri: str, step: int) -> None:
    """Child: kill -9 itself in a freeze called "n": before anything is read, before the table is written, before the
    head is, before the head has its name.
    """
    pyramid = Pyramid.open(uri)

    def die(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    if step == 0:
        freezing._frozen = die
    elif step == 1:
        folder.put = freezing.folder.put = die
    elif step == 2:
        folder._put_new = die
    else:
        os.link = die
    freeze(pyramid, pyramid.query(), assign, order("n"))
    raise AssertionError("it was to die")
