"""Figures: which there are, that the same numbers give the same bytes, and that no two words of a cloud overlap."""

from __future__ import annotations

import io
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install '.[stats]'")

from PIL import Image

from curation.stats.gather import gather
from pipelines.figures import cloud, pages
from tests.curation.stats.build import filled


def test_every_figure_is_drawn_and_the_same_once_more(tmp_path: Path) -> None:
    stats = gather(filled(tmp_path / "$p_{x}$").query())
    files = dict(pages.drawn(stats))
    kinds = Counter(name.rpartition(".")[2] for name in files)
    assert kinds == {"png": 7, "svg": 7}
    assert {name.partition(".")[0] for name in files} == set(pages._PAGES)
    for name, content in files.items():
        if name.endswith(".png"):
            assert len(Image.open(io.BytesIO(content)).convert("L").getcolors() or ()) > 2, "not blank"
        else:
            assert content.startswith(b"<?xml")
    assert dict(pages.drawn(stats)) == files


def test_where_there_is_nothing_no_figure_is_drawn(tmp_path: Path) -> None:
    empty = gather(filled(tmp_path / "p").query().where(motion=(99, None), kind="video"))
    assert {name for name, _ in pages.drawn(empty)} == {"reasons.png", "reasons.svg"}, "of the whole pyramid's videos"


def test_words_of_a_cloud_lie_apart_and_inside_the_commonest_largest() -> None:
    (long,) = cloud.placed({"w" * 100: 1})
    assert long.width <= cloud.WIDTH, "written smaller, and not left out"
    found = cloud.placed({f"word{number}": 1000 // (number + 1) for number in range(60)})
    assert len(found) > 40 and [one.size for one in found] == sorted((one.size for one in found), reverse=True)
    assert all(one.x >= 0 and one.x + one.width <= cloud.WIDTH for one in found)
    for a, b in combinations(found, 2):
        beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        assert beside or a.y + a.height <= b.y or b.y + b.height <= a.y, (a, b)
