"""`ziggurat duplicates` by the command: copies of real pictures, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import jobs, media, without_ray
from tests.support.face import refused, said

RECIPE = (
    jobs.WITHOUT_TEXT
    + '[duplicates]\nbest = ["pixels"]\ntier = "apart"\n[[tiers]]\nname = "apart"\nlikeness = [0, 1.7499]\n'
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and a copy of one, at half the size and mirrored."""
    place = tmp_path_factory.mktemp("duplicates")
    (place / "in").mkdir()
    whole = media.make(place / "in" / "a.mp4", seconds=2.5, source="mandelbrot", crf=20)
    media.make(place / "in" / "b.mp4", seconds=2.5, source="testsrc2", crf=20)
    media.write(place / "in" / "c.mp4", ffmpeg.input(str(whole)).video.hflip().filter("scale", 240, -2), crf=24)
    without_ray.curate(place / "in", place / "pyramid", jobs.recipe(place, RECIPE))
    return place


def test_copies_are_told_and_left_out(curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = str(curated / "pyramid")
    assert len(said(capsys, "query", pyramid)) == 3
    done = without_ray.run("duplicates", pyramid, "--json")
    assert done.code == 0, done.error
    told = "copies of better clips: 1; a range of likeness leaves them out (docs/duplicates.md)"
    assert told in done.summary["notices"]
    clips = said(capsys, "query", pyramid, "--columns", "clip_id,source,likeness,duplicate_of")
    by_source = {row["source"]: row for row in clips}
    assert by_source["c.mp4"]["duplicate_of"] == by_source["a.mp4"]["clip_id"]
    assert [row["duplicate_of"] for name, row in by_source.items() if name != "c.mp4"] == [None, None]
    left = said(capsys, "query", pyramid, "--likeness", "..1.7", "--columns", "source")
    assert sorted(row["source"] for row in left) == ["a.mp4", "b.mp4"]
    assert Pyramid.open(pyramid).about.scores == ("likeness",)
    apart = said(capsys, "query", pyramid, "--tier", "apart", "--columns", "source")
    assert sorted(row["source"] for row in apart) == ["a.mp4", "b.mp4"]


def test_when_the_best_is_taken_down_its_copy_stands(curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = str(curated / "pyramid")
    assert main(["forget", pyramid, "a.mp4", "--yes", "--json"]) == 0
    capsys.readouterr()
    columns = ("query", pyramid, "--columns", "source,likeness,duplicate_of")
    assert {row["source"]: row["likeness"] for row in said(capsys, *columns)}["c.mp4"] is None
    assert without_ray.run("duplicates", pyramid, "--json").code == 0
    left = {row["source"]: (row["likeness"], row["duplicate_of"]) for row in said(capsys, *columns)}
    assert left.keys() == {"b.mp4", "c.mp4"} and left["c.mp4"][0] < 1.7 and left["c.mp4"][1] is None


def test_what_is_wrong_is_a_line(curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, "duplicates", str(tmp_path / "none"))
    for key, told in (('best = ["beauty"]', "no column 'beauty' to rank clips by"), ("copy_from = 0.1", "copy_from")):
        recipe = jobs.recipe(tmp_path, jobs.WITHOUT_TEXT + f"[duplicates]\n{key}\n")
        assert told in refused(capsys, "curate", str(curated / "in"), "--to", str(tmp_path / "p"), "--recipe", recipe)
    recipe = jobs.recipe(tmp_path, jobs.WITHOUT_TEXT + '[duplicates]\ntier = "none"\n')
    assert "duplicates.tier" in refused(
        capsys, "curate", str(curated / "in"), "--to", str(tmp_path / "p"), "--recipe", recipe
    )
