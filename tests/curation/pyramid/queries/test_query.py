from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.contract import CLIPS, NOT_OF_IMAGES, SCORES
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.queries import access, conditions
from curation.pyramid.queries.conditions import Between
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import Range
from tests.curation.pyramid.build import TIERS, clips, table

HOSTILE = ["1 OR 1=1", "'; DROP TABLE clips; --", 'a"b', "\\", "motion >= 0", "", "%", "\x00", "Ünï\u2028"]
TEXTS = [*HOSTILE, "low", "mid", "high"]


def single(value: float) -> float:
    return float(np.array(value, np.float64).astype(np.float32)) if abs(value) < 1e38 else value


def generated(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with repeated values, nulls and hostile texts; every fourth is an image, as wide as some videos are."""
    rng = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for index in range(rows):
        start = float(rng.integers(0, 100))
        row: dict[str, Any] = {
            "clip_id": f"{index:032x}",
            "video_id": f"v{index // 7}",
            "start_s": start,
            "end_s": start + float(rng.choice([2.0, 2.5, 8.0, 7.9999])),
            "width": int(rng.choice([0, 640, 1280, 2**31 - 1, -(2**31)])),
            "height": int(rng.choice([360, 720, 1280, 2**31 - 1])) if index % 11 else None,
            "frames": int(rng.choice([48, 60, 192, int(rng.integers(0, 200))])),
            "start_frame": int(rng.integers(-(2**62), 2**62)),
            "fps": float(rng.choice([23.976, 24.0, 29.97])),
            "kind": [None, "video", "video", "image"][index % 4],
            "tier": str(rng.choice(TEXTS)) if index % 5 else None,
            "caption": HOSTILE[index % len(HOSTILE)] if index % 3 else None,
        }
        for score in SCORES:
            value = single(float(rng.choice([0.1, 5.1, -3.3, 1e30, -1e30, float(rng.normal(5, 3))])))
            row[score] = value if rng.random() > 0.15 else None
        if row["kind"] == "image":
            row |= dict.fromkeys(("end_s", "fps", "motion", "jitter"))
        made.append(row)
    return made


ROWS = generated(400)


def measures(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that are not stored, in plain Python."""
    sides = row["width"], row["height"]
    whole = None not in sides
    return {
        "duration_s": None if row["fps"] is None else row["frames"] / row["fps"],
        "pixels": sides[0] * sides[1] if whole else None,
        "short_side": min(sides) if whole else None,
        "long_side": max(sides) if whole else None,
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pyramid]]:
    """The same rows twice: plain, and after upkeep, with indexes asked for whatever the number of rows."""
    import lance

    made: list[Pyramid] = []
    for name in ("plain", "indexed"):
        pyramid = Pyramid.create(tmp_path_factory.mktemp("query") / name, TIERS, "test")
        for start in range(0, len(ROWS), 150):
            lance.write_dataset(
                table(ROWS[start : start + 150], CLIPS, *CLIPS.names),
                pyramid.dataset_uri("clips"),
                mode="append",
            )
        made.append(pyramid)
    upkeep(made[1])
    assert made[1].dataset("clips").describe_indices()
    with mock.patch.object(access, "_NARROW_SHARE", 1.0):
        yield made


NUMBER = (
    st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**40), 10**40)
    | st.sampled_from([5.1, 0.1, -3.3, 1e30, 1e39, -1e39, 640, 2**31, 2**63, 7.9999, 24, 5e-324])
)
CONDITION = st.one_of(
    st.tuples(st.sampled_from(conditions.NUMBERS), st.tuples(NUMBER, NUMBER)),
    st.tuples(st.sampled_from(conditions.NUMBERS), NUMBER),
    st.tuples(
        st.sampled_from([name for name in conditions.TEXTS if name != "kind"]),
        st.sampled_from([*TEXTS, "v1", "v2", f"{3:032x}"]) | st.text(max_size=5),
    ),
    st.tuples(
        st.sampled_from(["tier", "caption", "video_id"]),
        st.lists(st.sampled_from([*TEXTS, "v3"]), min_size=1),
    ),
    st.tuples(st.just("kind"), st.sampled_from(["image", "video", ["image", "video"], None])),
    st.tuples(st.sampled_from(NOT_OF_IMAGES), st.tuples(NUMBER, NUMBER)),
)


