"""Clusters of a pyramid's vectors: fitted on a sample, kept beside the datasets, the same for the same question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.embed import clusters as by_vectors
from curation.errors import UserError
from curation.pyramid.similar import clusters
from curation.pyramid.similar.clusters import FILE, Asked
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS
from tests.curation.pyramid.similar.build import BY, SMALL, WORDS, clustered, filled, with_spaces

ASKED = Asked(SMALL.name, BY, 10, 0)


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL, WORDS)


def test_every_vector_gets_the_nearest_centroid(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(600)
    names = filled(pyramid, vectors[:400]) + filled(pyramid, vectors[400:], start=400)
    found = clusters.fit(pyramid, SMALL, ASKED)
    assert (found.clips, found.centroids.shape[1]) == (600, SMALL.width)
    table = clusters.assigned(pyramid, SMALL, found)
    expected = dict(zip(names, by_vectors.nearest(found.centroids, vectors).tolist(), strict=True))
    assert dict(zip(table["clip_id"].to_pylist(), table["cluster"].to_pylist(), strict=True)) == expected
    assert clusters.fit(pyramid, SMALL, ASKED).name == found.name
    assert clusters.fit(pyramid, SMALL, replace(ASKED, seed=1)).name != found.name
    monkeypatch.setattr(by_vectors, "FITTED", 20)  # 200 of 600 vectors are fitted
    assert len(clusters.fit(pyramid, SMALL, ASKED).centroids) <= 10


def test_the_number_follows_the_clips_where_none_is_given(pyramid: Pyramid) -> None:
    filled(pyramid, clustered(800))
    assert len(clusters.fit(pyramid, SMALL, replace(ASKED, number=None)).centroids) <= 20


def test_what_is_kept_is_found_again_for_the_same_question_alone(pyramid: Pyramid) -> None:
    filled(pyramid, clustered(200))
    assert clusters.kept(pyramid, ASKED) is None
    found = clusters.fit(pyramid, SMALL, ASKED)
    clusters.keep(pyramid, found)
    there = clusters.kept(pyramid, ASKED)
    assert there is not None and (there.asked, there.clips, there.name) == (ASKED, 200, found.name)
    assert np.array_equal(there.centroids, found.centroids)
    for other in ({"space": "other"}, {"by": "other"}, {"number": 9}, {"number": None}, {"seed": 1}, {"version": 0}):
        assert clusters.kept(pyramid, replace(ASKED, **other)) is None


@pytest.mark.parametrize("damage", [b"", b"ARROW1", b"\0" * 400])
def test_a_damaged_file_is_made_anew(pyramid: Pyramid, damage: bytes) -> None:
    pyramid.files.write(FILE, damage)
    assert clusters.kept(pyramid, ASKED) is None


def test_a_space_without_vectors_is_a_line(pyramid: Pyramid) -> None:
    with pytest.raises(UserError, match=r"no clip of .* has a vector in small"):
        clusters.fit(pyramid, SMALL, ASKED)
    filled(pyramid, clustered(10))
    with pytest.raises(UserError, match="no clip of"):
        clusters.fit(pyramid, SMALL, replace(ASKED, by="another"))
