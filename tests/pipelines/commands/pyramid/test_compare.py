"""`ziggurat compare`: recipes and thresholds that differ, the sheet, and pyramids that are not a plain pair."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from pipelines.cli import main
from pipelines.commands.pyramid.compare import compare
from pipelines.config.recipe import Recipe, parsed
from pipelines.sheet.layout import DROPPED, KEPT
from tests.curation.pyramid import build
from tests.pipelines.sheet.test_contact_sheet import FRAME_COLOURS, jpeg
from tests.support import jobs

OWN = '[[filters.custom]]\nname = "logo"\nfilter = "house.logo:Logo"\nscores = ["still"]\n'


def made(place: Path, text: str | None = jobs.RECIPE, videos: int = 2, plan: str = "plan-1") -> Pyramid:
    recipe = Recipe(name="none") if text is None else parsed(text, "test")
    pyramid = Pyramid.create(place, recipe.pyramid_tiers, "test", recipe_text=text, scores=recipe.own_scores)
    for number in range(videos):
        build.Committer(pyramid).commit(build.whole_video(pyramid, f"v{number}", 3, plan))
    return pyramid


def test_recipe_keys_and_thresholds_in_force_that_differ(tmp_path: Path) -> None:
    a = made(tmp_path / "a")
    b = made(tmp_path / "b", jobs.RECIPE.replace("crf = 30", "crf = 20") + "[shots]\ntrim_frames = 2\n")
    b.moving(lambda tiers: tiers.moved("moving", "motion", Range(1.5, 16)))
    found = compare(a.uri, b.uri)
    assert found.recipe == {"shots.trim_frames": ("0", "2"), "encode.crf": ("30", "20")}
    assert found.thresholds == {"moving.motion": ("0.2..", "1.5..16")}
    assert found.a.plan != found.b.plan and not found.notes
    assert found.found.clips.unchanged == 6 and found.found.a.clips == 6
    assert found.found.a.tiers == {"all": 6, "moving": 4} and found.found.b.tiers == {"all": 6, "moving": 2}


@pytest.mark.parametrize("text", [None, "name = 'x'\nnonsense = 1\n"], ids=["none", "unreadable"])
def test_a_recipe_that_cannot_be_compared_is_told(text: str | None, tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", None)
    if text is not None:
        b = b.with_recipe("x", text, b.tiers)
    found = compare(a.uri, b.uri)
    assert [note.endswith("recipe keys are not compared") for note in found.notes] == [True]
    assert found.recipe == {} and found.found.clips.unchanged == 6


def test_scores_of_its_own_and_other_plans_do_not_matter(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", jobs.RECIPE + OWN, plan="plan-2")
    found = compare(a.uri, b.uri, str(tmp_path / "sheet.png"))
    assert found.found.clips.unchanged == 6 and found.sheet is None
    assert found.notes == (f"no clip differs: {tmp_path / 'sheet.png'} was not written",)
    assert not (tmp_path / "sheet.png").exists()
    assert set(found.recipe) == {"filters.custom"}


def test_the_same_pyramid_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = made(tmp_path / "a")
    assert main(["compare", a.uri, f"{a.uri}/", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["notes"] == ["A and B are the same pyramid"]
    assert told["clips"]["unchanged"] == 6 and told["clips"]["only_a"] == told["clips"]["only_b"] == 0
    assert told["recipe"] == told["thresholds"] == {} and told["videos"] == {"differ": [], "some": []}


@pytest.mark.parametrize("which", ["missing", "folder"])
def test_what_is_no_pyramid_is_one_line(which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = made(tmp_path / "a", videos=0)
    (tmp_path / "folder").mkdir()
    assert main(["compare", a.uri, str(tmp_path / which)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and ("does not exist" if which == "missing" else "is not a pyramid") in told[0]


def test_a_sheet_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "nowhere", "nothing", "-o", str(tmp_path / "sheet.html")]) == 2
    assert "is not a .png file" in capsys.readouterr().err


def test_empty_pyramids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = made(tmp_path / "a", videos=0), made(tmp_path / "b", videos=1)
    assert main(["compare", a.uri, b.uri]) == 0
    told = capsys.readouterr().out
    assert "1 videos: not there in A, done in B" in told


def test_the_sheet_shows_each_group_with_its_frames(tmp_path: Path) -> None:
    """A has v0 and v1, B has v1 and v2, and in B one clip takes the place of two of v1: it stands beside both."""
    frames = [jpeg(colour) for colour in FRAME_COLOURS]
    a, b = (Pyramid.create(tmp_path / name, build.TIERS, "test") for name in "ab")
    for pyramid, names in ((a, ("v0", "v1")), (b, ("v1", "v2"))):
        for name in names:
            ids = build.clip_ids(name, 3)
            batch = build.whole_video(pyramid, name, 3)
            assert batch.clips is not None
            rows = batch.clips.to_pylist()
            if pyramid is b and name == "v1":
                rows[1:] = [rows[1] | {"clip_id": "f" * 32, "end_frame": 150, "end_s": 6.0}]
                ids[1:] = ["f" * 32]
            samples = [build.write_samples_fragments(pyramid.uri, ((i, frames) for i in ids), None)]
            media = [build.write_media_fragments(pyramid.uri, ((i, i.encode()) for i in ids), None)]
            batch = build.Batch(media=media, samples=samples, clips=build.clips(*rows), videos=batch.videos)
            build.Committer(pyramid).commit(batch)
    output = tmp_path / "sheet.png"
    found = compare(a.uri, b.uri, str(output))
    counts = found.found.clips
    assert (counts.unchanged, counts.only_a, counts.only_b) == (1, 3, 3)
    assert (counts.changed_a, counts.changed_b) == (2, 1)
    assert (found.sheet, found.drawn) == (str(output), 10)
    picture = cv2.imread(str(output))
    assert picture is not None
    middle = (abs(picture.astype(int) - FRAME_COLOURS[1]).max(axis=2) < 12).sum()
    assert middle > 9.5 * 32_000, "every tile shows the middle frame of its clip"
    for edge in (DROPPED, KEPT):
        assert (picture == edge).all(axis=2).sum() >= 5 * 4 * 138
