"""Images and videos in one job, as a user runs it: from a folder to rows and stored bytes; a rerun does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import images, jobs, media, without_ray

RECIPE = jobs.RECIPE + "[images]\nfrom_folders = true\nmax_side = 128\n"
RECIPE = RECIPE.replace("[encode]", '[encode]\nimage = "png"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images") / "in"
    made.mkdir()
    media.make(made / "film.mp4", seconds=3)
    images.save(made / "small.jpg", images.picture(101, 77))
    images.save(made / "large.png", images.picture(256, 160))
    images.bomb(made / "bomb.png")
    return made


def test_one_job_takes_images_and_videos(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe, place = jobs.recipe(folder.parent, RECIPE), folder.parent / "p"
    assert main(["curate", str(folder), "--to", str(place), "--recipe", recipe, "--dry-run", "--json"]) == 0
    assert '"too_many_pixels": 1' in capfd.readouterr().out and not place.exists()
    done = without_ray.curate(folder, place, recipe)
    assert (done.summary["done"], done.summary["reasons"]) == (3, {"too_many_pixels": 1})
    assert done.summary["cut"] == done.summary["clips"] == 3
    pyramid = Pyramid.open(place)
    rows = {(row["width"], row["height"]): row for row in pyramid.dataset("clips").to_table().to_pylist()}
    assert {size: row["kind"] for size, row in rows.items()} == {
        (320, 180): "video",
        (101, 77): "image",
        (128, 80): "image",
    }
    for row in rows.values():
        still = row["kind"] == "image"
        assert (row["motion_why"], row["jitter_why"]) == (("image", "image") if still else (None, None))
        assert (row["motion"] is None, row["jitter"] is None, row["fps"] is None) == (still,) * 3
        assert row["sharpness"] > 0 and row["text_area"] is not None and row["media"]
    named = {row["clip_id"]: size for size, row in rows.items()}
    stored = dict(pyramid.samples(named))
    assert {named[name]: len(frames) for name, frames in stored.items()} == {
        (320, 180): 3,
        (101, 77): 1,
        (128, 80): 1,
    }
    ((_, content, _),) = pyramid.media([rows[128, 80]["clip_id"]])
    assert images.read(content).shape == (80, 128, 3)
    assert main(["why", str(place), "large.png"]) == 0
    assert "128x80 from 256x160" in capfd.readouterr().out
    again = without_ray.curate(folder, place, recipe)
    assert (again.summary["settled_before"], again.summary["frames_decoded"], again.summary["cut"]) == (4, 0, 0)
