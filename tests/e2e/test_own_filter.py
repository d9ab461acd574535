"""A filter from a package outside ours, as docs/filters.md shows it, through the commands that a user types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.support import jobs, media, without_ray

PAGE = (jobs.ROOT / "docs" / "filters.md").read_text().partition("## A filter of your own")[2].partition("\n## ")[0]
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(TABLES,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
HEAD = jobs.WITHOUT_TEXT.replace('"all"', '"no-logo"')
HEAD = HEAD.partition("[[tiers]]")[0] + '[cut]\ntier = "no-logo"\n'
SCORES = ("still_corner", "still")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, two videos (one moves, one has a corner that does not), and a pyramid of them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "packages" / "house").mkdir(parents=True)
    (folder / "packages" / "house" / "logo.py").write_text(CODE)
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "moves.mp4", (3,), sources=("testsrc2",), crf=28)
    media.scenes(folder / "videos" / "stands.mp4", (3,), sources=("smptebars",), crf=28)
    done = curate(folder, TABLES, by=jobs)  # by workers of Ray's, once
    assert (done.summary["done"], done.summary["scored"], done.summary["cut"]) == (
        2,
        {"still_corner": 2, "still": 2},
        1,
    )
    return folder


def curate(folder: Path, tables: str, *options: str, code: int = 0, by: ModuleType = without_ray) -> jobs.Finished:
    recipe = jobs.recipe(folder, HEAD + tables)
    to = ("--to", str(folder / "p"), "--recipe", recipe, "--cpus", jobs.CPUS, "--json", *options)
    done = by.run("curate", str(folder / "videos"), *to, PYTHONPATH=f"{folder / 'packages'}:{jobs.ROOT}")
    assert done.code == code, done.error
    return done


def rows(folder: Path) -> dict[str, dict]:
    table = Pyramid.open(folder / "p").query().columns(*Pyramid.open(folder / "p").query().whole().selected).to_table()
    return {Path(row["uri"]).stem: row for row in table.to_pylist()}


def test_its_scores_are_columns_like_ours(here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pyramid, found = str(here / "p"), rows(here)
    assert found["stands"]["still_corner"] == 1.0 and found["moves"]["still_corner"] < 0.9
    assert all(row[f"{score}_by"].startswith("logo-1-") for row in found.values() for score in SCORES)
    assert (found["moves"]["tier"], found["stands"]["tier"]) == ("no-logo", None)
    assert found["moves"]["media"] and not found["stands"]["media"]
    assert Pyramid.open(pyramid).about.scores == SCORES

    def said(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    assert said("query", pyramid, "--still-corner", "0.9..", "--count").split()[0] == "1"
    assert said("query", pyramid, "--still-by", found["moves"]["still_by"], "--count").split()[0] == "2"
    ordered = [json.loads(line) for line in said("query", pyramid, "--order", "-still", "--json").splitlines()]
    assert [row["source"] for row in ordered] == ["stands.mp4", "moves.mp4"]
    assert "still_corner" in said("why", pyramid, "stands.mp4")
    assert "still_corner" in said("tiers", pyramid)
    said("query", pyramid, "-o", str(tmp_path / "all.csv"))
    assert "still_corner_by" in (tmp_path / "all.csv").read_text().splitlines()[0]
    said("sheet", pyramid, "-o", str(tmp_path / "sheet.png"))
    said("upkeep", pyramid)
    assert "still" in {
        name for index in Pyramid.open(pyramid).dataset("clips").describe_indices() for name in index.field_names
    }
    assert said("query", pyramid, "--still-corner", "0.9..", "--count").split()[0] == "1"


def test_it_is_made_again_where_the_recipe_says_so_and_a_threshold_on_it_moves(here: Path) -> None:
    before = rows(here)
    assert curate(here, TABLES).summary["scored"] == {}
    again = curate(here, TABLES.replace('name = "logo"', 'name = "logo"\nversion = 2', 1), "--replace-recipe")
    assert again.summary["scored"] == {"still_corner": 2, "still": 2} and again.summary["frames_decoded"] == 0
    after = rows(here)
    assert all(row["still_by"].startswith("logo-2-") for row in after.values())
    assert {name: row["still"] for name, row in after.items()} == {name: row["still"] for name, row in before.items()}
    assert main(["tiers", str(here / "p"), "--move", "no-logo", "--still-corner", "..1"]) == 0
    assert {row["tier"] for row in rows(here).values()} == {"no-logo"}
    assert main(["tiers", str(here / "p"), "--move", "no-logo", "--stil-corner", "..1"]) == 2


def test_a_recipe_without_it_leaves_its_scores(here: Path) -> None:
    before = rows(here)
    curate(here, '[[tiers]]\nname = "no-logo"\n', "--replace-recipe")
    after = rows(here)
    assert Pyramid.open(here / "p").about.scores == SCORES
    assert all(after[name][score] == before[name][score] for name in before for score in SCORES)


def test_a_wrong_one_ends_the_command_before_it_has_done_anything(here: Path, tmp_path: Path) -> None:
    for name in ("packages", "videos"):
        (tmp_path / name).symlink_to(here / name)
    done = curate(tmp_path, TABLES.replace('["still_corner", "still"]', '["still_corner", "moves"]'), code=2)
    assert "gave still_corner, still in the place of" in done.error and "Traceback" not in done.error
    assert not (tmp_path / "p").exists()


def test_an_answer_that_is_none_is_a_null_with_its_reason(here: Path, tmp_path: Path) -> None:
    for name in ("packages", "videos"):
        (tmp_path / name).symlink_to(here / name)
    noisy = "np.abs(np.diff(frames[0].astype(int), axis=1)).mean() > 60"  # as what it is tried with
    code = CODE.replace("still.mean()}", f"still.mean() if {noisy} else float('nan')}}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "odd_logo.py").write_text(code)
    recipe = jobs.recipe(tmp_path, HEAD + TABLES.replace("house.logo", "odd_logo"))
    to = ("--to", str(tmp_path / "p"), "--recipe", recipe, "--cpus", jobs.CPUS, "--json")
    done = without_ray.run("curate", str(here / "videos"), *to, PYTHONPATH=f"{tmp_path / 'other'}:{jobs.ROOT}")
    assert done.code == 1, done.error
    for row in rows(tmp_path).values():
        assert (row["still"], row["still_corner"]) == (None, None)
        assert "which is no finite number" in row["still_why"] == row["still_corner_why"]
