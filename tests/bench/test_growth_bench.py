"""The benchmark of growth on pyramids of a few hundred clips: all kinds of work are measured, and in its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.growth import __main__ as growth
from bench.growth.paper import Slope
from curation.pyramid.history import names, search
from curation.pyramid.store import Pyramid


def test_every_kind_of_work_is_measured_at_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "_ROUNDS", 1)
    monkeypatch.setattr(growth.tail, "EVERY", 4)
    monkeypatch.setattr(growth, "_REPEATS", 1)
    figures = tmp_path / "figures.json"
    growth.main(["--rows", "500", "1000", "--folder", str(tmp_path / "p"), "--json", str(figures)])
    out = capsys.readouterr().out
    costs = json.loads(figures.read_text())["costs"]
    works = {cost["work"] for cost in costs}
    assert len(works) == 7 and len(costs) == 2 * len(works) and all(cost["mean"] > 0 for cost in costs)
    assert all(out.count(f"| {work} |") == 1 for work in works)
    assert "| on paper | 100,000,000 clips | 1,000,000,000 clips |" in out
    for rows in (500, 1000):
        pyramid = Pyramid.open(tmp_path / "p" / str(rows))
        assert pyramid.query().count() == rows + 4 * growth.VIDEOS * growth.data.CLIPS_A_VIDEO
        assert pyramid.dataset("media").count_rows() == pyramid.query().count()


def test_a_pyramid_that_is_used_again_remembers_no_start_and_no_search(tmp_path: Path) -> None:
    pyramid = growth.data.build(tmp_path / "p", 1500)
    growth.Subject(pyramid, 1500, 0).once()
    kept = [Path(pyramid.uri, folder) for folder in (names.FOLDER, search.FOLDER)]
    assert all(list(folder.iterdir()) for folder in kept)
    again = growth.data.build(tmp_path / "p", 1500)
    assert again.uri == pyramid.uri and again.query().count() == 1500
    assert not any(folder.exists() for folder in kept)


def test_slopes_go_on_as_they_were() -> None:
    slope = Slope((10, 1000), (1.0, 5.0))
    assert slope.by_decades(100_000) == 9.0
    assert slope.by_rows(1990) == 9.0
    assert Slope((10, 1000), (5.0, 1.0)).by_decades(100_000) == 1.0, "noise is no gain"
