"""`ziggurat merge` by the command: what it makes, what it refuses, and that nothing is changed then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.pyramid.commits.commit import Committer
from curation.pyramid.lifecycle import combine
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from pipelines.cli import main
from pipelines.config.recipe import parsed, text_of
from tests.curation.pyramid.build import whole_video

TEXT = text_of("small")


def made(place: Path, *videos: str, text: str = TEXT) -> Pyramid:
    recipe = parsed(text, "test")
    pyramid = Pyramid.create(place, recipe.pyramid_tiers, recipe.name, recipe_text=text)
    for name in videos:
        Committer(pyramid).commit(whole_video(pyramid, name, 2))
    return pyramid


def files(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_it_is_made_and_works_as_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "a", "v1", "v2")
    made(tmp_path / "b", "v2", "v3", text=TEXT + "\n# the same in other words\n")
    assert main(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--to", str(tmp_path / "c"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"videos": 3, "clips": 6, "both": 1, "otherwise": 0, "taken_down": 0}
    assert main(["tiers", str(tmp_path / "c")]) == 0
    to = Pyramid.open(tmp_path / "c")
    assert to.recipe_text() == TEXT and to.query().count() == 6
    assert to.where(video_id="v2").columns("uri").to_table()["uri"].to_pylist() == ["/in/v2.mp4"] * 2


def test_what_was_cut_short_goes_on_and_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(made(tmp_path / name, f"v{name}").uri) for name in "ab"]
    command = ["merge", *places, "--to", str(tmp_path / "c")]
    with monkeypatch.context() as patch:
        patch.setattr(combine, "_bring", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(command) == 130
    capsys.readouterr()
    assert main(["query", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert f"ziggurat merge {places[0]} {places[1]} --to {tmp_path / 'c'}" in said and len(said.splitlines()) == 1
    assert main(["merge", *reversed(places), "--to", str(tmp_path / "c")]) == 2
    assert main(command) == 0
    assert Pyramid.open(tmp_path / "c").query().count() == 4
    assert main(command) == 2, "it is whole, and a pyramid like any other"


@pytest.mark.parametrize("case", ["twice", "there", "recipes", "thresholds", "none"])
def test_what_cannot_be_brought_together_is_one_line_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    first, to = made(tmp_path / "a", "v1"), str(tmp_path / "c")
    other = TEXT + "\n[rules]\nmin_duration_s = 3.0\n"
    second = made(tmp_path / "b", "v2", text=other if case == "recipes" else TEXT)
    if case == "thresholds":
        second.moving(lambda tiers: tiers.moved(tiers.names[0], "motion", Range(1.5, 9.0)))
    if case == "there":
        made(tmp_path / "c")
    before = files(tmp_path)
    names = {"twice": (first.uri, first.uri), "none": (first.uri, str(tmp_path / "none"))}
    assert main(["merge", *names.get(case, (first.uri, second.uri)), "--to", to]) == 2
    said = capsys.readouterr().err
    words = {
        "twice": "named twice", "there": "is a pyramid already", "recipes": "rules.min_duration_s 2.0 -> 3.0",
        "thresholds": "different thresholds", "none": "does not exist",
    }  # fmt: skip
    assert words[case] in said and len(said.strip().splitlines()) == 1
    assert files(tmp_path) == before
