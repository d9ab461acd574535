"""What people say is never lost: to each other, to runs that write, to moved thresholds and upkeep; but to `forget`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.census import census
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.lifecycle.combine import combine
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.review import changing, words
from curation.pyramid.review.words import Decision
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown.forget import forget
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import Range, Tiers
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video

KEEP, DROP = Decision.KEEP, Decision.DROP


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    """Two videos of four clips; all but the first clip of each are in the tier "low"."""
    for name in ("v1", "v2"):
        Committer(pyramid).commit(whole_video(pyramid, name, 4))
    return pyramid


def said(pyramid: Pyramid, clip: str) -> tuple[Any, ...]:
    """(decision, by whom, tags with whose they are, tier) of a clip, as they stand in the dataset."""
    columns = ("clip_id", *words.COLUMNS, "tier")
    (row,) = pyramid.query().where(clip_id=clip).columns(*columns).to_table().to_pylist()
    tags = {name: word.by for name, word in words.tags_of(row).items()}
    assert (row["decided_at"] is None) == (row["decision_by"] is None)
    return row["decision"], row["decision_by"], tags, row["tier"]


def meanwhile(monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]) -> list[int]:
    """Have `other` happen once between a change's look at its rows and its commit; how often it looked."""
    unite, looks = changing._Writer.unite, [0]

    def late(self: Any, old: pa.Table) -> pa.Table:
        looks[0] += 1
        found = unite(self, old)
        if looks[0] == 1:
            with monkeypatch.context() as patch:
                patch.setattr(changing._Writer, "unite", unite)
                other()
        return found

    monkeypatch.setattr(changing._Writer, "unite", late)
    return looks


