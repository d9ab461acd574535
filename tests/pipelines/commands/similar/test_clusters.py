"""`ziggurat clusters` by the command: clips of two kinds, a tier that caps them, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import jobs, media, without_ray
from tests.support.face import refused, said

RECIPE = jobs.WITHOUT_TEXT + "[clusters]\nnumber = 2\n" + '[[tiers]]\nname = "even"\ncrowding = [0, 0.5]\n'


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long video of one kind and a shorter one of another."""
    place = tmp_path_factory.mktemp("clusters")
    (place / "in").mkdir()
    for name, seconds, source in (("a.mp4", 24, "testsrc2"), ("b.mp4", 15, "mandelbrot")):
        media.make(place / "in" / name, seconds=seconds, source=source, crf=28)
    recipe = jobs.recipe(place, RECIPE.replace("[clusters]", "[clips]\nmin_s = 2.0\nmax_s = 2.4\n[clusters]"))
    without_ray.curate(place / "in", place / "pyramid", recipe)
    return place


def test_clusters_are_found_told_and_capped(curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = str(curated / "pyramid")
    clips = said(capsys, "query", pyramid, "--columns", "source")
    assert said(capsys, "query", pyramid, "--tier", "even") == []
    assert main(["query", pyramid, "--cluster", "1", "--count"]) == 0
    assert f"no clip of this pyramid has a cluster: `ziggurat clusters {pyramid}`" in capsys.readouterr().err
    told = refused(capsys, "query", pyramid, "--likeness", "..1.7")
    assert told == "ziggurat: no clip of this pyramid has a likeness; run `ziggurat duplicates` on it first"
    done = without_ray.run("clusters", pyramid, "--json")
    assert done.code == 0, done.error
    found = said(capsys, "query", pyramid, "--columns", "source,cluster,crowding")
    assert {row["source"]: row["cluster"] for row in found}.keys() == {"a.mp4", "b.mp4"}
    assert len({(row["source"], row["cluster"]) for row in found}) == 2 == len({row["cluster"] for row in found})
    assert any("clusters: 2; the largest" in told for told in done.summary["notices"])
    left = [row["source"] for row in said(capsys, "query", pyramid, "--tier", "even", "--columns", "source")]
    assert left.count("a.mp4") == left.count("b.mp4") == sum(row["source"] == "b.mp4" for row in clips)
    assert Pyramid.open(pyramid).about.scores == ("crowding",)
    (stats,) = said(capsys, "stats", pyramid)
    assert sum(stats["clusters"]["clips"].values()) == len(clips)


def test_what_is_wrong_is_a_line(curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, "clusters", str(tmp_path / "none"))
    for key, told in (
        ("number = 0", "clusters.number"),
        ('best = ["beauty"]', "no column 'beauty' to rank clips by"),
        ('tier = "none"', "clusters.tier"),
    ):
        recipe = jobs.recipe(tmp_path, jobs.WITHOUT_TEXT + f"[clusters]\n{key}\n")
        assert told in refused(capsys, "curate", str(curated / "in"), "--to", str(tmp_path / "p"), "--recipe", recipe)
    circle = '[clusters]\nspace = "text"\n[[captions]]\nname = "dense"\ntier = "even"\nmodel = "m"\n'
    circle += 'endpoint = "http://127.0.0.1:9/v1"\n[[tiers]]\nname = "even"\ncrowding = [0, 0.5]\n'
    recipe = jobs.recipe(tmp_path, jobs.WITHOUT_TEXT + circle)
    told = refused(capsys, "curate", str(curated / "in"), "--to", str(tmp_path / "p"), "--recipe", recipe)
    assert "bounds crowding, and clusters are of captions" in told
    for name, told in (("nothing", "no space 'nothing'"), ("clip", "has a vector in clip")):
        place = tmp_path / name
        place.mkdir()
        recipe = jobs.recipe(place, jobs.WITHOUT_TEXT + f'[clusters]\nspace = "{name}"\n')
        without_ray.curate(curated / "in" / "b.mp4", place / "p", recipe)
        assert told in without_ray.run("clusters", str(place / "p")).error
