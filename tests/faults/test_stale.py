"""P9: a filter's new version recomputes its own column of stale rows, and nothing else; a moved threshold nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from curation.contract import CLIPS
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from tests.support import jobs, without_ray


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    folder = tmp_path_factory.mktemp("first")
    videos, recipe = jobs.corpus(folder / "videos"), jobs.recipe(folder)
    without_ray.curate(videos, folder / "p", recipe)
    return videos, folder / "p", recipe


@pytest.fixture
def made(first: tuple[Path, Path, str], tmp_path: Path) -> tuple[Path, Path, str]:
    """The videos, a pyramid of them that is the test's own, and its recipe."""
    shutil.copytree(first[1], tmp_path / "p")
    return first[0], tmp_path / "p", first[2]


def rows(pyramid: Path) -> dict[str, dict]:
    table = Pyramid.open(pyramid).dataset("clips").to_table()
    return {row["clip_id"]: row for row in table.to_pylist()}


def patch(pyramid: Path, clip_ids: list[str], **columns: object) -> None:
    """Rows as an older version of a filter would have left them."""
    data = {"clip_id": clip_ids, **{name: [value] * len(clip_ids) for name, value in columns.items()}}
    table = pa.table(data, schema=pa.schema([CLIPS.field(name) for name in data]))
    Committer(Pyramid.open(pyramid)).commit(Batch(clip_updates=[table]))


def test_stale_rows_of_one_column_are_recomputed(made: tuple[Path, Path, str]) -> None:
    videos, pyramid, recipe = made
    before = rows(pyramid)
    chosen = before[sorted(before)[0]]
    mine = [clip for clip, row in before.items() if row["video_id"] == chosen["video_id"]]
    patch(
        pyramid, mine, motion=999.0, motion_by="vmafmotion-0-old", sharpness=777.0, sharpness_by=chosen["sharpness_by"]
    )
    texts = sorted(before)[-2:]
    patch(pyramid, texts, text_area=0.5, text_area_by="text_area-0-old")

    again = without_ray.curate(videos, pyramid, recipe)
    after = rows(pyramid)
    source = [row for row in before.values() if row["video_id"] == chosen["video_id"]]
    assert again.summary["frames_decoded"] == pytest.approx(
        sum(r["end_frame"] - r["start_frame"] for r in source), abs=2
    )
    assert again.summary["scored"] == {"text_area": 2}
    assert again.summary["cut"] == 0
    for clip, row in before.items():
        wanted = {**row, **({"sharpness": 777.0} if clip in mine else {})}  # its fingerprint is right: not touched
        assert after[clip] == wanted


def test_nothing_is_computed_when_nothing_is_stale_or_a_threshold_moves(made: tuple[Path, Path, str]) -> None:
    videos, pyramid, recipe = made
    before = rows(pyramid)
    ordered = sorted(row["motion"] for row in before.values())
    middle = (ordered[4] + ordered[5]) / 2
    moved = without_ray.run("tiers", str(pyramid), "--move", "moving", "--motion", f"{middle}..", "--json")
    assert moved.code == 0, moved.error
    assert {row["tier"] for row in rows(pyramid).values() if row["motion"] > middle} == {"moving"}
    assert {row["tier"] for row in rows(pyramid).values() if row["motion"] < middle} == {"all"}
    again = without_ray.curate(videos, pyramid, recipe)
    assert (again.summary["frames_decoded"], again.summary["scored"], again.summary["done"]) == (0, {}, 0)
    assert again.summary["settled_before"] == len(jobs.LENGTHS)
    assert {clip: row["motion"] for clip, row in rows(pyramid).items()} == {c: r["motion"] for c, r in before.items()}


def test_another_side_of_scores_measures_again_and_changes_nothing_else(made: tuple[Path, Path, str]) -> None:
    videos, pyramid, _ = made
    before = rows(pyramid)
    text = jobs.RECIPE.replace("[filters.ocr]", "[filters]\nscore_side = 120\n[filters.ocr]", 1)
    other = jobs.recipe(pyramid.parent, text)
    by = ("--recipe", other, "--replace-recipe", "--cpus", jobs.CPUS, "--json")
    told = without_ray.run("curate", str(pyramid), "--fill", *by)
    assert told.code == 0, told.error
    assert any("measured otherwise than the recipe says: 6;" in notice for notice in told.summary["notices"])
    assert rows(pyramid) == before
    again = without_ray.curate(videos, pyramid, other)
    after = rows(pyramid)
    assert again.summary["cut"] == 0 and again.summary["scored"] == {}
    changed = {name for clip, row in before.items() for name in row if row[name] != after[clip][name]}
    assert changed == {"motion", "motion_by", "sharpness", "sharpness_by", "laplacian"} and set(before) == set(after)
    assert without_ray.curate(videos, pyramid, other).summary["frames_decoded"] == 0


def test_a_video_that_a_new_recipe_cannot_judge_stays_and_waits_for_retry(made: tuple[Path, Path, str]) -> None:
    videos, pyramid, _ = made
    before = rows(pyramid)
    text = jobs.RECIPE.replace("[encode]", "[clips]\nmax_s = 3.0\n[encode]", 1)
    impatient = jobs.recipe(pyramid.parent, text.replace("[sandbox]", "[sandbox]\nwall_s = 0.02", 1))

    def tried(recipe: str, *options: str) -> dict[str, int]:
        to = ("--to", str(pyramid), "--recipe", recipe, "--replace-recipe", "--cpus", jobs.CPUS, "--json")
        again = without_ray.run("curate", str(videos), *to, *options)
        return {name: again.summary[name] for name in ("done", "quarantined", "settled_before")}

    many = len(jobs.LENGTHS)
    assert tried(impatient) == {"done": 0, "quarantined": many, "settled_before": 0}
    assert rows(pyramid) == before
    told = without_ray.run("tiers", str(pyramid), "--json")
    assert f"could not be measured as the recipe says and stay as they were: {many};" in told.error
    assert tried(impatient) == {"done": 0, "quarantined": 0, "settled_before": many}
    patient = jobs.recipe(pyramid.parent, text)
    assert tried(patient, "--retry") == {"done": many, "quarantined": 0, "settled_before": 0}
    assert not set(rows(pyramid)) & set(before)
