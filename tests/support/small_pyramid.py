"""A pyramid of two videos, three clips, and two images, with manifests: for what encodes and trains."""

from __future__ import annotations

from pathlib import Path

from pipelines.commands.shards.freeze import Request, freeze
from tests.support import images, jobs, media, without_ray

RECIPE = jobs.WITHOUT_TEXT + "[images]\nfrom_folders = true\n"
TABLE = """
side_multiple = 32
[buckets.128px]
1 = { batch = 4, p = 1.0 }
8 = { batch = 2, p = 1.0 }
"""


def curated(place: Path) -> Path:
    """`place/pyramid`, with the manifest "one" of all and "two" of the videos; the table of buckets beside it."""
    videos = place / "videos"
    videos.mkdir()
    media.scenes(videos / "a.mp4", (2.5, 3), sources=("testsrc2", "mandelbrot"), crf=28)
    media.make(videos / "b.mp4", seconds=2.5, fps=50, source="gradients")
    for number in range(2):
        images.save(videos / f"{number}.png", images.picture(200 + number, 150))
    (place / "table.toml").write_text(TABLE)
    without_ray.curate(videos, place / "pyramid", jobs.recipe(place, RECIPE))
    for name in ("one", "two"):
        frozen(place, name, *(() if name == "one" else ("--kind", "video")))
    return place


def frozen(place: Path, name: str, *conditions: str, table: str = "table.toml") -> str:
    """A manifest of these conditions' clips; what a command calls it."""
    pyramid = str(place / "pyramid")
    freeze(Request(pyramid, name, conditions, preset=str(place / table), without_captions=True))
    return f"{pyramid}#{name}"
