from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.storage.locks import only_holder
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import clip_ids, videos, whole_video


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    for index in range(6):
        Committer(pyramid).commit(whole_video(pyramid, f"v{index}", 3))
    return pyramid


def test_upkeep_compacts_scores_and_copies_few_bytes_of_media(filled: Pyramid) -> None:
    media = [fragment.metadata.files[0].path for fragment in filled.dataset("media").get_fragments()]
    done = upkeep(filled)
    assert (done.fragments_before, done.fragments_after) == (24, 14), "six fragments are too few to be merged"
    assert [fragment.metadata.files[0].path for fragment in filled.dataset("media").get_fragments()] == media
    assert filled.query().count() == 18 and len(list(filled.media(filled.query().ids()))) == 18
    indexed = {column for index in filled.dataset("clips").describe_indices() for column in index.field_names}
    assert {"clip_id", "video_id", "motion", "aesthetic"} <= indexed


def test_upkeep_again_after_more_commits(filled: Pyramid) -> None:
    upkeep(filled)
    Committer(filled).commit(whole_video(filled, "v9", 3))
    Committer(filled).commit(whole_video(filled, "v0", 3))
    assert filled.query().count() == 21
    upkeep(filled)
    assert filled.query().count() == 21 and filled.where(video_id="v9").count() == 3


def test_old_versions_go_and_pinned_ones_stay(filled: Pyramid) -> None:
    filled.pin("frozen")
    Committer(filled).commit(whole_video(filled, "v9", 3))
    done = upkeep(filled, keep=timedelta(0), idle=True)
    assert done.freed_bytes > 0
    assert filled.query().at("frozen").count() == 18 and filled.query().count() == 21
    assert len(list(filled.media(filled.query().ids()))) == 21
    with pytest.raises(UserError):
        filled.query().at(2).count()


def test_rows_without_a_clip_go_once_they_are_settled(filled: Pyramid) -> None:
    Committer(filled).delete_clips(clip_ids("v0", 3))
    Committer(filled).commit(Batch(videos=videos({"video_id": "v0", "status": "rejected", "clips": 0})))
    assert upkeep(filled).orphans == 0, "they are young: their commit might be under way"
    assert upkeep(filled, idle=True).orphans == 6
    assert filled.dataset("media").count_rows() == filled.dataset("samples").count_rows() == 15
    assert len(list(filled.media(filled.query().ids()))) == 15


def test_the_first_of_two_media_of_a_clip_stays(filled: Pyramid) -> None:
    ids = clip_ids("v0", 3)
    before = list(filled.media(ids))
    committer = Committer(filled)
    ticket = write_media_fragments(filled.uri, ((name, b"second") for name in ids))
    from curation.pyramid.storage.fragments import read_ticket

    committer._append_fragments("media", read_ticket(ticket)[1])  # and killed before the rest
    assert filled.dataset("media").count_rows() == 21
    assert sorted(filled.media(ids)) == sorted(before)
    done = upkeep(filled, idle=True)
    assert (done.twins, done.orphans) == (3, 0)
    assert sorted(filled.media(ids)) == sorted(before) and filled.dataset("media").count_rows() == 18


def test_clips_of_an_earlier_plan_that_a_kill_left_are_removed(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = whole_video(filled, "v0", 2, "plan-2")
    with monkeypatch.context() as killed:  # before the deletion of what plan-1 made
        killed.setattr(Committer, "delete_clips", lambda self, clip_ids: 0)
        Committer(filled).commit(batch)
    assert filled.where(video_id="v0").count() == 5
    assert upkeep(filled).stale_clips == 3
    assert sorted(filled.where(video_id="v0").ids()) == sorted(clip_ids("v0", 2, "plan-2"))


def test_a_video_that_lost_clips_is_done_again(filled: Pyramid) -> None:
    Committer(filled).delete_clips(clip_ids("v0", 3)[:1])
    assert upkeep(filled).redo == 1
    known = Ledger(filled).lookup(["v0", "v1"])
    assert known["v0"].fingerprint is None and known["v1"].fingerprint == "plan-1"
    assert known["v0"].uris == ("/in/v0.mp4",)


def test_one_upkeep_at_a_time(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    with only_holder(filled), pytest.raises(UserError, match="another upkeep"):
        upkeep(filled)
    upkeep(filled)
    assert Path(filled.uri, ".upkeep.lock").exists()


def test_an_empty_pyramid(pyramid: Pyramid) -> None:
    assert upkeep(pyramid).fragments_after == 0
    assert upkeep(pyramid, idle=True, keep=timedelta(0)).orphans == 0
