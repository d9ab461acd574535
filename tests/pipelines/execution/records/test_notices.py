"""What a run says beforehand: tiers that no clip can be in, clips that are not cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from pipelines.config.filters import listed
from pipelines.config.recipe import Recipe, parsed
from pipelines.execution.records.notices import of_cutting, of_scores

NO_AESTHETIC = "[filters.aesthetic]\nenabled = false\n"
NO_OCR = "[filters.ocr]\nenabled = false\n" + NO_AESTHETIC
LOW = '[[tiers]]\nname = "low"\nmotion = [1, inf]\ntext_area = [0, 0.1]\n'
HIGH = '[[tiers]]\nname = "high"\nsharpness = [5, inf]\n'


def made(tmp_path: Path, text: str) -> tuple[Recipe, Pyramid]:
    recipe = parsed(f'name = "r"\n{text}', "test")
    return recipe, Pyramid.create(str(tmp_path / "p"), recipe.pyramid_tiers, recipe.name)


def said(recipe: Recipe, pyramid: Pyramid) -> list[str]:
    return of_scores(pyramid.tiers, listed(recipe))


def test_a_tier_that_bounds_a_score_which_is_not_made_is_named(tmp_path: Path) -> None:
    """So is every tier above it, which includes its ranges."""
    found = said(*made(tmp_path, NO_OCR + LOW + HIGH))
    assert found == [
        f"no new clip can be in tier {name}: it bounds text_area, which is not computed" for name in ("low", "high")
    ]


def test_a_threshold_that_was_taken_away_bounds_nothing(tmp_path: Path) -> None:
    recipe, pyramid = made(tmp_path, NO_OCR + LOW)
    assert said(recipe, pyramid.with_tiers(pyramid.tiers.moved("low", "text_area", Range()))) == []


def test_a_range_that_is_open_at_both_ends_asks_for_nothing(tmp_path: Path) -> None:
    assert said(*made(tmp_path, NO_OCR + LOW.replace("[0, 0.1]", "[-inf, inf]"))) == []


@pytest.mark.parametrize("text", [NO_AESTHETIC + LOW, NO_OCR + HIGH])
def test_nothing_is_said_where_all_that_is_asked_for_is_made(tmp_path: Path, text: str) -> None:
    assert said(*made(tmp_path, text)) == []


def test_a_recipe_without_tiers_is_told(tmp_path: Path) -> None:
    recipe, pyramid = made(tmp_path, NO_OCR)
    assert said(recipe, pyramid) == ["the pyramid has no tiers: everything is measured, and no clip is in any"]
    assert of_cutting(recipe, pyramid.uri, pyramid.tiers) == []


@pytest.mark.parametrize(("cut", "told"), [("", True), ('[cut]\ntier = "high"\n', False)])
def test_that_nothing_is_cut_is_told(tmp_path: Path, cut: str, told: bool) -> None:
    recipe, pyramid = made(tmp_path, NO_OCR + HIGH + cut)
    found = of_cutting(recipe, pyramid.uri, pyramid.tiers)
    assert bool(found) == told and all("cut.tier is none" in line for line in found)
