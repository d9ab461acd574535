"""`curate --dry-run` tells what a run would do and does nothing; what it reckons is what the run then comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.contract import Source
from curation.pyramid.store import Pyramid
from pipelines.cli import main
from pipelines.commands.dry_run import DRAWN, _Left, reckoned
from pipelines.execution.probe import Probed
from tests.support import jobs


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry")
    jobs.corpus(folder / "videos")
    (folder / "videos" / "no.mp4").write_bytes(b"no video at all" * 10)
    (folder / "videos" / "empty.mp4").write_bytes(b"")
    return folder


def told(folder: Path, recipe: str, *options: str) -> dict:
    to = ("--to", str(folder / "p"), "--recipe", recipe, "--dry-run", "--json", *options)
    done = jobs.run("curate", str(folder / "videos"), *to)
    assert done.code == 0, done.error
    (event,) = done.events
    return event


def everything(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_it_does_nothing_and_what_it_reckons_comes_true(here: Path) -> None:
    recipe, many = jobs.recipe(here), len(jobs.LENGTHS)
    before = told(here, recipe)
    assert not (here / "p").exists()
    assert (before["is_new"], before["inputs"], before["settled"], before["to_do"]) == (True, many + 2, 0, many + 2)
    outcomes = before["trial"]["outcomes"]
    assert outcomes == {"done": many, "empty": 1, "not_media": 1}
    done = jobs.curate(here / "videos", here / "p", recipe)
    stored = sum(
        path.stat().st_size
        for name in ("samples", "media")
        for path in (here / "p" / f"{name}.lance" / "data").rglob("*")
    )
    told_ = before["all_of_it"]
    assert (told_["clips"], told_["kept"]) == (done.summary["clips"], done.summary["cut"])
    assert told_["disk_bytes"] == pytest.approx(stored, rel=0.1)
    seconds = Pyramid.open(here / "p").dataset("videos").to_table()["duration_s"].drop_null().to_pylist()
    assert told_["source_hours"] == pytest.approx(sum(seconds) / 3600, rel=0.01)
    assert told_["cpu_hours"] > 0 and {"measure", "cut", "ocr"} <= set(before["trial"]["cpu_s"])

    left = everything(here / "p")
    after = told(here, recipe)
    assert (after["is_new"], after["settled"], after["to_do"]) == (False, many + 2, 0)
    assert after["trial"] is None and after["all_of_it"] is None
    assert everything(here / "p") == left, "nothing is written beside the datasets either"


def test_it_tells_what_another_recipe_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = jobs.recipe(
        here,
        jobs.RECIPE.replace("[encode]", "[clips]\nmax_s = 3.0\n[encode]").replace('tier = "all"', 'tier = "moving"'),
    )
    to = ["curate", str(here / "videos"), "--to", str(here / "p"), "--recipe", other, "--dry-run"]
    assert main(to) == 2
    assert "--replace-recipe" in capsys.readouterr().err
    assert main([*to, "--replace-recipe"]) == 0
    said = capsys.readouterr()
    assert "nothing was done" in said.out and "processor hours" in said.out
    assert "would take the place of test" in said.err


@pytest.mark.parametrize("more", [["--cpus", "2"], ["--address", "auto"], ["--fill"]])
def test_options_that_it_cannot_take_are_refused(here: Path, more: list[str]) -> None:
    assert main(["curate", str(here / "videos"), "--to", str(here / "p"), "--dry-run", *more]) == 2


def test_the_sources_of_the_trial_are_of_every_size() -> None:
    left = _Left()
    for number in range(3 * DRAWN):
        left.add(Source(f"/{number}", number + 1))
    sizes = [source.bytes for source in left.chosen(8)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 8
    assert all(abs(size - (place + 0.5) * 3 * DRAWN / 8) < DRAWN / 4 for place, size in enumerate(sizes))
    few = _Left()
    few.add(Source("/a", 1))
    assert [source.uri for source in few.chosen(8)] == ["/a"]


def test_what_is_reckoned_goes_by_bytes_or_by_number() -> None:
    trial = Probed(sources=2, bytes=100, seconds=72.0, clips=3, kept=2, kept_s=18.0, stored=50)
    trial.cpu_s.update({"measure": 3, "cut": 6})
    found = reckoned(trial, 20, 4000)
    assert found is not None
    assert (found.clips, found.kept, found.disk_bytes) == (120, 80, 2000)
    assert (found.source_hours, found.kept_hours, found.cpu_hours) == (0.8, 0.2, 0.1)
    by_number = reckoned(trial, 20, 0, by_bytes=False)
    assert by_number is not None and by_number.clips == 30
    assert reckoned(Probed(), 20, 4000) is None
