"""Clusters of a space by k-means, and how crowded a clip's cluster is.

    vectors -> [fitted] -> centroids -> [nearest] -> the cluster of each clip
    clusters of clips, the best clip first -> [crowding] -> above 0, 1 at most

Vectors and centroids have unit length, and alike is what has a large cosine: after a k-means of unit vectors, rounds
of a spherical one (Dhillon and Modha 2001) end the fit. `crowding` is what a tier bounds to cap the share of every
cluster.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from curation.errors import UserError

VERSION = 1
"""Raise it where clusters or `crowding` come out otherwise."""
MOST = 10_000
"""Clusters at most: what HunyuanVideo balances over."""
FITTED = 256
"""Vectors a cluster that are fitted at most."""
LEAST = 5
"""Vectors whose mean a centroid is, at least: what fewer have is no kind of clip but single ones."""
_SEEDED = 20
_ROUNDS = 50
_SPHERICAL_ROUNDS = 20
_AT_ONCE = 1 << 24
"""Cosines that are held at once."""


def usual(clips: int) -> int:
    """Clusters of so many clips where nobody says how many: the root of half of them."""
    return int(min(max((clips / 2) ** 0.5, 1), MOST))


def fitted(vectors: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Centroids (k, width) float32 of unit length of `vectors` (n, width), k at most `number`: what has fewer than
    `LEAST` vectors is dissolved, but for the last one. Holds the vectors in float32 some times over. UserError where no
    vector has a length, or scikit-learn is missing.
    """
    cluster = scikit_learn()
    vectors = _of_unit_length(vectors)
    if not (there := vectors.any(axis=1)).all():
        vectors = vectors[there]
    number = min(number, len(vectors))
    if number == 0:
        raise UserError("no vector has a length, so there is nothing to cluster", "name another space")
    drawn = np.random.default_rng(seed).permutation(len(vectors))[: _SEEDED * number]
    seeds, _ = cluster.kmeans_plusplus(vectors[np.sort(drawn)], number, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than clusters: those without any are dissolved
        found = cluster.KMeans(number, init=seeds, n_init=1, max_iter=_ROUNDS, random_state=seed).fit(vectors)
    return _settled(_of_unit_length(found.cluster_centers_), vectors)


def nearest(centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The cluster (n,) int32 of each of `vectors` (n, width): the centroid of the largest cosine, of equals the first.
    -1 for a vector without a length.
    """
    vectors = np.asarray(vectors, np.float32)
    found = np.empty(len(vectors), np.int32)
    step = max(1, _AT_ONCE // len(centroids))
    for start in range(0, len(vectors), step):
        found[start : start + step] = (vectors[start : start + step] @ centroids.T).argmax(axis=1)
    found[~vectors.any(axis=1)] = -1
    return found


def crowding(clusters: np.ndarray) -> np.ndarray:
    """The crowding (n,) float64 of clips in `clusters` (n,), which come the best first.

    Of the clip in the r-th place of its cluster it is r by all clips that are left when each cluster keeps its first r:
    the share of the largest cluster then. It never falls with r, so the clips of at most s are those that are left when
    no cluster may have a larger share than s; more of each cannot stay.
    """
    if not clusters.size:
        return np.empty(0, np.float64)
    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters)
    ranks = np.empty(clusters.size, np.int64)
    ranks[order] = np.arange(clusters.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    clusters_of_size = np.bincount(sizes[sizes > 0], minlength=sizes.max() + 1)
    as_large = clusters_of_size[::-1].cumsum()[::-1][1:]  # clusters with at least 1, 2, ... clips
    shares = np.arange(1, sizes.max() + 1) / as_large.cumsum()
    return shares[ranks]


def scikit_learn() -> Any:
    """Its clusters. UserError where it is not installed."""
    try:
        from sklearn import cluster
    except ImportError as error:
        raise UserError("clusters need scikit-learn", "pip install '.[clusters]'") from error
    return cluster


def _settled(centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Centroids of which each is the mean of those that were nearest to it, `LEAST` or more, or of all there are."""
    before: np.ndarray | None = None
    rounds = 0
    while True:
        found = nearest(centroids, vectors)
        sizes = np.bincount(found, minlength=len(centroids))
        kept = sizes >= LEAST
        kept[sizes.argmax()] = True
        if not kept.all():
            centroids, before = centroids[kept], None
            continue
        rounds += 1
        if (before is not None and np.array_equal(found, before)) or rounds > _SPHERICAL_ROUNDS:
            return centroids if before is not None else _means(found, vectors, len(centroids))
        centroids, before = _means(found, vectors, len(centroids)), found


def _means(found: np.ndarray, vectors: np.ndarray, number: int) -> np.ndarray:
    """The mean direction of the vectors of each cluster."""
    from scipy.sparse import csr_array  # comes with scikit-learn

    of_cluster = csr_array(
        (np.ones(len(found), np.float32), (found, np.arange(len(found)))), shape=(number, len(found))
    )
    return _of_unit_length(of_cluster @ vectors)


def _of_unit_length(vectors: np.ndarray) -> np.ndarray:
    found = np.array(vectors, np.float32, order="C")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    found /= np.where(lengths > 0, lengths, 1)
    return found
