from __future__ import annotations

import pytest

from curation.contract import Source
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.ledger import Ledger
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, clip_ids, clips, videos, whole_video


def test_settled_goes_by_name_size_time_and_plan(pyramid: Pyramid) -> None:
    base = {"status": "done", "fingerprint": "p", "bytes": 10}
    Committer(pyramid).commit(
        Batch(
            videos=videos(
                base | {"video_id": "a", "uris": ["/a", "/b"], "modified": [1.5, 2.0]},
                base | {"video_id": "r", "uris": ["/r"], "modified": [1.0], "status": "rejected"},
                base | {"video_id": "q", "uris": ["/q"], "modified": [1.0], "status": "quarantined"},
                base | {"video_id": "o", "uris": ["/o"], "modified": [1.0], "fingerprint": "older"},
            )
        )
    )
    there = [Source("/a", 10, 1.5), Source("/b", 10, 2.0), Source("/r", 10, 1.0), Source("/q", 10, 1.0)]
    unknown_time = [Source("/a", 10), Source("/b", 10, 0.0)]
    others = [Source("/a", 10, 2.0), Source("/a", 11, 1.5), Source("/o", 10, 1.0), Source("/x", 10, 1.5)]
    ledger = Ledger(pyramid)
    assert ledger.settled([*there, *unknown_time, *others], "p") == {*there, *unknown_time}
    assert ledger.settled(there, "p", retry_quarantined=True) == set(there[:3])
    assert ledger.settled(there, "other") == set() == ledger.settled([], "p")


def test_lookup_knows_what_became_of_a_content(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    found = Ledger(pyramid).lookup(["v1", "v2"])
    assert list(found) == ["v1"]
    known = found["v1"]
    assert (known.status, known.fingerprint, known.uris, known.attempts, known.clips) == (
        "done",
        "plan-1",
        ("/in/v1.mp4",),
        1,
        3,
    )


def test_stale_videos_are_those_whose_frame_scores_are_of_another_make(pyramid: Pyramid) -> None:
    for name in ("v1", "v2"):
        Committer(pyramid).commit(whole_video(pyramid, name, 3))
    ledger = Ledger(pyramid)
    assert list(ledger.stale_videos({"motion": "motion-1", "sharpness": "blur-1"})) == []
    newer = clips({"clip_id": clip_ids("v2", 3)[1], "motion": 2.0, "motion_by": "motion-2"})
    Committer(pyramid).commit(Batch(clip_updates=[newer]))
    assert list(ledger.stale_videos({"motion": "motion-1"})) == ["v2"]
    assert sorted(ledger.stale_videos({"motion": "motion-2"})) == ["v1", "v2"]
    assert list(ledger.stale_videos({})) == [] == list(ledger.stale_videos({"jitter": "x"}))


def test_stale_clips_are_missing_or_of_another_make_and_worth_the_work(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 6))
    ids = clip_ids("v1", 6)
    done = clips({"clip_id": ids[4], "aesthetic": 2.0, "aesthetic_by": "clip-1"})
    Committer(pyramid).commit(Batch(clip_updates=[done]))

    def stale(by: str, tier: str | None, **options: object) -> set[str]:
        batches = Ledger(pyramid).stale_clips("aesthetic", by, TIERS, tier, **options)  # type: ignore[arg-type]
        return {name for batch in batches for name in batch["clip_id"].to_pylist()}

    assert stale("clip-1", None) == {*ids} - {ids[4]}
    assert stale("clip-2", None) == {*ids}
    assert stale("clip-1", "high") == {ids[3], ids[5]}, "motion is 3 or more, aesthetic itself is not asked"
    assert stale("clip-1", "high", known=["sharpness"]) == {*ids} - {ids[4]}


def test_what_a_filter_could_not_score_is_settled_until_somebody_asks_again(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    failed, done, fresh = clip_ids("v1", 3)
    rows = (
        {"clip_id": failed, "aesthetic": None, "aesthetic_by": "clip-1", "aesthetic_why": "internal_error: ValueError"},
        {"clip_id": done, "aesthetic": 2.0, "aesthetic_by": "clip-1", "aesthetic_why": None},
    )
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))

    def stale(by: str, retry: bool) -> set[str]:
        batches = Ledger(pyramid).stale_clips("aesthetic", by, TIERS, None, retry=retry)
        return {name for batch in batches for name in batch["clip_id"].to_pylist()}

    assert stale("clip-1", retry=False) == {fresh}
    assert stale("clip-1", retry=True) == {fresh, failed}
    assert stale("clip-2", retry=False) == {fresh, failed, done}


@pytest.mark.parametrize("name", ["aaaa1111", "aaaa", "/in/aaaa1111.mp4", "aaaa1111.mp4"])
def test_history_of_a_video_by_id_prefix_uri_and_file_name(pyramid: Pyramid, name: str) -> None:
    for video_id in ("aaaa1111", "bbbb1111"):
        Committer(pyramid).commit(whole_video(pyramid, video_id, 3))
    found = Ledger(pyramid).history(name)
    assert [video["video_id"] for video in found.videos] == ["aaaa1111"]
    assert [clip["clip_id"] for clip in found.clips] == clip_ids("aaaa1111", 3)


def test_history_of_a_clip_and_of_nothing(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "aaaa1111", 3))
    found = Ledger(pyramid).history(clip_ids("aaaa1111", 3)[1][:8])
    assert [clip["clip_id"] for clip in found.clips] == [clip_ids("aaaa1111", 3)[1]]
    assert [video["video_id"] for video in found.videos] == ["aaaa1111"]
    for name in ("x", "' OR 1=1", "\ud800", "", "a" * 5000):
        nothing = Ledger(pyramid).history(name)
        assert nothing.videos == nothing.clips == ()
