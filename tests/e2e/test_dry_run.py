"""`curate --dry-run` tells what a run would do and does nothing; what it reckons is what the run then comes to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.contract import Source
from curation.pyramid.store import Pyramid
from pipelines.cli import main
from pipelines.commands.pyramid.dry_run import DRAWN, Left, reckoned, summed
from pipelines.doctor import hardware
from pipelines.execution.probe import Probed
from tests.support import jobs, without_ray

MANY = len(jobs.LENGTHS)
NOISY = """
class Noisy:
    def measure(self, clips):
        print("to standard output")
        return [self.value(frames[0]) for frames in clips]

    def value(self, frame):
        return 1.0
"""
FAILS = NOISY.replace("return 1.0", "return 1.0 if frame.shape == (360, 640, 3) else float('nan')")
OWN = '[[filters.custom]]\nname = "noisy"\nfilter = "noisy:Noisy"\n'


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry")
    jobs.corpus(folder / "videos")
    (folder / "videos" / "no.mp4").write_bytes(b"no video at all" * 10)
    (folder / "videos" / "empty.mp4").write_bytes(b"")
    (folder / "noisy.py").write_text(NOISY)
    return folder


def told(folder: Path, recipe: str, *options: str, videos: str = "videos", path: str = "") -> dict[str, Any]:
    to = ("--to", str(folder / "p"), "--recipe", recipe, "--dry-run", "--json", *options)
    done = without_ray.run("curate", str(folder / videos), *to, PYTHONPATH=f"{path}:{jobs.ROOT}")
    assert done.code == 0, done.error
    (event,) = done.events
    return event


def everything(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_it_does_nothing_and_what_it_reckons_comes_true(here: Path) -> None:
    recipe = jobs.recipe(here)
    left = everything(here)
    before = told(here, recipe)
    assert everything(here) == left
    assert (before["is_new"], before["inputs"], before["settled"], before["to_do"]) == (True, MANY + 2, 0, MANY + 2)
    assert before["trial"]["outcomes"] == {"done": MANY, "empty": 1, "not_media": 1}
    assert not any("size" in note for note in before["notes"]), "an empty file has a size"
    done = without_ray.curate(here / "videos", here / "p", recipe)
    stored = sum(
        path.stat().st_size
        for name in ("samples", "media")
        for path in (here / "p" / f"{name}.lance" / "data").rglob("*")
    )
    all_ = before["all_of_it"]
    assert (all_["clips"], all_["kept"]) == (done.summary["clips"], done.summary["cut"])
    assert all_["disk_bytes"] == pytest.approx(stored, rel=0.1)
    seconds = Pyramid.open(here / "p").dataset("videos").to_table()["duration_s"].drop_null().to_pylist()
    assert all_["source_hours"] == pytest.approx(sum(seconds) / 3600, rel=0.01)
    assert all_["cpu_hours"] > 0 and {"measure", "cut", "ocr"} <= set(before["trial"]["cpu_s"])

    left = everything(here)
    after = told(here, recipe)
    assert (after["is_new"], after["settled"], after["to_do"]) == (False, MANY + 2, 0)
    assert (after["trial"], after["all_of_it"], after["waiting"]) == (None, None, {})
    shutil.copytree(here / "videos", here / "moved", copy_function=shutil.copy)
    moved = told(here, recipe, videos="moved")
    assert (moved["settled"], moved["to_do"]) == (0, MANY + 2)
    # What failed by its bytes is known by its bytes, too; an empty file by its name alone.
    assert moved["trial"]["outcomes"]["known already"] >= MANY and moved["all_of_it"]["clips"] == 0
    assert everything(here / "p") == {one for one in left if one[0].startswith(str(here / "p") + "/")}


def test_it_goes_by_the_thresholds_in_force_and_tells_what_waits(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "p", tmp_path / "p")
    (tmp_path / "videos").mkdir()
    shutil.copy(here / "videos" / "0.mp4", tmp_path / "videos" / "0.mp4")
    with (tmp_path / "videos" / "0.mp4").open("ab") as file:
        file.write(b"another content")
    recipe = jobs.recipe(here)
    assert told(tmp_path, recipe)["trial"]["kept"] == 2
    assert main(["tiers", str(tmp_path / "p"), "--move", "all", "--motion", "1000.."]) == 0
    assert told(tmp_path, recipe)["trial"]["kept"] == 0


def test_it_tells_what_another_recipe_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = jobs.RECIPE.replace("[encode]", "[clips]\nmax_s = 3.0\n[encode]").replace('tier = "all"', 'tier = "moving"')
    other = jobs.recipe(here, text)
    to = ["curate", str(here / "videos"), "--to", str(here / "p"), "--recipe", other, "--dry-run"]
    assert main(to) == 2
    assert "--replace-recipe" in capsys.readouterr().err
    assert main([*to, "--replace-recipe"]) == 0
    said = capsys.readouterr()
    assert "would take the place of test" in said.err


def test_what_a_filter_prints_is_no_answer_and_what_it_fails_with_drops_its_clip(here: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(here / "videos")
    recipe = jobs.recipe(tmp_path, jobs.RECIPE.replace("[sandbox]", OWN + "[sandbox]"))
    fine = told(tmp_path, recipe, path=str(here))
    assert fine["trial"]["cpu_s"]["noisy"] > 0 and fine["trial"]["not_scored"] == 0
    (tmp_path / "noisy.py").write_text(FAILS)
    bounds = jobs.RECIPE.replace("[sandbox]", OWN + "[sandbox]")
    bounds = bounds.replace('name = "all"', 'name = "all"\nnoisy = [0.5, inf]')
    failing = told(tmp_path, jobs.recipe(tmp_path, bounds), path=str(tmp_path))
    assert failing["trial"]["not_scored"] == failing["trial"]["clips"] > 0 and failing["trial"]["kept"] == 0


@pytest.mark.parametrize("more", [["--to", "P", "--cpus", "2"], ["--to", "P", "--address", "auto"], ["--fill"]])
def test_options_that_it_cannot_take_are_refused(here: Path, more: list[str]) -> None:
    assert main(["curate", str(here / "p" if "--fill" in more else here / "videos"), "--dry-run", *more]) == 2


def test_the_sources_of_the_trial_stand_for_as_much_as_they_weigh() -> None:
    left = Left()
    for number in range(3 * DRAWN):
        left.add(Source(f"/{number}", 10**10 if number % 100 == 0 else 10**6, 1.0))
    sizes = [source.bytes for source in left.chosen(100)]
    share = sum(size == 10**10 for size in sizes) / len(sizes)
    assert share == pytest.approx(0.99, abs=0.02), "a hundredth of the sources is all but the whole of the bytes"
    unsized = Left()
    for number in range(3 * DRAWN):
        unsized.add(Source(f"/{number}", 0))
    assert len({source.uri for source in unsized.chosen(8)}) == 8
    few = Left()
    few.add(Source("/a", 1))
    few.add(Source("/b", 0, 5.0))
    assert [source.uri for source in few.chosen(8)] == ["/b", "/a"] and few.unsized == 0


def probed(size: int, seconds: float) -> Probed:
    found = Probed(sources=1, bytes=size, seconds=seconds, clips=2, kept=1, kept_s=seconds / 2, stored=size)
    found.outcomes["done"] = 1
    found.cpu_s = {"measure": seconds, "cut": 2 * seconds}
    return found


def test_what_is_reckoned_goes_by_bytes_and_for_sources_of_unknown_size_by_number() -> None:
    small, large = probed(10, 3.6), probed(1000, 36.0)
    left = Left(number=100, bytes=10_000)
    found = reckoned([small, large], left)
    # 0.36 and 0.036 seconds for a byte; one in the mean is stored for each.
    assert found.source_hours == pytest.approx(0.198 * 10_000 / 3600) and found.disk_bytes == 10_000
    assert found.cpu_hours == pytest.approx(3 * found.source_hours)
    assert found.hours == pytest.approx(found.cpu_hours / hardware.cpus())
    more = reckoned([small, large], Left(number=110, bytes=10_000, unsized=10))
    assert more.source_hours == pytest.approx(found.source_hours + 10 * 19.8 / 3600)
    assert reckoned([small, large], Left(number=2, bytes=1010)).source_hours == pytest.approx(39.6 / 3600)


def test_a_source_that_was_chosen_twice_is_told_once() -> None:
    one, other = probed(10, 1.0), probed(10, 2.0)
    total = summed([one, one, other])
    assert (total.sources, total.seconds, total.outcomes["done"]) == (2, 3.0, 2)
    assert total.cpu_s == {"measure": 3.0, "cut": 6.0} and json.dumps(total.outcomes)
