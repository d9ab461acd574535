"""What a run says beforehand: tiers that no clip can be in, clips that are not cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.contract import CROWDING
from curation.pyramid.similar.clusters import Asked, Fit, keep
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from pipelines.config.filters import listed
from pipelines.config.recipe import Recipe, parsed
from pipelines.execution.records.notices import of_clusters, of_cutting, of_places, of_scores
from tests.curation.pyramid.build import table

NO_AESTHETIC = "[filters.aesthetic]\nenabled = false\n"
NO_OCR = "[filters.ocr]\nenabled = false\n" + NO_AESTHETIC
LOW = '[[tiers]]\nname = "low"\nmotion = [1, inf]\ntext_area = [0, 0.1]\n'
HIGH = '[[tiers]]\nname = "high"\nsharpness = [5, inf]\n'


def made(tmp_path: Path, text: str) -> tuple[Recipe, Pyramid]:
    recipe = parsed(f'name = "r"\n{text}', "test")
    place = str(tmp_path / "p")
    return recipe, Pyramid.create(place, recipe.pyramid_tiers, recipe.name, scores=recipe.own_scores)


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


EVEN = '[[tiers]]\nname = "even"\ncrowding = [0, 0.3]\n'


def clustered(tmp_path: Path, sizes: list[int], clips: int, number: int | None = None) -> Pyramid:
    """Clips in clusters of these sizes, one more of none, and centroids that were made of so many clips."""
    _, pyramid = made(tmp_path, NO_OCR + EVEN)
    of = [cluster for cluster, size in enumerate(sizes) for _ in range(size)] + [None]
    none = {f"{CROWDING}_by": "by", f"{CROWDING}_why": "no vector in picture"}
    some = {f"{CROWDING}_by": "by", CROWDING: 0.5}
    rows = [{"clip_id": f"{n}", "cluster": one} | (none if one is None else some) for n, one in enumerate(of)]
    pyramid.dataset("clips").insert(table(rows, pyramid.schema("clips"), *pyramid.schema("clips").names))
    asked = Asked("picture", "by", number, 0)
    assert keep(pyramid, Fit(asked, clips, np.ones((len(sizes), 4), np.float32)), frozenset())
    return pyramid


def test_clusters_are_told_with_what_cannot_be_met(tmp_path: Path) -> None:
    assert of_clusters(clustered(tmp_path, [6, 2], 8)) == [
        "clusters: 2; the largest, 0, has 75.0% of the 8 clips that have a crowding; `ziggurat stats` names them",
        "clips without a cluster: 1; crowding_why says why",
        "tier even is empty: of 2 clusters none can have less than 0.5; raise its bound, or give [clusters] a larger "
        "number",
    ]


def test_clips_that_wait_for_others_are_told_with_the_commands(tmp_path: Path) -> None:
    pyramid = clustered(tmp_path, [6, 2], 8)
    assert of_places(pyramid) == []
    rows = [{"clip_id": f"new-{n}"} for n in range(3)]
    pyramid.dataset("clips").insert(table(rows, pyramid.schema("clips"), *pyramid.schema("clips").names))
    (told,) = of_places(pyramid)
    assert told.startswith("clips whose crowding is not known, which a tier bounds: 3; run `ziggurat clusters ")
    assert of_clusters(pyramid)[1] == "clips without a cluster: 1; crowding_why says why"
    _, free = made(tmp_path / "free", NO_OCR + HIGH)
    free.dataset("clips").insert(table(rows, free.schema("clips"), *free.schema("clips").names))
    assert of_places(free) == []


@pytest.mark.parametrize(("clips", "number", "told"), [(2, None, True), (2, 4, False), (3, None, False)])
def test_clusters_that_are_outgrown_are_told(tmp_path: Path, clips: int, number: int | None, told: bool) -> None:
    notices = of_clusters(clustered(tmp_path, [2, 2, 2, 2], clips, number))
    assert any("--again" in notice for notice in notices) == told
    assert not any("is empty" in notice for notice in notices)