def oracle(wanted: list[tuple[str, Any]]) -> list[str]:
    """The ids that satisfy (column, value) conditions, judged with nothing but Python."""

    def inside(column: str, value: Any, row: dict[str, Any]) -> bool:
        image = row["kind"] == "image"
        found = ("image" if image else "video") if column == "kind" else (row | measures(row)).get(column)
        if image and column in NOT_OF_IMAGES and value is not None:
            return True
        if value is None or found is None:
            return value is None and found is None
        if column in conditions.TEXTS or isinstance(found, str):
            return found in ([value] if isinstance(value, str) else value)
        low, high = value if isinstance(value, tuple) else (value, value)
        if column in SCORES:
            low, high = (end if end is None else single(end) for end in (low, high))
        return (low is None or found >= low) and (high is None or found <= high)

    return [row["clip_id"] for row in ROWS if all(inside(column, value, row) for column, value in wanted)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CONDITION, max_size=3), st.integers(0, 500))
@example([("start_s", (None, None)), ("motion", (None, None)), ("duration_s", (None, None))], 3)
@example([("pixels", (300_000, None)), ("short_side", (None, 720)), ("long_side", (640, 2**31))], 3)
@example([("pixels", None)], 3)
@example([("motion", (5.1, None)), ("duration_s", (2, 5))], 3)
@example([("jitter", (1e39, None)), ("fps", (24, 24)), ("kind", "image")], 3)
@example([("motion", (None, 5.1)), ("kind", "video"), ("motion", None)], 3)
def test_p14_a_query_keeps_what_plain_python_keeps(
    filled: list[Pyramid], wanted: list[tuple[str, Any]], limit: int
) -> None:
    ordered = [
        (column, tuple(sorted(value)) if isinstance(value, tuple) and None not in value else value)
        for column, value in wanted
    ]
    expected = oracle(ordered)
    for pyramid in filled:
        query = pyramid.query()
        for column, value in ordered:
            query = query.where(**{column: value})
        assert query.ids() == expected
        assert query.count() == len(expected)
        assert query.limit(limit).ids() == expected[:limit]
        assert [
            name for batch in query.columns("clip_id").batches() for name in batch["clip_id"].to_pylist()
        ] == expected
        assert [row["clip_id"] for row in ROWS if conditions.holds(query.conditions, row)] == expected


