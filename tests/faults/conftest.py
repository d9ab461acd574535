"""Two short videos and the pyramid that a run nobody disturbs makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import jobs, media, without_ray

RECIPE = jobs.WITHOUT_TEXT


@dataclass(frozen=True)
class Small:
    """What to curate, by which recipe, and what must come of it."""

    videos: Path
    recipe: str
    pyramid: Path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "0.mp4", (3, 2.5), sources=("testsrc2", "mandelbrot"), crf=28)
    media.scenes(folder / "videos" / "1.mp4", (4,), sources=("gradients",), crf=28)
    made = Small(folder / "videos", jobs.recipe(folder, RECIPE), folder / "pyramid")
    done = without_ray.curate(made.videos, made.pyramid, made.recipe)
    assert (done.summary["done"], done.summary["cut"]) == (2, 3)
    return made
