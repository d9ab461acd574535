"""Clusters in a pyramid, from vectors to `cluster` and `crowding`, without Ray: what is written and what tiers keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curation.contract import CROWDING, Space
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.similar import clusters as similar
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from curation.spaces import mark
from pipelines import clusters
from pipelines.clusters import WRITTEN, Wanted
from pipelines.config.clusters_section import ClustersSection
from pipelines.execution.results.account import Account
from tests.curation.pyramid import build
from tests.curation.pyramid.similar.build import BY, SMALL, WORDS, table, with_spaces

HALF = 0.5
TIERS = Tiers(
    (
        Tier("all", {"width": Range(64)}),
        Tier("even", {"motion": Range(2.0), CROWDING: Range(high=HALF)}),
        Tier("best", {"aesthetic": Range(6.0)}),
    )
)
SIZES = {"a": 30, "b": 12, "c": 6}
DIRECTIONS = {name: np.eye(SMALL.width)[number] for number, name in enumerate(SIZES)}


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    """Clips of three kinds; every third has too little motion for the tier, every fifth is in the best one."""
    made = with_spaces(Pyramid.create(tmp_path / "p", TIERS, "test", scores=(CROWDING,)), SMALL, WORDS)
    add(made, [f"{kind}{number:02}" for kind, many in SIZES.items() for number in range(many)])
    return made


def add(pyramid: Pyramid, names: Sequence[str], **values: Any) -> None:
    """Clips whose name begins with their kind, each with a vector."""
    rng = np.random.default_rng(len(names))
    numbers = [int(name[1:]) for name in names]
    rows = [
        {"clip_id": name, "video_id": f"v{name}", "width": 100, "height": 80 + number}
        | {"motion": 3.0 if number % 3 else 1.0, "aesthetic": 7.0 if number % 5 == 0 else 4.0 + number / 100}
        | values
        for name, number in zip(names, numbers, strict=True)
    ]
    vectors = np.array([DIRECTIONS[name[0]] + 0.02 * rng.normal(size=SMALL.width) for name in names])
    Committer(pyramid).commit(Batch(clips=build.clips(*rows), embeddings=[table(names, vectors)]))


TOLD: list[str] = []


def find(pyramid: Pyramid, section: ClustersSection, space: Space = SMALL, again: bool = False) -> Account:
    """`clusters.find`; what it tells is in `TOLD`."""
    account, quiet = Account(), lambda *_: nullcontext()
    watch = SimpleNamespace(searching=quiet, over=quiet, expect=lambda _: None, advance=lambda *_: None)
    job: Any = SimpleNamespace(pyramid=pyramid, watch=watch, account=account, coordinator=None)
    TOLD[:] = clusters.find(job, Wanted(section, space, BY, again))
    return account


def section(**values: Any) -> ClustersSection:
    return ClustersSection(**{"space": "small", "number": 3, **values})


def rows(pyramid: Pyramid) -> dict[str, dict[str, Any]]:
    columns = [*WRITTEN, "tier", "motion", "aesthetic"]
    return {row["clip_id"]: row for row in pyramid.dataset("clips").to_table(columns=columns).to_pylist()}


def kinds_in(pyramid: Pyramid, tier: str) -> Counter[str]:
    return Counter(row["clip_id"][0] for row in pyramid.query().tier(tier).batches() for row in row.to_pylist())


def test_a_tier_caps_the_share_of_every_cluster(pyramid: Pyramid) -> None:
    account = find(pyramid, section())
    found = rows(pyramid)
    by_kind = {kind: {row["cluster"] for name, row in found.items() if name[0] == kind} for kind in SIZES}
    assert all(len(numbers) == 1 for numbers in by_kind.values()) and len(set.union(*by_kind.values())) == 3
    in_pool = {name for name, row in found.items() if row["motion"] >= 2}
    assert {name for name, row in found.items() if row[CROWDING] is not None} == in_pool
    assert {row[f"{CROWDING}_why"] for name, row in found.items() if name not in in_pool} == {"not in tier even"}
    kept = kinds_in(pyramid, "even")
    assert max(kept.values()) / kept.total() <= HALF, kept
    assert (kept["b"], kept["c"]) == (8, 4) and kept["a"] == 12 < sum(name[0] == "a" for name in in_pool)
    assert account.exit_code == 0 and account.scored == {CROWDING: len(found)}


def test_the_best_of_the_strictest_tier_come_first(pyramid: Pyramid) -> None:
    find(pyramid, section(best=["-pixels"]))
    of_a = sorted(
        (row for name, row in rows(pyramid).items() if name[0] == "a" and row[CROWDING] is not None),
        key=lambda row: row[CROWDING],
    )
    numbers = [int(row["clip_id"][1:]) for row in of_a]
    assert numbers == [5, 10, 20, 25, *(n for n in range(30) if n % 3 and n % 5)]


def test_a_second_run_writes_nothing(pyramid: Pyramid) -> None:
    find(pyramid, section())
    before = pyramid.dataset("clips").version
    assert find(pyramid, section()).scored == {}
    assert pyramid.dataset("clips").version == before


def test_clusters_keep_their_numbers_when_clips_come(pyramid: Pyramid) -> None:
    find(pyramid, section())
    before = rows(pyramid)
    add(pyramid, [f"c{number:02}" for number in range(10, 70)])
    assert kinds_in(pyramid, "even")["c"] == 4, "a clip that is of no cluster yet is not in a tier that caps them"
    find(pyramid, section())
    now = rows(pyramid)
    assert {name: now[name]["cluster"] for name in before} == {name: row["cluster"] for name, row in before.items()}
    assert now["c39"]["cluster"] == before["c01"]["cluster"]
    kept = kinds_in(pyramid, "even")
    assert kept == {"a": 20, "b": 8, "c": 28}, "28 of 44: half of what is left"
    other = {row[f"{CROWDING}_by"] for row in now.values()}
    assert TOLD == []
    find(pyramid, section(), again=True)
    assert TOLD == ["new clusters were made: their numbers mean other clips than before"]
    assert other.isdisjoint(row[f"{CROWDING}_by"] for row in rows(pyramid).values())


def test_a_share_is_of_the_tier_that_is_named_or_of_all(pyramid: Pyramid) -> None:
    find(pyramid, section(tier="best"))
    assert {name for name, row in rows(pyramid).items() if row[CROWDING]} == {
        name for name, row in rows(pyramid).items() if row["motion"] >= 2 and row["aesthetic"] >= 6
    }
    alone = pyramid.with_tiers(Tiers((Tier("all", {"width": Range(64)}),)))
    find(alone, section())
    assert all(row[CROWDING] is not None for row in rows(pyramid).values())


def test_what_has_no_vector_is_of_no_cluster_and_says_so(pyramid: Pyramid) -> None:
    add(pyramid, ["a31", "a32"], motion=3.0)
    pyramid.dataset("embeddings/small").delete("clip_id = 'a31'")
    Committer(pyramid).commit(Batch(embeddings=[table(["a31"], np.zeros((1, SMALL.width)))]))
    pyramid.dataset("embeddings/small").delete("clip_id = 'a32'")
    find(pyramid, section())
    found = rows(pyramid)
    told = {name: (found[name]["cluster"], found[name][f"{CROWDING}_why"]) for name in ("a31", "a32")}
    assert told == {"a31": (None, "its vector in small has no length"), "a32": (None, "no vector in small")}


def test_without_clips_nothing_is_written(pyramid: Pyramid) -> None:
    find(pyramid, section())
    pyramid.dataset("clips").delete("true")
    before = pyramid.dataset("clips").version
    assert find(pyramid, section()).scored == {} and pyramid.dataset("clips").version == before


def test_clips_whose_vectors_are_gone_are_of_no_cluster(pyramid: Pyramid) -> None:
    find(pyramid, section())
    pyramid.dataset("embeddings/small").delete("true")
    find(pyramid, section())
    found = rows(pyramid).values()
    assert {(row["cluster"], row[CROWDING], row[f"{CROWDING}_why"]) for row in found} == {
        (None, None, "no vector in small"),
        (None, None, "not in tier even"),
    }


def test_clusters_that_another_run_makes_meanwhile_are_taken(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    find(pyramid, section())
    ((old, ours),) = Counter(row[f"{CROWDING}_by"] for row in rows(pyramid).values()).items()
    placed, done = clusters._placed, []

    def beside(*given: Any) -> Any:
        found = placed(*given)
        if not done:
            done.append(True)
            find(pyramid, section(), again=True)
        return found

    monkeypatch.setattr(clusters, "_placed", beside)
    kept = similar.in_force(pyramid)
    assert kept is not None
    turned = replace(kept, centroids=kept.centroids[::-1].copy())
    monkeypatch.setattr(similar, "fit", lambda *_: turned)
    add(pyramid, ["a40"])
    find(pyramid, section())
    (now,) = {row[f"{CROWDING}_by"] for row in rows(pyramid).values()}
    assert now != old and ours == len(rows(pyramid)) - 1


def test_centroids_of_what_is_taken_down_meanwhile_are_not_kept(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The takedown begins when the vectors have been read, and at the next look is still at work."""
    made = similar.fit

    def fit(*given: Any) -> Any:
        found = made(*given)
        tombstones.begin(pyramid.files, tombstones.Work(frozenset(["va00"]), frozenset(["a00"]), frozenset()))
        tombstones.add(pyramid.files, ["va00"])
        return found

    monkeypatch.setattr(similar, "fit", fit)
    with pytest.raises(UserError, match="a takedown has not ended"):
        find(pyramid, section())
    assert similar.in_force(pyramid) is None


def test_a_takedown_that_has_not_ended_is_finished_first(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters.tombstones, "is_pending", lambda _: True)
    with pytest.raises(UserError, match="a takedown has not ended"):
        find(pyramid, section())


def test_a_vector_of_another_caption_does_not_count(pyramid: Pyramid) -> None:
    names = ["d01", "d02", "d03", "d04"]
    texts = {"d01": "a fox", "d02": "a fox", "d03": "snow", "d04": None}
    clips = build.clips(*({"clip_id": name, "video_id": "v", "caption": text} for name, text in texts.items()))
    vectors = np.tile(np.eye(WORDS.width)[:1], (4, 1))
    of = [mark("a fox"), mark("a fox before"), mark("snow"), mark("a fox")]
    Committer(pyramid).commit(Batch(clips=clips, embeddings=[table(names, vectors, WORDS, of=of)]))
    find(pyramid, section(space="words", number=1, tier="all"), WORDS)
    assert {name: rows(pyramid)[name]["cluster"] for name in names} == {"d01": 0, "d02": None, "d03": 0, "d04": None}
