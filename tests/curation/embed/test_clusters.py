"""K-means over vectors, and the crowding that caps the share of every cluster."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.embed import clusters
from curation.embed.clusters import LEAST, crowding, fitted, nearest, usual
from curation.errors import UserError


def planted(of_each: int, around: int, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around some directions, of any length, and which direction each is of."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(width, width)))[0][:around]
    truth = rng.permutation(np.repeat(np.arange(around), of_each))
    near = centres[truth] + 0.05 * rng.normal(size=(len(truth), width))
    return (near * rng.uniform(0.5, 20, (len(truth), 1))).astype(np.float16), truth


def test_planted_clusters_are_found_whatever_the_length_of_vectors() -> None:
    vectors, truth = planted(30, 6)
    centroids = fitted(vectors, 6, seed=1)
    assert centroids.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    found = nearest(centroids, vectors)
    pairs = set(zip(truth.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 6 == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_the_same_seed_gives_the_same_clusters() -> None:
    vectors, _ = planted(30, 10)
    assert np.array_equal(fitted(vectors, 8, seed=3), fitted(vectors, 8, seed=3))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(LEAST, 60), st.integers(1, 20))
def test_a_centroid_is_the_mean_of_several_vectors(seed: int, many: int, number: int) -> None:
    """Of no single one: each is the mean direction of at least `LEAST` of the vectors."""
    vectors = np.random.default_rng(seed).normal(size=(many, 6)).astype(np.float16)
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    made_of = list[int]()
    means = clusters._means

    def seen(found: np.ndarray, some: np.ndarray, clusters_: int) -> np.ndarray:
        made_of[:] = np.bincount(found, minlength=clusters_).tolist()
        result = means(found, some, clusters_)
        sums = np.array([unit[found == cluster].sum(axis=0) for cluster in range(clusters_)])
        np.testing.assert_allclose(result, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-3)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "_means", seen)
        centroids = fitted(vectors, number, seed=0)
    assert len(made_of) == len(centroids) <= number and min(made_of) >= LEAST, made_of


def test_of_few_vectors_one_cluster_is_left() -> None:
    vectors, _ = planted(40, 3)
    alone = np.eye(16, dtype=np.float16)[:1] * -1
    assert len(fitted(vectors[:3], 3, seed=0)) == 1 and len(fitted(np.repeat(alone, 9, axis=0), 4, seed=0)) == 1


def test_a_vector_without_length_is_of_no_cluster() -> None:
    vectors, _ = planted(10, 2)
    vectors[3] = 0
    found = nearest(fitted(vectors, 2, seed=0), vectors)
    assert found[3] == -1 and (np.delete(found, 3) >= 0).all() and found.dtype == np.int32
    with pytest.raises(UserError, match="no vector has a length"):
        fitted(np.zeros((4, 8), np.float16), 2, seed=0)


def test_vectors_are_compared_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted(40, 5)
    centroids = fitted(vectors, 5, seed=0)
    whole = nearest(centroids, vectors)
    monkeypatch.setattr(clusters, "_AT_ONCE", 17 * len(centroids))
    assert np.array_equal(nearest(centroids, vectors), whole)


def test_without_scikit_learn_it_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match="clusters need scikit-learn"):
        fitted(np.ones((9, 4), np.float32), 2, seed=0)


@pytest.mark.parametrize(("clips", "number"), [(0, 1), (3, 1), (50, 5), (1_000_000, 707), (10**9, 10_000)])
def test_the_usual_number(clips: int, number: int) -> None:
    assert usual(clips) == number


@given(st.lists(st.integers(0, 6), max_size=80), st.floats(0, 1))
def test_a_bound_caps_every_cluster_and_keeps_all_it_can(of_clips: list[int], most: float) -> None:
    """What is left of a cluster is its first ones, no share is above the bound, and with one clip more of each cluster
    that has one the largest share would be.
    """
    array = np.array(of_clips, np.int64)
    values = crowding(array)
    assert ((values > 0) & (values <= 1)).all()
    kept = np.bincount(array[values <= most], minlength=7)
    sizes = np.bincount(array, minlength=7)
    cap = kept.max()
    assert np.array_equal(kept, np.minimum(sizes, cap)), "each cluster is cut down to as many"
    for cluster in range(7):
        of_it = values[array == cluster]
        assert (np.diff(of_it) >= 0).all(), "the best come first"
    if kept.sum():
        assert kept.max() / kept.sum() <= most
    if cap < sizes.max():
        more = np.minimum(sizes, cap + 1)
        assert more.max() / more.sum() > most
