from __future__ import annotations

from dataclasses import replace

import pytest

from curation.contract import CROWDING, LIKENESS, Kind, Reason, Source
from curation.identity import clip_id
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.failures import LASTING, PASSING
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.history.waiting import Wanted, waiting
from curation.pyramid.storage.columns import add_scores
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from tests.curation.pyramid.build import TIERS, clip_ids, clips, image_row, videos, whole_video


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


def test_an_attempt_in_vain_is_not_repeated_unasked(pyramid: Pyramid) -> None:
    """Whatever its row was settled under before; one of ours or of the network is."""
    base = {"fingerprint": "old", "bytes": 10, "modified": [1.0], "clips": 0}
    failed = base | {"status": "quarantined", "fingerprint": "new", "tried": "attempt"}
    for number, reason in enumerate(("timed_out", "broken", "worker_lost")):
        names = {"video_id": f"v{number}", "uris": [f"/{number}"]}
        Committer(pyramid).commit(Batch(videos=videos(base | names | {"status": "done"})))
        Committer(pyramid).commit(Batch(videos=videos(failed | names | {"reason": reason})))
    sources = [Source(f"/{number}", 10, 1.0) for number in range(3)]

    def settled(plan: str, attempt: str | None, retry: bool = False) -> set[Source]:
        found = [Ledger(pyramid, keep).settled(sources, plan, retry, attempt) for keep in (True, False)]
        assert found[0] == found[1]
        return found[0]

    assert settled("new", "attempt") == set(sources[:2])
    assert set(Ledger(pyramid).tried("attempt")) == {"v0", "v1"} and not [*Ledger(pyramid).tried("another")]
    assert settled("new", "another") == settled("new", None) == settled("new", "attempt", retry=True) == set()
    assert settled("old", "attempt", retry=True) == set(sources)
    lost = failed | {"video_id": "v1", "uris": ["/1"], "reason": "worker_lost"}
    Committer(pyramid).commit(Batch(videos=videos(lost)))
    assert settled("new", "attempt") == {sources[0]}, "it was tried again, and what failed then was ours"
    Committer(pyramid).commit(Batch(videos=videos(lost | {"reason": "broken"})))
    judged = base | {"status": "done", "fingerprint": "new", "video_id": "v0", "uris": ["/0"]}
    Committer(pyramid).commit(Batch(videos=videos(judged | {"tried": None})))
    assert settled("new", "attempt", retry=True) == {sources[0]} and set(Ledger(pyramid).tried("attempt")) == {"v1"}


def test_what_failed_by_our_fault_or_the_networks_is_not_settled(pyramid: Pyramid) -> None:
    base = {"status": "quarantined", "fingerprint": "p", "bytes": 10, "modified": [1.0]}
    reasons = [reason for reason in Reason if reason.status == "quarantined"]
    rows = [base | {"video_id": reason, "uris": [f"/{reason}"], "reason": str(reason)} for reason in reasons]
    Committer(pyramid).commit(Batch(videos=videos(*rows)))
    sources = [Source(f"/{reason}", 10, 1.0) for reason in reasons]
    again = {source.uri for source in sources} - {source.uri for source in Ledger(pyramid).settled(sources, "p")}
    assert again == {"/unreadable", "/worker_lost", "/internal_error"}
    assert Ledger(pyramid).settled(sources, "p", retry_quarantined=True) == set()


def test_scores_that_failed_are_tried_again_when_asked_for(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 6))
    whys = [None, "internal_error: x", "broken: y", "filter off", "timed_out: 9 s", "not run yet"]
    rows = [
        {"clip_id": name, "aesthetic_by": "clip-1", "aesthetic_why": why, "aesthetic": None if why else 1.0}
        for name, why in zip(clip_ids("v1", 6), whys, strict=True)
    ]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))
    ids = clip_ids("v1", 6)

    def stale(again: tuple[str, ...], tier: str | None = None) -> set[str]:
        batches = Ledger(pyramid).stale_clips("aesthetic", "clip-1", TIERS, tier, again=again)
        return {name for batch in batches for name in batch["clip_id"].to_pylist()}

    assert stale(()) == set()
    assert stale((PASSING,)) == {ids[1], ids[4]}
    assert stale((PASSING, LASTING)) == {ids[1], ids[2], ids[4]}
    assert stale((PASSING, LASTING), "high") == {ids[4]}, "motion is 3 or more"


def test_clips_that_could_not_be_cut_are_found_by_the_kind_of_failure(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(replace(whole_video(pyramid, "v1", 5), media=[]))
    ids = clip_ids("v1", 5)
    whys = [None, "unreadable: the network", "broken", "other_frames: 3", "unreadable: the network"]
    rows = [{"clip_id": name, "media_why": why} for name, why in zip(ids, whys, strict=True)]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))

    def failed(tier: str, *again: str) -> set[str]:
        return {name for batch in Ledger(pyramid).failed_media(tier, again) for name in batch["clip_id"].to_pylist()}

    assert failed("low", PASSING) == {ids[1], ids[3], ids[4]}, "other frames are a fault of ours"
    assert failed("low", PASSING, LASTING) == {*ids[1:]} and failed("low") == set()
    assert failed("high", PASSING) == set(), "no aesthetic score"
    media = write_media_fragments(pyramid.uri, [(ids[1], b"bytes")])
    cut = clips({"clip_id": ids[1], "media": None, "media_why": None})
    Committer(pyramid).commit(Batch(media=[media], clip_updates=[cut]))
    assert failed("low", PASSING) == {ids[3], ids[4]}
    (row,) = pyramid.where(clip_id=ids[1]).to_table().to_pylist()
    assert row["media"] is not None and row["media_why"] is None


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