@pytest.mark.parametrize("column", conditions.NUMBERS)
def test_a_bound_at_each_value_that_is_there_keeps_what_plain_python_keeps(filled: list[Pyramid], column: str) -> None:
    values = sorted({value for row in ROWS if (value := (row | measures(row)).get(column)) is not None})
    some = [*values[:3], *values[3 :: max(1, len(values) // 6)]]
    some = [value for value in some if float(value) == value]  # a bound is a double
    for bounds in [(value, None) for value in some] + [(None, value) for value in some] + [(None, None)]:
        expected = oracle([(column, bounds)])
        for pyramid in filled:
            assert pyramid.query().where(**{column: bounds}).ids() == expected, bounds


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["duration_s", "pixels", "short_side", "long_side", "frames", "fps", *SCORES]),
    st.booleans(),
    st.integers(0, 60),
    st.lists(CONDITION.filter(lambda c: not isinstance(c[1], tuple)), max_size=1),
)
def test_order_by_returns_the_best_and_of_equals_the_first(
    filled: list[Pyramid], column: str, descending: bool, limit: int, wanted: list[tuple[str, Any]]
) -> None:
    names = set(oracle(wanted))
    keys = [row | measures(row) for row in ROWS if row["clip_id"] in names]
    keys = [row for row in keys if row[column] is not None]
    expected = sorted(keys, key=lambda row: -row[column] if descending else row[column])[:limit]
    for pyramid in filled:
        query = pyramid.query().order(column, descending=descending).limit(limit)
        for name, value in wanted:
            query = query.where(**{name: value})
        assert query.ids() == [row["clip_id"] for row in expected]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda q: q.where(colour=3), ["'colour'", "aesthetic", "duration_s"]),
        (lambda q: q.where(**{"motion) OR (1=1": (1, 2)}), ["motion) OR (1=1", "aesthetic"]),
        (lambda q: q.where(motion="1 OR 1=1"), ["motion", "1 OR 1=1"]),
        (lambda q: q.where(motion=(float("nan"), None)), ["nan"]),
        (lambda q: q.where(motion=(None, float("inf"))), ["inf"]),
        (lambda q: q.where(motion=(10**400, None)), ["1e308"]),
        (lambda q: q.where(motion=(5, 3)), ["5.0..3.0"]),
        (lambda q: q.where(motion=True), ["True"]),
        (lambda q: q.where(motion=b"1"), ["motion"]),
        (lambda q: q.where(tier=3), ["tier", "3"]),
        (lambda q: q.where(tier=[]), ["tier"]),
        (lambda q: q.where(tier=["a", 3]), ["tier"]),
        (lambda q: q.where(tier="\ud800"), ["Unicode"]),
        (lambda q: q.where(kind="picture"), ["kind", "picture", "video, image"]),
        (lambda q: q.where(kind=["video", 3]), ["kind"]),
        (lambda q: q.where(laplacian=None), ["laplacian", "search"]),
        (lambda q: q.having("colour"), ["colour"]),
        (lambda q: q.order("caption"), ["caption", "order", "motion"]),
        (lambda q: q.order("motion").to_table(), ["limit"]),
        (lambda q: q.columns("clip_id", "x"), ["'x'", "clip_id"]),
        (lambda q: q.columns(), ["no column"]),
        (lambda q: q.limit(-1), ["-1"]),
        (lambda q: q.limit(True), ["True"]),
        (lambda q: q.limit("5; --"), ["5; --"]),
        (lambda q: q.tier("best"), ["'best'", "low, mid, high"]),
        (lambda q: q.at(10**6).count(), ["no version 1000000"]),
        (lambda q: q.at("no such tag").count(), ["no such tag"]),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(filled: list[Pyramid], build: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build(filled[0].query())
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_tier_is_a_query_and_agrees_with_the_tiers_themselves(filled: list[Pyramid]) -> None:
    for pyramid in filled:
        for name in TIERS.names:
            expected = [row["clip_id"] for row in ROWS if TIERS.admits(name, row | measures(row))]
            assert pyramid.tier(name).ids() == expected
            assert pyramid.tier(name).count() == len(expected)


def test_columns_order_and_computed_ones(filled: list[Pyramid]) -> None:
    for limit in (3, None):
        found = filled[0].query().limit(limit).columns(*measures(ROWS[0]), "motion", "clip_id").to_table()
        assert found.column_names == [*measures(ROWS[0]), "motion", "clip_id"]
        computed = found.select([*measures(ROWS[0])]).to_pylist()
        assert computed == [measures(row) for row in ROWS[:limit]]
    assert "laplacian" not in filled[0].query().limit(1).to_table().column_names
    empty = filled[0].where(clip_id="none").columns("clip_id", "duration_s").limit(5).to_table()
    assert empty.schema.names == ["clip_id", "duration_s"] and empty.num_rows == 0


def test_a_column_may_be_called_as_a_parameter_of_the_method_is(filled: list[Pyramid]) -> None:
    for name in ("self", "values", "conditions", "column", "value"):
        for asked in (filled[0], filled[0].query()):
            with pytest.raises(UserError, match=f"'{name}'"):
                asked.where(**{name: "x"})


def test_a_query_is_a_value(filled: list[Pyramid]) -> None:
    query = filled[0].query()
    assert query.where(motion=(1, None)).limit(3) == Query(filled[0]).where(motion=Range(1)).limit(3)
    assert query.conditions == () and query.rows is None


def test_a_pinned_query_never_changes(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "t")
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "a", "motion": 2.0}, {"clip_id": "b", "motion": 3.0})))
    pinned = pyramid.where(motion=(1, None)).columns("clip_id", "motion").pinned()
    before = pinned.to_table().sort_by("clip_id")
    Committer(pyramid).commit(Batch(clip_updates=[clips({"clip_id": "a", "motion": 0.0})]))
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "c", "motion": 9.0})))
    Committer(pyramid).delete_clips(["b"])
    assert pinned.to_table().sort_by("clip_id").equals(before) and pinned.count() == 2
    assert pyramid.where(motion=(1, None)).ids() == ["c"]


