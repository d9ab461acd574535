"""The clips most like a vector: each once, none that is gone, none by another maker, whatever the ranges leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.similar import index, nearest
from curation.pyramid.similar.nearest import Found
from curation.pyramid.store import Pyramid
from curation.spaces import mark
from tests.curation.pyramid.build import TIERS, clips
from tests.curation.pyramid.similar import build
from tests.curation.pyramid.similar.build import BY, SMALL, WORDS, exact

MANY = 600
VECTORS = build.clustered(MANY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pyramid, list[str]]:
    pyramid = Pyramid.create(tmp_path_factory.mktemp("near") / "p", TIERS, "test")
    pyramid = build.with_spaces(pyramid, SMALL, WORDS)
    return pyramid, build.filled(pyramid, VECTORS)


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return build.with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL, WORDS)


def asked(pyramid: Pyramid, vector: np.ndarray, limit: int = 10, space: Any = SMALL, **where: Any) -> Found:
    return nearest.nearest(pyramid.query().where(**where), space, BY, vector.astype(np.float32), limit)


def test_without_an_index_all_are_compared(made: tuple[Pyramid, list[str]]) -> None:
    pyramid, names = made
    for place in (0, 17, 599):
        found = asked(pyramid, VECTORS[place])
        assert list(found.similar) == exact(names, VECTORS, VECTORS[place], 10) and found.exact
        assert found.similar[names[place]] == pytest.approx(1.0, abs=1e-3)
        assert list(found.similar.values()) == sorted(found.similar.values(), reverse=True)


@pytest.mark.parametrize(
    "few", [0, 10_000], ids=["those that pass among the nearest", "the nearest among those that pass"]
)
@pytest.mark.parametrize("low", [99, 50, 1], ids=["1 %", "50 %", "99 %"])
def test_ranges_keep_the_nearest_that_pass(
    made: tuple[Pyramid, list[str]], few: int, low: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid, names = made
    monkeypatch.setattr(nearest, "FEW", few)
    among = {name for place, name in enumerate(names) if place % 100 >= low}
    found = asked(pyramid, VECTORS[3], motion=(low, None))
    assert list(found.similar) == exact(names, VECTORS, VECTORS[3], 10, among)


def test_a_range_that_nothing_passes_gives_nothing(made: tuple[Pyramid, list[str]], monkeypatch: Any) -> None:
    assert asked(made[0], VECTORS[0], motion=(1000, None)).similar == {}
    monkeypatch.setattr(nearest, "FEW", -1)
    assert asked(made[0], VECTORS[0], motion=(1000, None)).similar == {}


def test_a_limit_beyond_all_gives_all_once(made: tuple[Pyramid, list[str]]) -> None:
    pyramid, names = made
    assert sorted(asked(pyramid, VECTORS[0], 2000).similar) == sorted(names)
    for wrong in (0, nearest.MOST + 1):
        with pytest.raises(UserError, match=f"limit {wrong} is not a number of clips"):
            asked(pyramid, VECTORS[0], wrong)


def test_a_clip_comes_once_and_only_by_the_maker_that_is_asked(pyramid: Pyramid) -> None:
    """Two jobs that append one vector at the same moment, and another maker whose vector is the very one sought."""
    names = build.filled(pyramid, VECTORS[:20])
    dataset = pyramid.dataset("embeddings/small")
    import lance

    lance.write_dataset(build.table(names[:5], VECTORS[:5]), dataset.uri, mode="append")
    others = np.tile(VECTORS[0], (20, 1))
    lance.write_dataset(build.table(names, others, by="other"), dataset.uri, mode="append")
    assert pyramid.dataset("embeddings/small").count_rows() == 45
    wanted = exact(names, VECTORS[:20], VECTORS[0], 20)
    assert list(asked(pyramid, VECTORS[0], 20).similar) == wanted
    assert list(asked(pyramid, VECTORS[0], 20, motion=(0, None)).similar) == wanted  # by looking them up
    index.make(pyramid.dataset("embeddings/small"))
    found = asked(pyramid, VECTORS[0], 5)
    assert list(found.similar) == wanted[:5] and not found.exact


def test_a_clip_without_a_row_does_not_come(pyramid: Pyramid) -> None:
    """Its vectors are orphans until an upkeep."""
    names = build.filled(pyramid, VECTORS[:30])
    Committer(pyramid).delete_clips(names[:10])
    left = list(asked(pyramid, VECTORS[0], 30).similar)
    assert left == exact(names, VECTORS[:30], VECTORS[0], 30, set(names[10:]))


def test_of_captions_only_the_vector_of_the_one_in_force_counts(pyramid: Pyramid) -> None:
    names = build.filled(pyramid, VECTORS[:4])
    said = ["a red fox", "a fox", "snow", "rain"]
    rows = [{"clip_id": name, "caption": text, "caption_by": "m"} for name, text in zip(names, said, strict=True)]
    marks = [mark(text) for text in said]
    vectors = build.table(names, VECTORS[:4], WORDS, of=marks)
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)], embeddings=[vectors]))
    assert next(iter(asked(pyramid, VECTORS[0], 4, WORDS).similar)) == names[0]
    Committer(pyramid).commit(
        Batch(clip_updates=[clips({"clip_id": names[0], "caption": "a blue whale", "caption_by": "m"})])
    )
    assert sorted(asked(pyramid, VECTORS[0], 4, WORDS).similar) == sorted(names[1:])
    again = build.table(names[:1], VECTORS[100:101], WORDS, of=[mark("a blue whale")])
    Committer(pyramid).commit(Batch(embeddings=[again]))
    found = asked(pyramid, VECTORS[0], 4, WORDS).similar
    assert sorted(found) == sorted(names) and found[names[0]] < 0.99
    ((_, _, vector),) = pyramid.vectors(names[:1], WORDS.name)
    assert vector == VECTORS[100].tolist()


def test_what_is_sought_and_left_out_makes_room_for_others(made: tuple[Pyramid, list[str]]) -> None:
    pyramid, names = made
    found = nearest.nearest(pyramid.query(), SMALL, BY, VECTORS[0].astype(np.float32), 10, {names[0]})
    assert list(found.similar) == exact(names, VECTORS, VECTORS[0], 11)[1:]


def test_the_index_gives_what_all_give_with_and_without_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid = build.with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test"), SMALL)
    vectors = build.clustered(4000, seed=1)
    names = build.filled(pyramid, vectors)
    index.make(pyramid.dataset("embeddings/small"))
    monkeypatch.setattr(nearest, "FEW", 100)  # 1 % of the clips are looked up, 50 % are not
    for low in (0, 50, 99):
        among = {name for place, name in enumerate(names) if place % 100 >= low}
        recalls, were_exact = [], set()
        for place in range(0, 4000, 200):
            found = asked(pyramid, vectors[place], motion=(low, None)) if low else asked(pyramid, vectors[place])
            recalls.append(build.recall(found.similar, exact(names, vectors, vectors[place], 10, among)))
            were_exact.add(found.exact)
        assert np.mean(recalls) >= 0.95, low
        assert were_exact == {low == 99}
