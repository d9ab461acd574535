"""Columns of a clip that its video has: where it came from, and what the user's list said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.contract import VIDEOS
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries import extra, lineage
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, clips, table, whole_video

URIS = {
    "v1": "/in/day 1/a.mp4",
    "v2": "s3://bucket/b%20c.mp4?endpoint_override=host:1&scheme=http",
    "v3": "/in/other/a.mp4",
    "v4": "file:///in/%FF.mp4",
}
EXTRA: dict[str, dict[str, Any]] = {
    "v1": {"label": "cat", "score": 1, "width": 7, "ok": True, "tags": ["a", "b"], "nan": float("nan")},
    "v2": {"label": "1 OR 1=1", "score": 2.5, "ok": False},
    "v3": {"label": None},
}


def add(pyramid: Pyramid, video_id: str, count: int = 2) -> None:
    batch = whole_video(pyramid, video_id, count, uri=URIS.get(video_id))
    assert batch.videos is not None
    values = EXTRA.get(video_id)
    column = pa.array([None if values is None else json.dumps(values)], pa.string())
    videos = batch.videos.set_column(batch.videos.schema.get_field_index("extra"), "extra", column)
    Committer(pyramid).commit(replace(batch, videos=videos))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    pyramid = Pyramid.create(tmp_path_factory.mktemp("lineage") / "p", TIERS, "test")
    for video_id in URIS:
        add(pyramid, video_id)
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "f" * 32, "video_id": "unsettled"})))
    return pyramid


def found(pyramid: Pyramid, **wanted: Any) -> set[str]:
    return {row["video_id"] for row in pyramid.where(**wanted).columns("video_id").to_table().to_pylist()}


def test_the_source_is_a_file_name() -> None:
    names = ["a.mp4", "b c.mp4", "a.mp4", "\N{REPLACEMENT CHARACTER}.mp4"]
    assert [lineage.source_name(uri) for uri in URIS.values()] == names
    assert lineage.source_name("/in/what?.mp4") == "what?.mp4"
    assert lineage.source_name("/in/folder/") == "folder"


def test_clips_have_the_columns_of_their_videos_in_a_table_and_in_batches(filled: Pyramid) -> None:
    query = filled.query().columns("source", "clip_id", "uri", "label", "extra.score", "extra.width")
    whole = query.to_table()
    assert whole.column_names == list(query.selected) == query.schema().names
    assert pa.Table.from_batches(list(query.batches())).equals(whole)
    assert whole.schema.field("extra.score").type == pa.float64()
    rows = {row["uri"]: row for row in whole.to_pylist()}
    assert [rows[URIS[name]]["label"] for name in ("v1", "v2", "v3", "v4")] == ["cat", "1 OR 1=1", None, None]
    assert [rows[URIS[name]]["extra.score"] for name in ("v1", "v2", "v3")] == [1.0, 2.5, None]
    assert [rows[URIS[name]]["extra.width"] for name in ("v1", "v2")] == [7, None]
    assert rows[None]["source"] is None and len(whole) == 9
    for some in (query.limit(3), query.order("motion").limit(3), query.where(video_id="v2")):
        assert all(row == rows[row["uri"]] | {"clip_id": row["clip_id"]} for row in some.to_table().to_pylist())
    with_ids = next(query.batches(with_row_id=True))
    assert with_ids.schema.names == [*query.selected, "_rowid"]


def test_the_whole_has_every_own_column_under_one_name_and_with_one_type(filled: Pyramid) -> None:
    schema = filled.query().whole().schema()
    assert {"uri", "source", "label", "score", "extra.width", "ok", "tags", "nan"} <= set(schema.names)
    assert "extra" not in schema.names and "embedding" not in schema.names and schema.names.count("width") == 1
    assert [schema.field(name).type for name in ("extra.width", "ok", "tags")] == [pa.int64(), pa.bool_(), pa.string()]
    (first,) = filled.where(video_id="v1").limit(1).columns("tags", "nan", "ok", "uris").to_table().to_pylist()
    assert first == {"tags": '["a", "b"]', "nan": None, "ok": True, "uris": ["/in/day 1/a.mp4"]}


def test_too_many_own_columns_are_one(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "MOST", 3)
    query = filled.where(video_id="v2").whole()
    assert "label" not in query.selected
    assert [json.loads(row["extra"]) for row in query.to_table().to_pylist()] == [EXTRA["v2"]] * 2


def test_videos_that_are_forgotten_meanwhile_are_read_again(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    query = filled.query().columns("clip_id", "uri")
    rows = query.to_table().to_pylist()
    monkeypatch.setattr(lineage, "_KEPT", 1)
    monkeypatch.setattr("curation.pyramid.queries.query._BATCH_ROWS", 2)
    assert query.to_table().to_pylist() == rows


@pytest.mark.parametrize(
    ("wanted", "videos"),
    [
        ({"source": "a.mp4"}, {"v1", "v3"}),
        ({"source": ["b c.mp4", "none.mp4"]}, {"v2"}),
        ({"uri": URIS["v3"]}, {"v3"}),
        ({"source": "a.mp4", "uri": URIS["v1"]}, {"v1"}),
        ({"source": "nowhere.mp4"}, set()),
        ({"label": "cat"}, {"v1"}),
        ({"extra.label": ["cat", "1 OR 1=1"]}, {"v1", "v2"}),
        ({"label": None}, {"v3", "v4"}),
        ({"score": (2, None)}, {"v2"}),
        ({"score": 1}, {"v1"}),
        ({"extra.width": 7}, {"v1"}),
        ({"width": 7}, set()),
        ({"ok": True}, {"v1"}),
        ({"ok": "false"}, {"v2"}),
        ({"tags": '["a", "b"]'}, {"v1"}),
    ],
)
def test_clips_are_found_by_what_their_videos_have(filled: Pyramid, wanted: dict[str, Any], videos: set[str]) -> None:
    assert found(filled, **wanted) == videos
    query = filled.where(**wanted)
    assert query.count() == len(query.ids()) == 2 * len(videos)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda q: q.columns("colour"), ["'colour'", "source", "label", "extra.width", "motion"]),
        (lambda q: q.columns("extra.colour"), ["'extra.colour'", "label"]),
        (lambda q: q.where(colour="red"), ["'colour'", "label"]),
        (lambda q: q.where(uris="x"), ["'uris'", "search", "source"]),
        (lambda q: q.where(extra="x"), ["'extra'", "search"]),
        (lambda q: q.where(source=3), ["3", "text"]),
        (lambda q: q.where(source=None), ["every clip has a source"]),
        (lambda q: q.where(source="\udcff"), ["source=", "not valid Unicode"]),
        (lambda q: q.where(label=3), ["label", "text"]),
        (lambda q: q.where(score="1 OR 1=1"), ["score", "number"]),
        (lambda q: q.where(score=(3, 1)), ["score"]),
        (lambda q: q.order("source"), ["source", "order"]),
        (lambda q: q.order("score"), ["score", "order"]),
    ],
)
def test_what_cannot_be_asked_is_refused(filled: Pyramid, build: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build(filled.query())
    assert all(word in str(caught.value) for word in words), caught.value


NAME = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["'; --", 'a"b', "uri", "motion", "extra.uri"]
)
VALUE = st.none() | st.booleans() | st.integers() | st.floats() | NAME | st.lists(st.integers(), max_size=2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(NAME, VALUE, max_size=3), min_size=1, max_size=4))
def test_p14_whatever_a_list_says_comes_out_again_and_is_found(
    tmp_path_factory: pytest.TempPathFactory, given_values: list[dict[str, Any]]
) -> None:
    pyramid = Pyramid.create(tmp_path_factory.mktemp("own") / "p", TIERS, "test")
    rows = [{"clip_id": f"{i:032x}", "video_id": f"v{i}"} for i in range(len(given_values))]
    ledger = [
        {"video_id": f"v{i}", "uris": [f"/{i}.mp4"], "modified": [0.0], "extra": json.dumps(values)}
        for i, values in enumerate(given_values)
    ]
    Committer(pyramid).commit(Batch(clips=clips(*rows)))
    pyramid.dataset("videos").insert(table(ledger, VIDEOS, *VIDEOS.names))
    owns = lineage.own(pyramid)
    assert len({own.key for own in owns.values()}) == len(owns) and not set(owns) & lineage.TAKEN
    whole = {row["video_id"]: row for row in pyramid.query().whole().to_table().to_pylist()}
    for index, values in enumerate(given_values):
        kept = extra.parsed(json.dumps(values))
        for name, own in owns.items():
            shown, value = whole[f"v{index}"][name], kept.get(own.key)
            if own.type == pa.string() and value is not None and not isinstance(value, str):
                shown = json.loads(shown)
            assert shown == (float(value) if own.type == pa.float64() and value is not None else value)
            if isinstance(value, str):
                assert f"v{index}" in found(pyramid, **{name: value})
