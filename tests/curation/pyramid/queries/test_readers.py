"""`clips` is read as it is by what people have: DuckDB, pandas and polars, through Arrow and nothing of ours."""

from __future__ import annotations

from typing import Any

import duckdb
import lance
import polars
import pyarrow as pa
import pytest

from curation.contract import CLIP_SPACE, CLIPS, REVIEW, embeddings_schema
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.review import changing, words
from curation.pyramid.review.words import Decision
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video

IDS = clip_ids("v1", 3)
VECTORS = [[float(index), *[0.5] * (CLIP_SPACE.width - 1)] for index in range(3)]


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    """With a value in every column of `clips`, in one row at least."""
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    values: dict[Any, Any] = {pa.string(): "x", pa.float32(): 2.5, pa.float64(): 2.5, pa.int32(): 64, pa.int64(): 64}
    row = {
        field.name: values.get(field.type, [2] * getattr(field.type, "list_size", 0))
        for field in CLIPS
        if field not in REVIEW
    }
    kept = {"clip_id": IDS[0], "video_id": "v1", "media": None}
    rows = {"clip_id": IDS, "space": ["clip"] * 3, "by": ["clip-1"] * 3, "vector": VECTORS}
    vectors = pa.table(rows, schema=embeddings_schema(CLIP_SPACE))
    Committer(pyramid).commit(Batch(clip_updates=[clips(row | kept)], embeddings=[vectors]))
    changing.decide(pyramid, IDS[:1], Decision.KEEP, "x")
    changing.tag(pyramid, IDS[:1], words.typed("x"), "x")
    return pyramid


def asked(sql: str, here: lance.LanceDataset) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.register("here", here).execute(sql).fetchall()


def test_duckdb(filled: Pyramid) -> None:
    here = lance.dataset(f"{filled.uri}/clips.lance")
    rows = asked("SELECT * FROM here WHERE motion >= 2 ORDER BY clip_id", here)
    expected = filled.where(motion=(2, None)).columns(*CLIPS.names).to_table()
    assert [row[0] for row in rows] == sorted(expected["clip_id"].to_pylist()) and len(rows[0]) == len(CLIPS.names)
    mean = asked("SELECT tier, avg(motion), max(laplacian[1]) FROM here GROUP BY tier ORDER BY tier", here)
    assert sum(value is not None for _, value, _ in mean) == len(mean) and mean[0][0] in TIERS.names


def test_pandas_and_polars(filled: Pyramid) -> None:
    found = lance.dataset(f"{filled.uri}/clips.lance").to_table()
    frame, polar = found.to_pandas(), polars.from_arrow(found)
    assert isinstance(polar, polars.DataFrame)
    assert list(frame.columns) == polar.columns == CLIPS.names
    assert set(frame[frame["motion"] >= 2]["clip_id"]) == set(polar.filter(polars.col("motion") >= 2)["clip_id"])
    assert polar["motion"].sum() == pytest.approx(frame["motion"].sum())
    (first,) = polar.filter(polars.col("clip_id") == IDS[0]).to_dicts()
    assert {name for name, value in first.items() if value is None} <= {"media_why", "caption_why", "tier"}


def test_vectors_are_found_by_their_clip(filled: Pyramid) -> None:
    place = lance.dataset(f"{filled.uri}/embeddings/clip.lance")
    rows = place.to_table(filter=f"clip_id = '{IDS[1]}'").to_pylist()
    assert rows == [{"clip_id": IDS[1], "space": "clip", "by": "clip-1", "vector": VECTORS[1]}]
    nearest = place.to_table(nearest={"column": "vector", "q": VECTORS[2], "k": 1}).to_pylist()
    assert [row["clip_id"] for row in nearest] == [IDS[2]]
