"""The pyramid keeps its word through whole runs: recipe, thresholds, plans, what failed, and what was left to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import pyarrow as pa
import pytest

from curation.contract import CLIPS
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from pipelines.cli import main
from tests.support import jobs, media, without_ray

RECIPE = jobs.RECIPE.replace('from_tier = "all"', 'from_tier = "moving"').replace('tier = "all"', 'tier = "moving"')
RECIPE = RECIPE.replace("[0.2, inf]", "[1000.0, inf]")
"""Measures everything, and reads and cuts nothing until the threshold moves."""

SLOWER = RECIPE.replace("[encode]", "[clips]\nmax_fps = 8.0\n[encode]")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("word")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "0.mp4", (3, 2.5), sources=("testsrc2", "mandelbrot"), crf=28)
    media.scenes(folder / "videos" / "1.mp4", (4,), sources=("gradients",), crf=28)
    (folder / "videos" / "no.mp4").write_bytes(b"no video at all")
    done = without_ray.curate(folder / "videos", folder / "p", jobs.recipe(folder, RECIPE))
    assert (done.summary["done"], done.summary["cut"], done.summary["scored"]) == (2, 0, {})
    return folder


@pytest.fixture
def here(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "here")
    return tmp_path / "here"


def tiers_of(pyramid: Pyramid) -> dict[str, str | None]:
    return {row["clip_id"]: row["tier"] for row in pyramid.dataset("clips").to_table().to_pylist()}


def test_curate_again_undoes_no_move_and_speaks_of_the_whole_pyramid(here: Path, first: Path) -> None:
    pyramid = here / "p"
    assert main(["tiers", str(pyramid), "--move", "moving", "--motion", "0..", "--jitter", "..1000"]) == 0
    moved = opened(pyramid)
    assert set(tiers_of(moved).values()) == {"moving"}
    # Without a recipe, and under the names that the videos had.
    again = without_ray.run("curate", str(first / "videos"), "--to", str(pyramid), "--cpus", jobs.CPUS, "--json")
    assert again.code == 0, again.error
    now = opened(pyramid)
    assert now.tiers == moved.tiers and now.recipe_text() == RECIPE
    assert set(tiers_of(now).values()) == {"moving"}
    assert (again.summary["settled_before"], again.summary["done"]) == (3, 0)
    assert again.summary["pyramid"] == {
        "videos": {"done": 2, "rejected": 1},
        "reasons": {"not_media": 1},
        "clips": 3,
        "cut": 3,
        "tiers": {"all": 3, "moving": 3},
    }
    assert again.summary["scored"] == {"text_area": 3} and again.summary["cut"] == 3, "a run fills what a move left"


def test_another_recipe_is_refused_before_anything_starts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid, other = str(here / "p"), jobs.recipe(here, SLOWER)
    before = {path: path.read_bytes() for path in (here / "p").glob("*.json")}
    for command in (("curate", str(here / "videos"), "--to", pyramid), ("cut", pyramid, "--tier", "all")):
        assert main([*command, "--recipe", other]) == 2
        said = capsys.readouterr().err
        assert "clips.max_fps" in said and "-> 8.0" in said and said.count("\n") == 1
    assert main(["curate", str(here / "videos"), "--to", pyramid, "--recipe", "small"]) == 2
    assert {path: path.read_bytes() for path in (here / "p").glob("*.json")} == before
    assert len(list((here / "p" / "runs").iterdir())) == 1


def test_fill_completes_the_tier_and_tries_again_what_may_pass(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = here / "p"
    assert main(["tiers", str(pyramid), "--move", "moving", "--motion", "0.."]) == 0
    assert f"3 for text_area, 3 to be cut; `ziggurat curate {pyramid} --fill`" in capsys.readouterr().err
    ids = sorted(tiers_of(opened(pyramid)))
    whys = {"clip_id": ids[:2], "media_why": ["unreadable: the network", "broken: its data"]}
    table = pa.table(whys, schema=pa.schema([CLIPS.field(name) for name in whys]))
    Committer(opened(pyramid)).commit(Batch(clip_updates=[table]))

    done = without_ray.run("curate", str(pyramid), "--fill", "--cpus", jobs.CPUS, "--json")
    assert done.code == 0, done.error
    assert (done.summary["scored"], done.summary["cut"], done.summary["inputs"]) == ({"text_area": 3}, 2, 0)
    rows = {row["clip_id"]: row for row in opened(pyramid).query().to_table().to_pylist()}
    assert all(row["text_area"] is not None for row in rows.values())
    assert [(rows[name]["media"] is not None, rows[name]["media_why"]) for name in ids] == [
        (True, None),
        (False, "broken: its data"),
        (True, None),
    ]
    assert main(["tiers", str(pyramid), "--move", "moving", "--motion", "0.01.."]) == 0
    assert "clips wait" not in capsys.readouterr().err
    again = without_ray.run("cut", str(pyramid), "--tier", "moving", "--retry", "--cpus", jobs.CPUS, "--json")
    assert (again.code, again.summary["cut"]) == (0, 1), again.error
    assert opened(pyramid).query().having("media").count() == 3


def test_clips_are_cut_as_they_were_measured_whatever_the_recipe_says_now(here: Path, tmp_path: Path) -> None:
    pyramid = here / "p"
    before = {row["clip_id"]: row for row in opened(pyramid).query().to_table().to_pylist()}
    other = jobs.recipe(here, SLOWER)
    done = without_ray.run(
        "cut", str(pyramid), "--tier", "all", "--recipe", other, "--replace-recipe", "--cpus", jobs.CPUS, "--json"
    )
    assert done.code == 0, done.error
    assert done.summary["cut"] == 3 and opened(pyramid).recipe_text() == SLOWER
    assert main(["query", str(pyramid), "--output", str(tmp_path / "clips")]) == 0
    for name, row in before.items():
        assert row["plan"] is not None
        with av.open(str(tmp_path / "clips" / f"{name}.mp4")) as container:
            stream = container.streams.video[0]
            assert sum(1 for _ in container.decode(stream)) == row["frames"]
            assert stream.average_rate is not None
            assert float(stream.average_rate) == pytest.approx(row["fps"], rel=1e-3) and row["fps"] > 8


def test_rejected_videos_are_listed_and_exported(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["query", str(here / "p"), "--videos", "--status", "rejected"]
    assert main([*command, "--count"]) == 0
    assert capsys.readouterr().out == "1\n"
    assert main([*command, "--reason", "not_media", "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["uris"][0].endswith("/no.mp4") and row["status"] == "rejected" and row["reason"] == "not_media"
    for suffix in ("csv", "jsonl", "parquet"):
        assert main([*command, "-o", str(tmp_path / f"out.{suffix}")]) == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "out.jsonl").read_text()) == row
    assert [path.name for path in tmp_path.glob(".*")] == []
    capsys.readouterr()
    assert main([*command]) == 0
    assert "not_media" in capsys.readouterr().out
    for wrong in (["--status", "lost"], ["--reason", "x"], ["--motion", "1.."], ["--tier", "all"], ["-o", "a.mp4"]):
        assert main(["query", str(here / "p"), "--videos", *wrong]) == 2
    assert main(["query", str(here / "p"), "--status", "rejected"]) == 2
    assert main(["curate", str(here / "p"), "--fill", "--to", str(here / "p")]) == 2
    assert main(["curate", str(here / "videos")]) == 2


def test_a_run_leaves_a_record(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyramid = first / "p"
    assert main(["runs", str(pyramid), "--json"]) == 0
    (run,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (run["state"], run["exit"], run["recipe"], run["recipe_version"], run["stage"]) == (
        "done",
        0,
        "test",
        1,
        None,
    )
    assert run["command"][:2] == ["ziggurat", "curate"] and str(pyramid) in run["command"]
    assert (run["account"]["done"], run["account"]["reasons"]) == (2, {"not_media": 1})
    assert run["account"]["inputs"] == 3 and run["nodes"] and {"python", "ray", "av"} <= set(run["versions"])
    assert run["started"] <= run["ended"]
    assert {row["job"] for row in opened(pyramid).dataset("videos").to_table().to_pylist()} == {run["run"]}
    assert main(["runs", str(pyramid), run["run"][:10]]) == 0
    told = capsys.readouterr().out
    assert "curate" in told and "done" in told and run["run"] in told
    assert main(["runs", str(pyramid), "nosuch"]) == 2
