"""Candidates for copies: the nearest by signature, plain or mirrored, the same with an index as without."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.contract import embeddings_schema
from curation.embed import signature
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.similar import held, index
from curation.pyramid.similar.candidates import Candidates
from curation.pyramid.similar.held import Held
from curation.pyramid.storage.columns import add_spaces
from curation.pyramid.store import Pyramid
from curation.spaces import Space

PICTURE = Space("picture", signature.WIDTH, "signatures")
BY = "signature-1"
MANY = 120


def vectors() -> dict[str, np.ndarray]:
    """Of clips in groups of four that are near each other, the fourth as a mirror image; groups are far apart."""
    random = np.random.default_rng(5)
    found: dict[str, np.ndarray] = {}
    for group in range(MANY // 4):
        middle = random.normal(size=signature.WIDTH)
        for number in range(4):
            vector = middle + 0.4 * random.normal(size=signature.WIDTH)
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            found[f"c{group:03}-{number}"] = signature.mirrored(vector) if number == 3 else vector
    return found


def rows(given: dict[str, np.ndarray], by: str) -> pa.Table:
    flat = pa.array(np.concatenate(list(given.values())).astype(np.float16))
    named = [pa.array(list(given)), pa.array([PICTURE.name] * len(given)), pa.array([by] * len(given))]
    columns = [*named, pa.FixedSizeListArray.from_arrays(flat, PICTURE.width)]
    return pa.Table.from_arrays(columns, schema=embeddings_schema(PICTURE))


@pytest.fixture
def signed(pyramid: Pyramid) -> Pyramid:
    add_spaces(pyramid, [PICTURE])
    made = pyramid.having(spaces=[PICTURE])
    Committer(made).commit(Batch(embeddings=[rows(vectors(), BY)]))
    others = {name: -vector for name, vector in vectors().items()}
    Committer(made).commit(Batch(embeddings=[rows(others, "another maker")]))
    return made


def near(pyramid: Pyramid, least: float = 0.7) -> dict[str, list[str]]:
    return Candidates(pyramid, PICTURE, BY, least).of(sorted(vectors()))


def test_the_nearest_come_plain_or_mirrored_with_an_index_and_without(signed: Pyramid) -> None:
    exact = near(signed)
    assert exact.keys() == vectors().keys()
    for name, found in exact.items():
        group = {f"{name[:-1]}{number}" for number in range(4)} - {name}
        assert set(found) == group, name
    dataset = signed.dataset("embeddings/picture")
    index.make(dataset)
    assert index.there(signed.dataset("embeddings/picture")) is not None
    by_index = near(signed)
    hits = sum(len(set(by_index[name]) & set(exact[name])) for name in exact)
    assert hits >= 0.99 * sum(map(len, exact.values()))
    assert all(set(by_index[name]) <= set(exact[name]) for name in exact), "what the index gives is looked at again"


def test_only_so_many_come_and_the_likeliest(signed: Pyramid) -> None:
    found = Candidates(signed, PICTURE, BY, -2.0, most=2).of(["c000-0"])["c000-0"]
    all_near = {name: max(_near(vectors()["c000-0"], one)) for name, one in vectors().items() if name != "c000-0"}
    assert found == sorted(all_near, key=lambda name: -all_near[name])[:2]
    assert Candidates(signed, PICTURE, BY, 0.7).of(["nobody"]) == {}


def _near(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    return float(one @ other), float(signature.mirrored(one) @ other)


@pytest.mark.parametrize("block", [1, 7, 8192])
def test_all_that_are_held_are_compared_with_all_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(held, "_BLOCK", block)
    random = np.random.default_rng(block)
    made = random.normal(size=(40, signature.WIDTH)).astype(np.float16)
    names = [f"{number // 3:012x}-{number}" for number in range(40)]
    twice = rows({**dict(zip(names, made.astype(np.float32), strict=True))}, BY)
    table = pa.concat_tables([twice, twice.slice(0, 5)])
    asked, own = made[:10].astype(np.float32), [*names[:9], "of a video that is not there"]
    for most in (1, 4, 100):
        found = Held.of(table).nearest(own, asked, most)
        for name, vector, near in zip(own, asked, found, strict=True):
            right = {
                other: 2 * max(_near(vector, made[place].astype(np.float32)))
                for place, other in enumerate(names)
                if other[:12] != name[:12]
            }
            best = sorted(right, key=lambda other: -right[other])[:most]
            assert sorted(near, key=lambda other: -near[other]) == best
            assert near == pytest.approx({other: right[other] for other in best}, rel=1e-4, abs=1e-3)
