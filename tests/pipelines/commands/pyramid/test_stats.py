"""`ziggurat stats` as a person types it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.curation.stats.build import filled
from tests.support.face import refused, said

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return filled(tmp_path_factory.mktemp("stats") / "p")


def test_a_screen_shows_the_numbers(pyramid: Pyramid, capsys: Captured) -> None:
    assert main(["stats", pyramid.uri, "--by", "label"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "13 clips (1 image, 12 video)",
        "weights missing 1",
        "words: fox 5",
        "11 clips share 3 texts",
        "by label",
    ):
        assert words in shown, shown


def test_a_folder_holds_the_numbers_and_the_figures(pyramid: Pyramid, capsys: Captured, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install '.[stats]'")
    out = tmp_path / "out"
    given = (pyramid.uri, "--tier", "low", "--motion", "..9", "--caption-by", "dense", "-o", str(out))
    (told,) = said(capsys, "stats", *given)
    assert told == json.loads((out / "stats.json").read_text())
    assert (told["schema"], told["tier"], told["query"], told["clips"]) == (1, "low", ["motion 1..", "motion ..9"], 10)
    assert told["caption_by"] == ["dense"] and told["captions"]["by"]["clips"] == {"dense/m/0": 8}
    assert {"distributions.png", "distributions.svg", "words.png", "words.svg"} <= {one.name for one in out.iterdir()}
    assert "not empty" in refused(capsys, "stats", *given)


def test_what_is_wrong_is_one_line(
    pyramid: Pyramid, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no column 'nothing'" in refused(capsys, "stats", pyramid.uri, "--by", "nothing")
    assert "tier" in refused(capsys, "stats", pyramid.uri, "--tier", "none")
    assert "no option --motio" in refused(capsys, "stats", pyramid.uri, "--motio", "1..")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    error = refused(capsys, "stats", pyramid.uri, "-o", str(tmp_path / "out"))
    assert "pip install '.[stats]'" in error and not (tmp_path / "out").exists()
