"""The index of vectors loses nothing: after each thing that happens to it and to its rows, a search gives what
comparing all vectors gives. Merges, compaction and optimisation have lost entries of such an index elsewhere (lance
5321, 7803, 9270), so each is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from curation.pyramid.commits import indexes, tail
from curation.pyramid.commits.commit import Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.similar import index, nearest
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS
from tests.curation.pyramid.similar import build
from tests.curation.pyramid.similar.build import BY, SMALL, exact

NAME = "embeddings/small"
FIRST, MORE, STEP = 2000, 600, 100
VECTORS = build.clustered(FIRST + MORE)
PLACES = range(0, FIRST + MORE, 100)


@pytest.fixture
def pyramid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pyramid:
    """2,000 clips under an index, and 600 more in six commits of which it knows nothing."""
    monkeypatch.setattr(index, "EXACT_BELOW", 1000)
    monkeypatch.setattr(tail, "EVERY", 1000)  # no committer tends the index here unless a test says so
    made = build.with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL)
    build.filled(made, VECTORS[:FIRST])
    indexes.create(made, NAME, indexes.wanted(made, NAME))
    for start in range(FIRST, FIRST + MORE, STEP):
        build.filled(made, VECTORS[start : start + STEP], start)
    return made


def found(pyramid: Pyramid, gone: int = 0) -> float:
    """Recall at 10 over many vectors; `gone`: the first clips, which must not come."""
    names = build.named(0, FIRST + MORE)
    among = set(names[gone:])
    recalls: list[float] = []
    for place in PLACES:
        answer = nearest.nearest(pyramid.query(), SMALL, BY, VECTORS[place].astype(np.float32), 10)
        assert not answer.exact and set(answer.similar) <= among
        recalls.append(build.recall(answer.similar, exact(names, VECTORS, VECTORS[place], 10, among)))
        if place >= gone:
            assert names[place] in answer.similar, "the vector that is sought is itself lost"
    return float(np.mean(recalls))


def covered(pyramid: Pyramid) -> int:
    return FIRST + MORE - index.behind(pyramid.dataset(NAME))


def test_rows_that_the_index_does_not_cover_are_found_too(pyramid: Pyramid) -> None:
    assert index.behind(pyramid.dataset(NAME)) == MORE
    assert found(pyramid) >= 0.95


@pytest.mark.parametrize(
    "step",
    [
        lambda pyramid: tail.merge(pyramid, NAME),
        lambda pyramid: indexes.extend(pyramid, NAME),
        lambda pyramid: (indexes.extend(pyramid, NAME), tail.merge(pyramid, NAME)),
        lambda pyramid: (tail.merge(pyramid, NAME), indexes.extend(pyramid, NAME), indexes.unite(pyramid, NAME)),
        lambda pyramid: tail.tend(pyramid, NAME),
        lambda pyramid: pyramid.dataset(NAME).optimize.compact_files(),
        lambda pyramid: (indexes.extend(pyramid, NAME), pyramid.dataset(NAME).optimize.compact_files()),
        lambda pyramid: upkeep(pyramid, timedelta(0), timedelta(0)),
        lambda pyramid: (upkeep(pyramid, timedelta(0), timedelta(0)), upkeep(pyramid, timedelta(0), timedelta(0))),
    ],
    ids=[
        *("merge", "extension", "merge after extension", "one segment of all", "a committer's tail"),
        *("compaction", "compaction after extension", "upkeep", "upkeep twice"),
    ],
)
def test_nothing_is_lost_by(step: Callable[[Pyramid], object], pyramid: Pyramid) -> None:
    step(pyramid)
    assert pyramid.dataset(NAME).count_rows() == FIRST + MORE
    assert found(pyramid) >= 0.95


def test_nothing_is_lost_and_nothing_comes_back_where_clips_went(pyramid: Pyramid) -> None:
    """Deleted rows, a compaction of what they leave, and an index that is made again of the rest."""
    gone = 500
    Committer(pyramid).delete_clips(build.named(0, gone))
    assert found(pyramid, gone) >= 0.95
    done = upkeep(pyramid, timedelta(0), timedelta(0))
    assert done.orphans == gone and pyramid.dataset(NAME).count_rows() == FIRST + MORE - gone
    assert found(pyramid, gone) >= 0.95


def test_upkeep_makes_the_index_and_covers_all(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    upkeep(pyramid)
    assert covered(pyramid) == FIRST + MORE
    monkeypatch.setattr(index, "OUTGROWN", 0.5)
    before = index.there(pyramid.dataset(NAME))
    upkeep(pyramid)
    after = index.there(pyramid.dataset(NAME))
    assert before is not None and after is not None
    assert [one.uuid for one in before.segments] != [one.uuid for one in after.segments]
    assert covered(pyramid) == FIRST + MORE and found(pyramid) >= 0.95


def test_a_committer_makes_the_index_once_there_are_enough_vectors_and_extends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXACT_BELOW", 250)
    monkeypatch.setattr(tail, "EVERY", 2)
    pyramid = build.with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL)
    build.filled(pyramid, VECTORS[:200])
    build.filled(pyramid, VECTORS[200:240], 200)
    assert index.there(pyramid.dataset(NAME)) is None
    for start in range(240, 600, 40):
        build.filled(pyramid, VECTORS[start : start + 40], start)
    assert index.there(pyramid.dataset(NAME)) is not None
    assert index.behind(pyramid.dataset(NAME)) <= 40


def test_an_index_that_no_search_needs_is_not_made(tmp_path: Path) -> None:
    pyramid = build.with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL)
    build.filled(pyramid, VECTORS[:50])
    upkeep(pyramid)
    assert index.there(pyramid.dataset(NAME)) is None