def test_of_two_at_once_on_different_clips_both_are_heard(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = clip_ids("v1", 4)[1:3]
    looks = meanwhile(monkeypatch, lambda: changing.decide(filled, [other], KEEP, "ben"))
    done = changing.decide(filled, [one], DROP, "anna")
    assert (done.changed, done.replaced) == (1, 0) and looks[0] == 2, "the second attempt is what was to be tried"
    assert said(filled, one)[:2] == ("drop", "anna") and said(filled, other)[:2] == ("keep", "ben")


def test_of_two_at_once_on_one_clip_the_later_stands_and_is_told(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clip_ids("v1", 4)[1]
    meanwhile(monkeypatch, lambda: changing.decide(filled, [clip], KEEP, "ben"))
    done = changing.decide(filled, [clip], DROP, "anna")
    assert said(filled, clip)[:2] == ("drop", "anna")
    ((name, decision, by),) = [(one.clip_id, one.decision, one.by) for one in done.told]
    assert (name, decision, by, done.replaced) == (clip, "keep", "ben", 1)


def test_tags_of_two_at_once_are_all_there(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_ids("v1", 4)[1]
    changing.tag(filled, [clip], words.typed("old"), "carl")
    meanwhile(monkeypatch, lambda: changing.tag(filled, [clip], words.typed("night, both"), "ben"))
    changing.tag(filled, [clip], words.typed("day, both, -old"), "anna")
    assert said(filled, clip)[2] == {"both": "ben", "day": "anna", "night": "ben"}


def test_a_threshold_that_moves_meanwhile_counts(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_ids("v1", 4)[1]
    changing.decide(filled, [clip], DROP, "anna")

    def moved() -> None:
        retier(filled.moving(lambda tiers: tiers.moved("low", "motion", Range(1.5))))

    meanwhile(monkeypatch, moved)
    changing.decide(filled, [clip], None, "anna")
    assert said(filled, clip) == (None, "anna", {}, None), "its motion is 1"


def test_what_is_said_again_stays_whose_it_was(filled: Pyramid) -> None:
    clip, gone = clip_ids("v1", 4)[1], "0" * 32
    changing.decide(filled, [clip], KEEP, "anna")
    changing.tag(filled, [clip], words.typed("x"), "anna")
    version = filled.dataset("clips").version
    done = changing.decide(filled, [clip, gone, clip], KEEP, "ben")
    assert (done.changed, done.same, done.missing) == (0, 1, (gone,))
    assert changing.tag(filled, [clip], words.typed("x, -y"), "ben").same == 1
    assert changing.decide(filled, clip_ids("v2", 1), None, "ben").same == 1
    assert filled.dataset("clips").version == version, "nothing is written where nothing changes"
    changing.decide(filled, [clip], None, "ben")
    assert said(filled, clip)[:2] == (None, "ben"), "who took it back is known"


def test_a_dropped_clip_is_in_no_tier_and_a_kept_one_in_those_it_passes(filled: Pyramid) -> None:
    low, none = clip_ids("v1", 4)[1], clip_ids("v1", 4)[0]
    before = {row.tier: row.clips for row in tier_report(filled)}
    changing.decide(filled, [low], DROP, "anna")
    changing.decide(filled, [none], KEEP, "anna")
    assert said(filled, low)[3] is None and said(filled, none)[3] is None, "keep lifts over no threshold"
    report = {row.tier: row for row in tier_report(filled)}
    assert (report["low"].clips, report["low"].dropped) == (before["low"] - 1, 1)
    losses = sum(loss.after + sum(loss.after_null.values()) for loss in report["low"].losses)
    assert report["low"].clips + report["low"].dropped + losses == filled.query().count() == 8
    assert low not in filled.tier("low").ids() and low in filled.query().ids()
    assert filled.tier("low").where(decision="drop").ids() == [low] == filled.where(decision="drop").tier("low").ids()
    assert filled.query().at(filled.dataset("clips").version - 2).tier("low").count() == before["low"]
    assert census(filled).tiers["low"] == before["low"] - 1
    assert retier(filled) == 0, "the column and the tiers say the same"
    changing.decide(filled, [low], None, "anna")
    assert said(filled, low)[3] == "mid" and filled.tier("low").count() == before["low"]


def test_no_work_is_spent_on_a_dropped_clip(filled: Pyramid) -> None:
    clip = {"clip_id": "f" * 32, "video_id": "v9", "motion": 5.0, "motion_by": "m", "frames": 75, "fps": 25.0}
    Committer(filled).commit(Batch(clips=clips(clip)))
    ledger = Ledger(filled)

    def wanted() -> list[bool]:
        uncut = [row["clip_id"] for some in ledger.uncut("low", ("clip_id",), 10) for row in some]
        scored = [
            one for some in ledger.stale_clips("aesthetic", "a", TIERS, "low") for one in some["clip_id"].to_pylist()
        ]
        told = [one for some in ledger.uncaptioned("by", "low", ("clip_id",)) for one in some["clip_id"].to_pylist()]
        return [clip["clip_id"] in found for found in (uncut, scored, told)]

    assert wanted() == [True] * 3
    changing.decide(filled, [clip["clip_id"]], DROP, "anna")
    assert wanted() == [False] * 3
    changing.decide(filled, [clip["clip_id"]], None, "anna")
    assert wanted() == [True] * 3, "and it is found again where searches remember"


def test_runs_moves_and_upkeep_keep_what_was_said(filled: Pyramid) -> None:
    clip, kept = clip_ids("v1", 4)[1], clip_ids("v1", 4)[2]
    changing.decide(filled, [clip], DROP, "anna")
    changing.decide(filled, [kept], KEEP, "ben")
    changing.tag(filled, [clip, kept], words.typed("x, y"), "ben")
    before = said(filled, clip), said(filled, kept)
    assert before[0] == ("drop", "anna", {"x": "ben", "y": "ben"}, None)
    Committer(filled).commit(whole_video(filled, "v1", 4, uri="/again.mp4"))  # curated again, and tried again
    score = [{"clip_id": one, "aesthetic": 6.0, "aesthetic_by": "a"} for one in (clip, kept)]
    Committer(filled).commit(Batch(clip_updates=[clips(*score)]))
    assert said(filled, clip) == before[0]
    retier(filled.moving(lambda tiers: tiers.moved("low", "motion", Range(0.5))))
    upkeep(filled, keep=timedelta(0), settle=timedelta(0))
    assert (said(filled, clip), said(filled, kept)) == before
    forget(filled, ["v1"])
    assert filled.query().count() == 4 and filled.query().where(decision="keep,drop").count() == 0


def test_an_older_pyramid_gets_the_columns_with_the_first_word(filled: Pyramid) -> None:
    filled.dataset("clips").drop_columns([*words.COLUMNS])
    clip, count = clip_ids("v1", 4)[1], filled.tier("low").count()
    assert [row.dropped for row in tier_report(filled)] == [0, 0, 0] and count == 6
    assert changing.decide(filled, [clip], DROP, "anna").changed == 1
    assert said(filled, clip)[:2] == ("drop", "anna") and filled.tier("low").count() == count - 1


def test_two_pyramids_made_one_have_the_later_word_and_all_tags(filled: Pyramid, tmp_path: Path) -> None:
    other, to = (Pyramid.create(tmp_path / name, TIERS, "test") for name in "bc")
    Committer(other).commit(whole_video(other, "v1", 4))
    first, then, alone = clip_ids("v1", 4)[1:]
    for pyramid, clip, decision in (
        (other, first, DROP),
        (filled, first, KEEP),
        (filled, then, KEEP),
        (other, then, DROP),
    ):
        changing.decide(pyramid, [clip], decision, "ben" if pyramid is other else "anna")
    changing.decide(filled, [alone], DROP, "anna")
    changing.tag(filled, [then], words.typed("a, both"), "anna")
    changing.tag(other, [then], words.typed("b, both"), "ben")
    combine((filled, other), to, "plan-1")
    assert said(to, first)[:2] == ("keep", "anna") and said(to, alone)[:2] == ("drop", "anna")
    assert said(to, then) == ("drop", "ben", {"a": "anna", "b": "ben", "both": "anna"}, None)


def test_the_order_in_which_two_rows_meet_does_not_matter() -> None:
    early, late = (
        words.Word("e", "2026-01-01T00:00:00.000000+00:00"),
        words.Word("l", "2026-01-02T00:00:00.000000+00:00"),
    )
    one = words.tagged(words.decided({}, KEEP, late), words.typed("x, y"), late)
    other = words.tagged(words.decided({}, DROP, early), words.typed("y, z"), early)
    both = words.united(one, other)
    assert both == words.united(other, one) == words.united(both, other) == words.united(both, both)
    assert (both["decision"], both["tagged"], both["tagged_by"]) == ("keep", "x,y,z", ["l", "e", "e"])
    assert words.united(one, {}) == one == words.united({}, one), "who says nothing takes nothing away"


@pytest.mark.parametrize("text", ["", "a b", "-", "null", "a,a b", "x" * 65, "\x00", "a'b", "a, -a"])
def test_what_cannot_be_a_tag(text: str) -> None:
    with pytest.raises(UserError):
        words.typed(text)


def test_names_of_people_and_too_many_tags() -> None:
    for name in ("", " ", "a\nb", "x" * 81):
        with pytest.raises(UserError):
            words.checked_name(name)
    word = words.Word.now("a")
    row = words.tagged({}, words.retag([f"t{number}" for number in range(100)]), word)
    with pytest.raises(UserError, match="101 tags"):
        words.tagged(row, words.retag(["one-more"]), word)


def test_nothing_is_decided_by_a_tier_s_own_json() -> None:
    assert "decision" not in TIERS.to_json() and Tiers.from_json(TIERS.to_json()) == TIERS
