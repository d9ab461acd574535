"""Clusters of a pyramid's vectors: fitted on a sample, kept beside the datasets, the same for the same question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.embed import clusters as by_vectors
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.similar import clusters
from curation.pyramid.similar.clusters import FILE, Asked
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from tests.curation.pyramid import build
from tests.curation.pyramid.build import TIERS
from tests.curation.pyramid.similar.build import BY, SMALL, WORDS, clustered, filled, named, table, with_spaces

ASKED = Asked(SMALL.name, BY, 10, 0)


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL, WORDS)


def test_every_vector_gets_the_nearest_centroid(pyramid: Pyramid) -> None:
    vectors = clustered(600)
    names = filled(pyramid, vectors[:400]) + filled(pyramid, vectors[400:], start=400)
    found = clusters.fit(pyramid, SMALL, ASKED)
    assert (found.clips, found.centroids.shape[1]) == (600, SMALL.width)
    table = clusters.assigned(pyramid, SMALL, found)
    expected = dict(zip(names, by_vectors.nearest(found.centroids, vectors).tolist(), strict=True))
    assert dict(zip(table["key"].to_pylist(), table["cluster"].to_pylist(), strict=True)) == expected
    assert clusters.fit(pyramid, SMALL, ASKED).name == found.name
    assert clusters.fit(pyramid, SMALL, replace(ASKED, seed=1)).name != found.name


def test_a_sample_of_the_vectors_of_clips_that_are_there_is_fitted(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(600)
    names = filled(pyramid, vectors[:400]) + filled(pyramid, vectors[400:], start=400)
    fitted: list[np.ndarray] = []

    def seen(some: np.ndarray, number: int, seed: int) -> np.ndarray:
        fitted.append(some)
        return np.eye(number, SMALL.width, dtype=np.float32)

    monkeypatch.setattr(by_vectors, "fitted", seen)
    monkeypatch.setattr(by_vectors, "FITTED", 20)
    pyramid.dataset("clips").delete(f"clip_id < '{names[100]}' OR clip_id >= '{names[500]}'")
    assert clusters.fit(pyramid, SMALL, ASKED).clips == 400
    sample = {row.tobytes() for row in fitted[0]}
    assert len(fitted[0]) == 200 and sample <= {row.tobytes() for row in vectors[100:500]}
    first = sum(row.tobytes() in sample for row in vectors[100:300])
    assert 60 < first < 140, "from everywhere alike"


def test_the_number_follows_the_clips_where_none_is_given(pyramid: Pyramid) -> None:
    filled(pyramid, clustered(800))
    assert 15 <= len(clusters.fit(pyramid, SMALL, replace(ASKED, number=None)).centroids) <= 20


def test_what_is_kept_is_found_again_for_the_same_question_alone(pyramid: Pyramid) -> None:
    filled(pyramid, clustered(200))
    assert clusters.kept(pyramid, SMALL, ASKED) is None
    found = clusters.fit(pyramid, SMALL, ASKED)
    assert clusters.keep(pyramid, found, frozenset())
    there = clusters.kept(pyramid, SMALL, ASKED)
    assert there is not None and (there.asked, there.clips, there.name) == (ASKED, 200, found.name)
    assert np.array_equal(there.centroids, found.centroids)
    for other in ({"space": "other"}, {"by": "other"}, {"number": 9}, {"number": None}, {"seed": 1}, {"version": 0}):
        assert clusters.kept(pyramid, SMALL, replace(ASKED, **other)) is None
    assert clusters.kept(pyramid, replace(SMALL, width=25), ASKED) is None
    clusters.drop(pyramid)
    assert clusters.in_force(pyramid) is None


def test_what_was_made_while_a_takedown_began_is_not_kept(pyramid: Pyramid) -> None:
    filled(pyramid, clustered(50))
    found = clusters.fit(pyramid, SMALL, ASKED)
    tombstones.add(pyramid.files, ["v"])
    assert not clusters.keep(pyramid, found, frozenset()) and clusters.in_force(pyramid) is None
    assert clusters.keep(pyramid, found, tombstones.read(pyramid.files)) and clusters.in_force(pyramid) is not None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_none(tmp_path: Path, data: st.DataObject) -> None:
    """Cut off anywhere, or with any byte another: neither read nor taken for other centroids."""
    pyramid = Pyramid.open_or_create(str(tmp_path / "q"), TIERS, "test")
    made = clusters.Fit(ASKED, 3, np.arange(48, dtype=np.float32).reshape(2, 24))
    assert clusters.keep(pyramid, made, frozenset())
    whole = pyramid.files.read(FILE)
    assert whole is not None and clusters.in_force(pyramid) is not None
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    for damaged in (whole[:at], whole[:at] + bytes([value]) + whole[at + 1 :]):
        pyramid.files.write(FILE, damaged)
        assert clusters.in_force(pyramid) is None or damaged == whole


def test_the_order_in_which_vectors_came_makes_no_difference(tmp_path: Path) -> None:
    vectors = clustered(300)
    names, found = named(0, 300), []
    for number, order in enumerate((np.arange(300), np.random.default_rng(1).permutation(300))):
        pyramid = with_spaces(Pyramid.create(tmp_path / f"p{number}", TIERS, "test"), SMALL)
        clips = [{"clip_id": names[at], "video_id": "v"} for at in order]
        rows = table([names[at] for at in order], vectors[order])
        Committer(pyramid).commit(Batch(clips=build.clips(*clips), embeddings=[rows]))
        found.append(clusters.fit(pyramid, SMALL, ASKED).centroids)
    assert np.array_equal(*found)


def test_a_space_without_vectors_is_a_line(pyramid: Pyramid) -> None:
    with pytest.raises(UserError, match=r"no clip of .* has a vector in small"):
        clusters.fit(pyramid, SMALL, ASKED)
    filled(pyramid, clustered(10))
    with pytest.raises(UserError, match="no clip of"):
        clusters.fit(pyramid, SMALL, replace(ASKED, by="another"))
    pyramid.dataset("clips").delete("true")
    with pytest.raises(UserError, match="no clip of"):
        clusters.fit(pyramid, SMALL, ASKED)