@pytest.mark.parametrize("order", [(LIKENESS, CROWDING), (CROWDING, LIKENESS)])
def test_how_a_clip_stands_to_others_keeps_no_score_waiting(pyramid: Pyramid, order: tuple[str, str]) -> None:
    """However the pyramid came by its scores: each of the two would wait for the other, and a filter for both."""
    add_scores(pyramid, [*order, "watermark"])
    pyramid = pyramid.having([*order, "watermark"])
    Committer(pyramid).commit(whole_video(pyramid, "v1", 6))
    bounds = {"watermark": Range(0.5), LIKENESS: Range(high=1.7), CROWDING: Range(high=0.1)}
    tiers = Tiers((Tier("apart", {"motion": Range(3.0), **bounds}),))

    def stale(score: str) -> set[str]:
        batches = Ledger(pyramid).stale_clips(score, "by-1", tiers, "apart")
        return {name for batch in batches for name in batch["clip_id"].to_pylist()}

    moving = {*clip_ids("v1", 6)[3:]}
    assert stale("watermark") == moving and stale(order[0]) == moving == stale(order[1])


def test_an_image_is_scored_and_cut_as_a_clip_is(pyramid: Pyramid) -> None:
    """The tier bounds its motion and its length, which it does not have."""
    rows = [image_row("i1", "v1"), image_row("i2", "v2", sharpness=1.0), image_row("i3", "v3", media_why="unreadable")]
    Committer(pyramid).commit(Batch(clips=clips(*rows)))

    def stale(score: str, tier: str) -> set[str]:
        found = Ledger(pyramid).stale_clips(score, "new", pyramid.tiers, tier)
        return {name for batch in found for name in batch["clip_id"].to_pylist()}

    assert stale("text_area", "low") == {"i1", "i2", "i3"} and stale("aesthetic", "mid") == {"i1", "i3"}
    wanted = {"aesthetic": Wanted("new", "mid")}
    assert str(waiting(pyramid, wanted, "mid")) == "2 for aesthetic, 2 to be cut"
    assert [[row["clip_id"] for row in rows] for rows in Ledger(pyramid).uncut("mid", ("clip_id",), 9)] == [["i1"]]
    again = Ledger(pyramid).uncut_again("mid", ("clip_id", "kind"), 9, (PASSING,))
    assert [*again] == [[{"clip_id": "i3", "kind": "image"}]]
    videos_only = pyramid.with_tiers(pyramid.tiers.moved("mid", "kind", Kind.VIDEO))
    assert not [*Ledger(videos_only).uncut("mid", ("clip_id",), 9)]
    assert not waiting(videos_only, wanted, "mid")


def test_what_a_filter_could_not_score_is_settled_until_somebody_asks_again(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    failed, done, fresh = clip_ids("v1", 3)
    rows = (
        {"clip_id": failed, "aesthetic": None, "aesthetic_by": "clip-1", "aesthetic_why": "internal_error: ValueError"},
        {"clip_id": done, "aesthetic": 2.0, "aesthetic_by": "clip-1", "aesthetic_why": None},
    )
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))

    def stale(by: str, again: tuple[str, ...]) -> set[str]:
        batches = Ledger(pyramid).stale_clips("aesthetic", by, TIERS, None, again=again)
        return {name for batch in batches for name in batch["clip_id"].to_pylist()}

    assert stale("clip-1", again=()) == {fresh}
    assert stale("clip-1", again=(LASTING,)) == {fresh}
    assert stale("clip-1", again=(PASSING,)) == {fresh, failed}
    assert stale("clip-2", again=()) == {fresh, failed, done}


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


def test_history_of_a_video_whose_clips_are_named_like_it(pyramid: Pyramid) -> None:
    """The first digits of a clip's id are its video's: they mean the video, and all of its clips."""
    video_ids = ["ab12cd34ef56" + "0" * 20, "ab12cd99ef56" + "0" * 20]
    rows = [
        {"clip_id": clip_id(name, 50 * index, 50 * index + 50, "p"), "video_id": name, "start_s": float(index)}
        for name in video_ids
        for index in reversed(range(30))
    ]
    Committer(pyramid).commit(Batch(clips=clips(*rows), videos=videos(*({"video_id": name} for name in video_ids))))
    for name in (video_ids[0], "ab12cd34", "ab12cd34ef56"):
        found = Ledger(pyramid).history(name)
        assert [video["video_id"] for video in found.videos] == [video_ids[0]] and not found.cut
        assert [clip["start_s"] for clip in found.clips] == [float(index) for index in range(30)]
    one = Ledger(pyramid).history(str(rows[0]["clip_id"]))
    assert [clip["clip_id"] for clip in one.clips] == [rows[0]["clip_id"]]
    assert [video["video_id"] for video in one.videos] == [video_ids[0]]