def test_time_limit(filled: list[Pyramid], monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled[0].query().within(30).count() == len(ROWS)
    slow = access.candidates
    monkeypatch.setattr(access, "candidates", lambda *a, **k: (time.sleep(0.5), slow(*a, **k))[1])
    with pytest.raises(UserError, match=r"longer than 0\.05 s"):
        filled[0].query().within(0.05).count()
    with pytest.raises(UserError, match="longer than"):
        list(filled[0].query().within(1e-9).batches())


def test_stale_statistics_change_the_way_not_the_answer(filled: list[Pyramid], monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid = filled[1]
    points = {score: tuple(np.linspace(50, 60, len(access.PROBABILITIES))) for score in SCORES}
    wrong = access.Statistics(10**9, points, dict.fromkeys(SCORES, 0.0))
    for statistics in (wrong, access.Statistics(0, {})):
        monkeypatch.setattr(access.Statistics, "of", classmethod(lambda cls, dataset, s=statistics: s))
        for walk in (0, 3):
            monkeypatch.setattr(access, "_WALK", walk)
            query = pyramid.where(motion=(4, 6), aesthetic=(5, None))
            assert query.ids() == oracle([("motion", (4, 6)), ("aesthetic", (5, None))])
            assert query.limit(4).ids() == query.ids()[:4]


def test_statistics_bound_the_share_of_rows(filled: list[Pyramid]) -> None:
    statistics = access.Statistics.of(filled[1].dataset("clips"))
    assert set(statistics.points) == set(SCORES) and statistics.rows == len(ROWS)
    values = np.array([row["motion"] for row in ROWS if row["motion"] is not None])
    for low, high in ((5.0, None), (None, 2.0), (4.0, 6.0), (1e31, None), (math.nextafter(1e30, 2e30), None)):
        inside = (values >= (low or -np.inf)) & (values <= (high or np.inf))
        assert statistics.share("motion", Range(low, high)) >= inside.mean() - 1e-9
    assert statistics.share("width", Range(1, 2)) == 1.0
    there = filled[1].dataset("clips").schema.names
    within = [row for row in ROWS if row["kind"] == "image" or (row["motion"] is not None and row["motion"] >= 5.0)]
    assert 1.0 > statistics.passing(Between("motion", Range(5.0)), there) >= len(within) / len(ROWS) - 1e-9
    assert statistics.passing(Between("motion", Range(5.0), measured=True), there) == statistics.share(
        "motion", Range(5.0)
    )


def test_what_a_clip_without_a_kind_is_shown_as(filled: list[Pyramid]) -> None:
    for limit in (7, None):
        found = filled[0].query().limit(limit).columns("kind", "motion").to_table()["kind"].to_pylist()
        assert found == [row["kind"] or "video" for row in ROWS[:limit]]
    assert filled[0].query().having("kind").count() == len(ROWS)


def test_rows_from_before_there_were_kinds_are_videos(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "t")
    rows = [{"clip_id": name, "motion": motion} for name, motion in (("a", 3.0), ("b", None), ("c", 0.5))]
    Committer(pyramid).commit(Batch(clips=clips(*rows)))
    pyramid.dataset("clips").drop_columns(["kind"])
    assert pyramid.where(motion=(1, None)).ids() == ["a"] == pyramid.tier("low").ids()
    assert pyramid.where(kind="video").count() == 3 and pyramid.where(kind=["image"]).ids() == []
    assert pyramid.where(kind="video").columns("kind").to_table()["kind"].to_pylist() == ["video"] * 3
    assert pyramid.query().order("motion").limit(5).ids() == ["c", "a"]
    assert [row.clips for row in tier_report(pyramid)] == [1, 0, 0]
    retier(pyramid.with_tiers(TIERS.moved("low", "motion", Range(0.1))))
    assert sorted(pyramid.where(tier="low").ids()) == ["a", "c"]


def test_nan_in_a_store_is_in_no_range(tmp_path: Path) -> None:
    import lance

    pyramid = Pyramid.create(tmp_path / "p", TIERS, "t")
    rows = [{"clip_id": "a", "motion": float("nan")}, {"clip_id": "b", "motion": 3.0}]
    lance.write_dataset(table(rows, CLIPS, *CLIPS.names), pyramid.dataset_uri("clips"), mode="append")
    for bounds in ((1, None), (None, 5), (1, 5)):
        assert pyramid.where(motion=bounds).ids() == ["b"]
    assert isinstance(pyramid.query().to_table(), pa.Table)
