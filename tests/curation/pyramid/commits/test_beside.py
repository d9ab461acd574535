"""Vectors and captions beside `clips`: each is kept once, under whatever commits, and goes with its clip."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.contract import CLIP_SPACE, embeddings_schema
from curation.pyramid.commits import beside, tail
from curation.pyramid.commits.commit import Batch, Committer, joined
from curation.pyramid.commits.journal import Journal, recover
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.columns import add_spaces
from curation.pyramid.store import Pyramid
from curation.spaces import UNEMBEDDED, Space, mark
from pipelines.cli import main
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video

IDS = clip_ids("v1", 3)


def vectors(*rows: tuple[str, str], value: float = 0.5) -> pa.Table:
    """A vector for each (clip, maker)."""
    names, by = [name for name, _ in rows], [maker for _, maker in rows]
    many = [[value] * CLIP_SPACE.width] * len(rows)
    columns = {"clip_id": names, "space": [CLIP_SPACE.name] * len(rows), "by": by, "vector": many}
    return pa.table(columns, schema=embeddings_schema(CLIP_SPACE))


def there(pyramid: Pyramid, name: str = "embeddings/clip") -> list[tuple[Any, ...]]:
    """What each row is known by."""
    rows = pyramid.dataset(name).to_table(columns=list(beside.row_key(pyramid, name))).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    return pyramid


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from("ab")), max_size=4), max_size=4))
def test_each_vector_of_a_maker_is_there_once(tmp_path_factory: pytest.TempPathFactory, batches: list[Any]) -> None:
    pyramid = Pyramid.create(tmp_path_factory.mktemp("beside") / "p", TIERS, "test")
    added = sum(Committer(pyramid).commit(Batch(embeddings=[vectors(*rows)])).embeddings for rows in batches)
    assert there(pyramid) == sorted({row for rows in batches for row in rows}) and added == len(there(pyramid))
    again = joined([Batch(embeddings=[vectors(*rows)]) for rows in batches])
    assert Committer(pyramid).commit(again).embeddings == 0


def test_a_score_that_is_seen_has_its_vector(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vector is there before the score, so a kill between leaves none without it."""
    batch = Batch(
        clip_updates=[clips({"clip_id": IDS[0], "aesthetic": 6.0, "aesthetic_by": "a"})],
        embeddings=[vectors((IDS[0], "a"))],
    )
    with monkeypatch.context() as patch:
        patch.setattr(Committer, "_all_clips", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Committer(filled).commit(batch)
    assert there(filled) == [(IDS[0], "a")] and filled.where(aesthetic=None).count() == 3
    Committer(filled).commit(batch)
    assert there(filled) == [(IDS[0], "a")] and filled.where(aesthetic=(6, 6)).ids() == [IDS[0]]


def test_the_journal_keeps_vectors(filled: Pyramid) -> None:
    Journal(filled.uri, "killed").keep(Batch(embeddings=[vectors((IDS[0], "a"), (IDS[1], "a"))]))
    assert recover(filled) == 1
    assert there(filled) == [(IDS[0], "a"), (IDS[1], "a")]


def test_the_journal_keeps_vectors_of_own_spaces_and_why_there_are_none(filled: Pyramid) -> None:
    space = Space("own", 2, "a test", of_caption=True)
    add_spaces(filled, [space])
    own = filled.having(spaces=[space])
    row = {"clip_id": IDS[0], "space": "own", "by": "a", "of": mark("a fox")}
    made = pa.Table.from_pylist([row | {"vector": [1.0, 2.0]}], schema=embeddings_schema(space))
    none = pa.Table.from_pylist([row | {"clip_id": IDS[1], "why": "no fox"}], schema=UNEMBEDDED)
    for run in ("killed", "killed again"):  # the same twice changes nothing
        Journal(own.uri, run).keep(Batch(embeddings=[made], unembedded=[none]))
        assert recover(Pyramid.open(own.uri)) == 1
    assert there(own, "embeddings/own") == [(IDS[0], "a", mark("a fox"))]
    assert own.dataset("unembedded").to_table().to_pylist() == [row | {"clip_id": IDS[1], "why": "no fox"}]


def test_an_entry_of_a_space_that_the_pyramid_has_not_is_left_out_and_told(filled: Pyramid, caplog: Any) -> None:
    row = {"clip_id": IDS[0], "space": "nobodys", "by": "a", "vector": [1.0, 2.0]}
    made = pa.Table.from_pylist([row], schema=embeddings_schema(Space("nobodys", 2, "")))
    Journal(filled.uri, "killed").keep(Batch(embeddings=[made]))
    assert recover(filled) == 0 and "no space is called" in caplog.text


def test_a_caption_that_gives_way_is_kept_told_and_not_copied_where_it_stays(
    filled: Pyramid, capsys: pytest.CaptureFixture[str]
) -> None:
    def caption(text: str | None, by: str | None, why: str | None = None) -> None:
        row = {"clip_id": IDS[0], "caption": text, "caption_by": by, "caption_why": why}
        Committer(filled).commit(Batch(clip_updates=[clips(row)]))

    def now() -> tuple[Any, ...]:
        row = filled.where(clip_id=IDS[0]).columns("caption", "caption_by", "caption_why").to_table().to_pylist()[0]
        return tuple(row.values())

    caption(None, "m", "cut short")
    assert now() == (None, "m", "cut short")
    caption("a dog", "given")
    caption("a dog", "given")
    assert now() == ("a dog", "given", None) and there(filled, "captions") == []
    caption(None, "m", "cut short")
    assert now() == ("a dog", "given", None), "what is there gives way to no failure"
    Committer(filled).commit(Batch(clip_updates=[clips({"clip_id": IDS[0], "aesthetic": 6.0, "aesthetic_by": "a"})]))
    assert now() == ("a dog", "given", None) and there(filled, "captions") == []
    caption("a brown dog", "m")
    caption("a dog", "given")
    assert now() == ("a brown dog", "m", None), "what a model wrote comes before what a list gives"
    assert there(filled, "captions") == [(IDS[0], "given", "a dog", None)]
    caption("a cat", "given")
    caption("a very brown dog", "m")
    caption("ein Hund", "n")
    assert now() == ("ein Hund", "n", None)
    kept = {("given", "a dog"), ("given", "a cat"), ("m", "a brown dog"), ("m", "a very brown dog")}
    assert {row[1:3] for row in there(filled, "captions")} == kept
    shape = {"shot": 0, "end_s": 1.0, "start_frame": 0, "end_frame": 24, "width": 64, "height": 64, "fps": 24.0}
    Committer(filled).commit(Batch(clip_updates=[clips({"clip_id": IDS[0], **shape})]))
    main(["why", filled.uri, IDS[0]])
    said = capsys.readouterr().out.splitlines()
    assert {f"  caption by {by}, not in force: {text}" for by, text in kept} <= {*said}
    assert "  caption by n: ein Hund" in said
    main(["why", filled.uri, IDS[0], "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["by"], row["caption"]) for row in rows if row["kind"] == "caption"} == kept


def test_why_there_is_no_caption_is_its_makers_word(filled: Pyramid) -> None:
    for by, why in (("m1", "cut short"), ("m2", None), ("m3", "loops")):
        row = {"clip_id": IDS[0], "caption": None, "caption_by": by, "caption_why": why}
        Committer(filled).commit(Batch(clip_updates=[clips(row)]))
        found = filled.where(clip_id=IDS[0]).columns("caption", "caption_by", "caption_why").to_table().to_pylist()
        assert found == [{"caption": None, "caption_by": by, "caption_why": why}]


def test_a_caption_is_kept_before_another_is_in_force(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    Committer(filled).commit(Batch(clip_updates=[clips({"clip_id": IDS[0], "caption": "a", "caption_by": "x"})]))
    monkeypatch.setattr("curation.pyramid.commits.upsert.publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Committer(filled).commit(Batch(clip_updates=[clips({"clip_id": IDS[0], "caption": "b", "caption_by": "y"})]))
    assert there(filled, "captions") == [(IDS[0], "x", "a", None)]


def test_upkeep_removes_twins_and_what_has_no_clip(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):  # as two committers do that look at the same moment
        with monkeypatch.context() as patch:
            patch.setattr(beside, "_new", lambda dataset, rows, columns: rows)
            beside.add_embeddings(filled, [vectors((IDS[0], "a"), (IDS[0], "b"), (IDS[1], "a"), ("gone", "a"))])
    assert len(there(filled)) == 8
    done = upkeep(filled, timedelta(0), timedelta(0), idle=True)
    assert (done.orphans, done.twins) == (2, 3)
    assert there(filled) == [(IDS[0], "a"), (IDS[0], "b"), (IDS[1], "a")]


def test_many_small_commits_leave_few_fragments(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "EVERY", 4)
    for number in range(12):
        beside.add_embeddings(filled, [vectors((IDS[0], f"maker-{number}"))])
    assert len(there(filled)) == 12
    assert len(filled.dataset("embeddings/clip").get_fragments()) < 8
