"""Which clips want a caption: what a maker has said of them counts, in force or not, and why it failed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CAPTIONS, GIVEN, Reason
from curation.pyramid.commits import journal
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal
from curation.pyramid.history.failures import LASTING, PASSING, NoCaption, failure, kind
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown.forget import forget
from tests.curation.pyramid.build import clip_ids, clips, whole_video

IDS = clip_ids("v1", 4)
LOW = set(IDS[1:])
"""The clips of the tier `low`: their motion is 1, 2 and 3."""


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 4))
    return pyramid


def said(name: str, by: str, caption: str | None, why: str | None = None, detail: str = "{}") -> Batch:
    """What a run commits of a clip that a maker has spoken of."""
    row = {"clip_id": name, "caption": caption, "caption_by": by, "caption_why": why}
    beside = {"clip_id": name, "by": by, "caption": caption, "why": why, "detail": detail}
    return Batch(clip_updates=[clips(row)], captions=[pa.Table.from_pylist([beside], schema=CAPTIONS)])


def wanting(pyramid: Pyramid, by: str = "a", remember: bool = True, **more: Any) -> set[str]:
    batches = Ledger(pyramid, remember=remember).uncaptioned(by, "low", ("clip_id",), **more)
    return {name for batch in batches for name in batch["clip_id"].to_pylist()}


def test_a_clip_of_the_tier_wants_one_until_its_maker_has_given_one(filled: Pyramid) -> None:
    assert wanting(filled) == LOW
    Committer(filled).commit(said(IDS[1], "a", "A dog."))
    assert wanting(filled) == LOW - {IDS[1]}
    assert wanting(filled, "b") == LOW, "another maker"


def test_a_caption_that_has_given_way_is_not_made_again(filled: Pyramid) -> None:
    for by in ("a", "b"):
        Committer(filled).commit(said(IDS[1], by, f"By {by}."))
    assert wanting(filled) == wanting(filled, "b") == LOW - {IDS[1]}
    assert wanting(filled, "c", outranked_by=["b"]) == LOW - {IDS[1]}, "nor another's put over it"
    assert wanting(filled, "c", outranked_by=["a"]) == LOW


@pytest.mark.parametrize("in_force", [None, "another's"])
def test_a_failure_is_tried_again_by_its_kind_whether_or_not_another_s_caption_stands(
    filled: Pyramid, in_force: str | None
) -> None:
    passing, lasting = failure(Reason.UNREADABLE, "HTTP 500"), failure(NoCaption.LOOPS, "x")
    if in_force:
        for name in IDS[1:3]:
            Committer(filled).commit(said(name, "b", in_force))
    Committer(filled).commit(said(IDS[1], "a", None, passing))
    Committer(filled).commit(said(IDS[2], "a", None, lasting))
    assert wanting(filled) == LOW - {*IDS[1:3]}
    assert wanting(filled, again=(PASSING,)) == LOW - {IDS[2]}
    assert wanting(filled, again=(PASSING, LASTING)) == LOW
    Committer(filled).commit(said(IDS[1], "a", None, lasting))
    assert wanting(filled, again=(PASSING,)) == LOW - {*IDS[1:3]}, "what it said last is of the data"


def test_given_captions_give_way_or_are_left_alone(filled: Pyramid) -> None:
    makers = dict(zip(IDS, (GIVEN, GIVEN, None), strict=False))
    given = [{"clip_id": name, "caption": "A given one.", "caption_by": by} for name, by in makers.items()]
    Committer(filled).commit(Batch(clip_updates=[clips(*given)]))
    assert wanting(filled) == LOW
    assert wanting(filled, keep_given=True) == {IDS[3]}


def test_a_search_remembers_where_nothing_was_and_sees_what_is_new(filled: Pyramid) -> None:
    for name in LOW:
        Committer(filled).commit(said(name, "a", "A dog."))
    assert wanting(filled) == wanting(filled) == set()
    Committer(filled).commit(whole_video(filled, "v2", 2))
    assert wanting(filled) == wanting(filled, remember=False) == {clip_ids("v2", 2)[1]}


def rows(pyramid: Pyramid) -> list[dict[str, Any]]:
    return pyramid.dataset("captions").to_table().to_pylist()


def test_what_a_model_said_is_kept_once_with_its_detail_and_comes_out_of_the_journal(filled: Pyramid) -> None:
    batch = said(IDS[1], "a", "A dog.", detail='{"short": "dog"}')
    Journal(filled.uri, "killed").keep(batch)
    for _ in range(2):
        Committer(filled).commit(batch)
    assert journal.recover(filled) == 1
    Committer(filled).commit(said(IDS[1], "b", "A cat."))
    assert [(row["by"], row["caption"], row["detail"]) for row in rows(filled)] == [
        ("a", "A dog.", '{"short": "dog"}'),
        ("b", "A cat.", "{}"),
    ], "the one that gives way is there already"


def test_what_is_taken_down_gets_no_caption(filled: Pyramid) -> None:
    forget(filled, {"v1"}, ("v1",))
    Committer(filled).commit(said(IDS[1], "a", "A dog."))
    assert rows(filled) == []


@pytest.mark.parametrize("reason", list(NoCaption))
def test_what_a_model_said_in_vain_lasts(reason: NoCaption) -> None:
    assert kind(failure(reason, "x")) == LASTING
