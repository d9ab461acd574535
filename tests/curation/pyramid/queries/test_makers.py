"""Whose captions a query gives: the makers' order, what has given way, and the same after every merge of files."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CAPTIONS
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.queries import query as query_module
from curation.pyramid.store import Pyramid
from curation.shards.freezing import freeze
from tests.curation.pyramid.build import clip_ids, clips
from tests.curation.shards.build import assign, filled, order

DENSE, DENSE_2, SHORT = "dense/Qwen/VL-8B/0123456789ab", "dense/Qwen/VL-9B/0123456789ab", "short/a-model/ab0123456789"
IDS = clip_ids("v1", 5)


def says(pyramid: Pyramid, by: str, captions: dict[int, str | None], day: int, in_force: bool = True) -> None:
    """Commit what a model says of clips of "v1", as the caption stage does."""
    rows: Iterable[dict[str, Any]] = [
        {"clip_id": IDS[place], "caption": text, "caption_by": by, "caption_why": None if text else "caption_loops"}
        for place, text in captions.items()
    ]
    made_at = datetime(2026, 11, day, tzinfo=UTC)
    beside = [
        {"clip_id": row["clip_id"], "by": by, "caption": row["caption"], "why": row["caption_why"], "made_at": made_at}
        for row in rows
    ]
    updates = [clips(*rows)] if in_force else []
    Committer(pyramid).commit(Batch(captions=[pa.Table.from_pylist(beside, schema=CAPTIONS)], clip_updates=updates))


@pytest.fixture
def captioned(pyramid: Pyramid) -> Pyramid:
    """Five clips that a list has captioned twice, the first three a model as well and the first two another; of the
    fourth a model has given only a reason. The fifth has no caption at all.
    """
    filled(pyramid, "v1", 5, caption="a list", caption_by="given")
    rows = [{"clip_id": name, "caption": "a newer list", "caption_by": "given"} for name in IDS]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))
    says(pyramid, DENSE, {0: "dense 0", 1: "dense 1", 2: "dense 2", 3: None}, 1)
    says(pyramid, SHORT, {0: "short 0", 1: "short 1"}, 2)
    says(pyramid, DENSE, {1: "dense 1 once more"}, 3, in_force=False)
    says(pyramid, DENSE_2, {2: "later 2"}, 4, in_force=False)
    filled(pyramid, "v2", 1, caption=None, caption_by=None)
    return pyramid


def told(pyramid: Pyramid, *makers: str) -> list[tuple[str | None, str | None, str | None]]:
    """Caption, maker and reason of the clips of "v1" in their order, then of the one of "v2"."""
    query = pyramid.query().columns("caption", "clip_id", "caption_by", "caption_why")
    query = query.captions_by(*makers) if makers else query
    table = query.to_table()
    assert table.column_names == ["caption", "clip_id", "caption_by", "caption_why"]
    assert pa.Table.from_batches(list(query.batches())).equals(table), "batches give what a table does"
    found = {row.pop("clip_id"): tuple(row.values()) for row in table.to_pylist()}
    return [found[name] for name in (*IDS, *clip_ids("v2", 1))]


NEWER, NONE = ("a newer list", "given", None), (None, None, None)
EXPECTED = {
    ("given",): [NEWER] * 5 + [NONE],
    ("short",): [("short 0", SHORT, None), ("short 1", SHORT, None), NONE, NONE, NONE, NONE],
    (DENSE,): [
        ("dense 0", DENSE, None),
        ("dense 1 once more", DENSE, None),
        ("dense 2", DENSE, None),
        (None, None, "caption_loops"),
        NONE,
        NONE,
    ],
    ("dense/Qwen/VL-9B", "dense", "given"): [
        ("dense 0", DENSE, None),
        ("dense 1 once more", DENSE, None),
        ("later 2", DENSE_2, None),
        NEWER,
        NEWER,
        NONE,
    ],
    ("short", "given"): [("short 0", SHORT, None), ("short 1", SHORT, None), NEWER, NEWER, NEWER, NONE],
}


def test_the_first_maker_that_has_a_caption_is_taken_also_after_every_merge_of_files(captioned: Pyramid) -> None:
    in_force = [("short 0", SHORT, None), ("short 1", SHORT, None), ("dense 2", DENSE, None), NEWER, NEWER, NONE]
    assert told(captioned) == in_force
    assert {makers: told(captioned, *makers) for makers in EXPECTED} == EXPECTED
    assert len(captioned.dataset("captions").get_fragments()) > 1
    upkeep(captioned)
    assert len(captioned.dataset("captions").get_fragments()) == 1
    assert {makers: told(captioned, *makers) for makers in EXPECTED} == EXPECTED and told(captioned) == in_force


def test_a_name_is_no_beginning_of_another(captioned: Pyramid) -> None:
    for wrong in ("dens", "dense/Qwen/VL", "dense/"):
        with pytest.raises(UserError, match=f"{wrong!r}.*there are {DENSE}, {DENSE_2}, given, {SHORT}"):
            captioned.query().captions_by("given", wrong)
    for wrong in (("",), ("given", "given")):
        with pytest.raises(UserError):
            captioned.query().captions_by(*wrong)


def test_memory_holds_the_captions_of_a_batch(captioned: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.pyramid.queries import makers

    looked_up: list[int] = []
    select = makers.select

    def watched(dataset: Any, key: str, values: list[str], *rest: Any, **more: Any) -> pa.Table:
        looked_up.append(len(values))
        found = select(dataset, key, values, *rest, **more)
        assert {row["by"] for row in found.to_pylist()} <= {"given"}, "only of the makers that are asked for"
        return found

    monkeypatch.setattr(makers, "select", watched)
    monkeypatch.setattr(query_module, "_BATCH_ROWS", 2)
    monkeypatch.setattr(query_module.access, "FETCHED", 100)
    query = captioned.query().captions_by("given").where(width=320)
    assert query.order("frames").limit(10).to_table()["caption"].to_pylist().count("a newer list") == 5
    assert looked_up == [2, 2, 2]
    assert query.columns("clip_id").to_table().num_rows == 6 and len(looked_up) == 3, "nothing is looked up unasked"


def test_a_pinned_query_keeps_its_captions(captioned: Pyramid) -> None:
    query = captioned.query().columns("caption").captions_by("short", "given").pinned()
    before = query.to_table()
    says(captioned, SHORT, {2: "short 2"}, 5, in_force=False)
    assert query.to_table().equals(before)
    assert "short 2" in captioned.query().captions_by("short").to_table()["caption"].to_pylist()
    with pytest.raises(UserError, match="name a tag"):
        captioned.query().at(captioned.dataset("clips").version).captions_by("short")


def test_a_manifest_has_the_captions_and_says_whose(captioned: Pyramid) -> None:
    query = captioned.query().captions_by("short", "dense")
    made = freeze(captioned, query, assign, order("n"))
    assert {row["clip_id"]: (row["caption"], row["caption_by"]) for row in made.samples.to_pylist()} == {
        IDS[0]: ("short 0", SHORT),
        IDS[1]: ("short 1", SHORT),
        IDS[2]: ("dense 2", DENSE),
    }
    assert made.manifest.missed == {"no caption": 3}
    assert (made.manifest.caption_by, made.manifest.captions) == (("short", "dense"), {DENSE: 1, SHORT: 2})
    assert made.manifest.format == 2
    says(captioned, SHORT, {2: "short 2"}, 6)
    then = captioned.query().at("manifest-n").captions_by("short", "dense").columns("caption").to_table()
    assert "short 2" not in then["caption"].to_pylist(), "the tag of a manifest pins the captions, too"
    plain = freeze(captioned, captioned.query(), assign, order("plain", without_captions=True)).manifest
    assert (plain.format, plain.caption_by, plain.captions) == (1, (), {})
