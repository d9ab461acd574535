"""A pyramid of coloured clips, and the commands as a user types them, without Ray and in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.columns import add_spaces
from curation.pyramid.storage.fragments import write_samples_fragments
from curation.pyramid.store import Pyramid
from pipelines.cli import main
from pipelines.config.recipe import parsed
from pipelines.embedding.blocks import spaces
from tests.curation.pyramid import build
from tests.support import without_ray

HEAD = """
name = "test"
[filters.ocr]
enabled = false
[filters.aesthetic]
enabled = false
[[tiers]]
name = "all"
[[tiers]]
name = "moving"
motion = [3, inf]
"""
COLOURS = """
[[embeddings]]
name = "colours"
kind = "custom"
filter = "tests.pipelines.commands.similar.colours:Colours"
width = 3
"""
SHADES = {
    "dark blue": (120, 5, 5),
    "blue": (250, 60, 10),
    "green": (20, 240, 20),
    "teal": (110, 150, 10),
    "red": (10, 30, 240),
    "purple": (110, 0, 130),
    "unseen": None,
}
"""Of each clip, in order: `motion` is its number. The last one has no sample frames."""
CAPTIONS = dict(
    zip(SHADES, ("night sky", "a clear sky", "a meadow", "the sea", "a red fox", "a plum", "fog"), strict=True)
)


def frame(colour: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> bytes:
    picture = np.tile(np.array([[colour]], np.uint8), (*size, 1))
    return cv2.imencode(".jpg", picture)[1].tobytes()


def pyramid(folder: Path, blocks: str = COLOURS) -> Pyramid:
    """One video of seven clips, of which nothing is embedded."""
    text = HEAD + blocks
    recipe = parsed(text, "test")
    made = Pyramid.create(folder / "p", recipe.pyramid_tiers, "test", recipe_text=text, spaces=spaces(recipe))
    names = build.clip_ids("v1", len(SHADES))
    rows = [
        {"clip_id": name, "video_id": "v1", "motion": float(number), "sharpness": 20.0, "frames": 75, "fps": 25.0}
        | {"start_s": 3.0 * number, "end_s": 3.0 * number + 3, "caption": caption, "caption_by": "given"}
        for number, (name, caption) in enumerate(zip(names, CAPTIONS.values(), strict=True))
    ]
    frames = [(name, [frame(one)] * 3) for name, one in zip(names, SHADES.values(), strict=True) if one is not None]
    video = {"video_id": "v1", "uris": ["/in/v1.mp4"], "status": "done", "clips": len(names), "fingerprint": "plan-1"}
    ticket = write_samples_fragments(made.uri, frames, made.storage_options)
    Committer(made).commit(Batch(samples=[ticket], clips=build.clips(*rows), videos=build.videos(video)))
    return made


def named() -> dict[str, str]:
    """What each clip shows, by its id."""
    return dict(zip(build.clip_ids("v1", len(SHADES)), SHADES, strict=True))


def ids() -> dict[str, str]:
    return {shade: name for name, shade in named().items()}


def adopt(made: Pyramid, blocks: str) -> Pyramid:
    """Let the pyramid keep a recipe with these blocks, as `--replace-recipe` does."""
    text = HEAD + blocks
    recipe = parsed(text, "test")
    add_spaces(made, spaces(recipe))
    return made.with_recipe("test", text, recipe.pyramid_tiers, spaces=spaces(recipe))


class Typed:
    """`ziggurat` in this process; what it wrote is read by the test's `capfd`."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.error = ""

    def __call__(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """The objects on standard output, with `--json`; sees the command end with `code`."""
        self._capfd.readouterr()
        ended = main([*map(str, arguments), "--json"])
        out, self.error = self._capfd.readouterr()
        assert ended == code, self.error
        return [json.loads(line) for line in out.splitlines()]

    def summary(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        (found,) = [one for one in self(*arguments, code=code) if one["event"] == "summary"]
        return found


@contextmanager
def typed(capfd: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    with without_ray.here():
        yield Typed(capfd)
