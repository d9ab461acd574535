from __future__ import annotations

import hashlib
import multiprocessing
import signal
import threading
import time
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation import retry
from curation.contract import CLIPS, REVIEW
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer, joined
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.datasets import BYTES
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.store import Pyramid
from tests.curation.pyramid import build
from tests.curation.pyramid.build import TIERS, clip_ids, clips, videos, whole_video

SPAWN = multiprocessing.get_context("spawn")


def run(target: Any, *arguments: Any) -> list[Any]:
    """Start one child per entry of `arguments`, all given a common barrier last; their exit codes."""
    barrier = SPAWN.Barrier(len(arguments))
    children = [SPAWN.Process(target=target, args=(*some, barrier)) for some in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


def rows(pyramid: Pyramid, name: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    key = pyramid.dataset(name).schema.names[0]
    found = pyramid.dataset(name).to_table(columns=columns).to_pylist()
    return sorted(found, key=lambda row: row[key])


def counts(pyramid: Pyramid) -> list[int]:
    return [pyramid.dataset(name).count_rows() for name in (*BYTES, "clips", "videos")]


def prepare(pyramid: Pyramid, indexed: bool) -> None:
    """Lance merges by another path once there is an index: make one, which takes a row."""
    if indexed:
        Committer(pyramid).commit(whole_video(pyramid, "v0", 2))
        upkeep(pyramid)


def test_a_video_is_committed_with_all_that_belongs_to_it(pyramid: Pyramid) -> None:
    done = Committer(pyramid).commit(whole_video(pyramid, "v1", 5))
    assert (done.samples, done.media, done.clips, done.videos, done.duplicates) == (5, 5, 5, 1, 0)
    assert counts(pyramid) == [5, 5, 5, 1]
    by_id = {row["clip_id"]: row for row in rows(pyramid, "clips")}
    for index, name in enumerate(clip_ids("v1", 5)):
        assert by_id[name]["media"] == hashlib.sha256(name.encode() * 100).hexdigest()
        assert by_id[name]["tier"] == (None if index < 1 else "mid")  # no aesthetic score: not high


def test_a_commit_repeated_after_a_lost_reply_changes_nothing(pyramid: Pyramid) -> None:
    batch = whole_video(pyramid, "v1", 4)
    Committer(pyramid).commit(batch)
    before = {name: rows(pyramid, name) for name in ("clips", "videos", "samples")}
    again = Committer(pyramid).commit(batch)
    assert again.duplicates == 8
    assert {name: rows(pyramid, name) for name in before} == before
    assert counts(pyramid) == [4, 4, 4, 1]
    assert len(list(pyramid.media(clip_ids("v1", 4)))) == 4


def test_the_first_media_of_a_clip_stays_and_its_hash_is_the_one_in_clips(pyramid: Pyramid) -> None:
    (name,) = clip_ids("v1", 1)
    Committer(pyramid).commit(whole_video(pyramid, "v1", 1))
    other = write_media_fragments(pyramid.uri, [(name, b"the same clip from another encoder")])
    wrong = clips({"clip_id": name, "media": hashlib.sha256(b"the same clip from another encoder").hexdigest()})
    done = Committer(pyramid).commit(Batch(media=[other], clip_updates=[wrong]))
    assert done.duplicates == 1
    ((_, content, sha256),) = pyramid.media([name])
    assert content == name.encode() * 100
    assert rows(pyramid, "clips", ["clip_id", "media"])[0]["media"] == sha256


def test_large_media_are_written_in_pieces(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.pyramid.storage.fragments._BATCH_BYTES", 1 << 20)
    content = {f"{index:032x}": bytes([index]) * (700_000 if index % 3 else 5_000_000) for index in range(9)}
    Committer(pyramid).commit(Batch(media=[write_media_fragments(pyramid.uri, content.items())]))
    assert {name: data for name, data, _ in pyramid.media(content)} == content


@pytest.mark.parametrize("indexed", [False, True])
def test_p1_same_content_in_two_processes_under_many_names_is_one_row(pyramid: Pyramid, indexed: bool) -> None:
    prepare(pyramid, indexed)
    assert run(build.submit_same_content, *((pyramid.uri, f"job{job}", 6) for job in range(2))) == [0, 0]
    expected = sorted(f"/job{job}/{index}.mp4" for job in range(2) for index in range(6))
    found = [row for row in rows(pyramid, "videos") if row["video_id"] != "v0"]
    assert [(row["video_id"], sorted(row["uris"])) for row in found] == [("v1", expected), ("v2", expected)]
    assert all(len(row["modified"]) == len(expected) for row in found)
    assert counts(pyramid) == ([6, 6, 6, 3] if indexed else [4, 4, 4, 2])


@pytest.mark.parametrize("indexed", [False, True])
def test_p8_filters_of_two_jobs_on_the_same_clips_all_land(pyramid: Pyramid, indexed: bool) -> None:
    prepare(pyramid, indexed)
    Committer(pyramid).commit(whole_video(pyramid, "v1", 30))
    ids = clip_ids("v1", 30)
    scores = ("text_area", "jitter", "aesthetic")
    assert run(build.fill_score, *((pyramid.uri, score, ids) for score in scores)) == [0, 0, 0]
    found = [row for row in rows(pyramid, "clips") if row["video_id"] == "v1"]
    assert len(found) == 30
    for row in found:
        assert [(row[score], row[f"{score}_by"]) for score in scores] == [(7.0, f"{score}-1") for score in scores]
        assert row["motion_by"] == "motion-1" and row["media"]
        assert row["tier"] == pyramid.tiers.highest(row | {"duration_s": 3.0})
    assert pyramid.where(tier="high").count() == 18


ONE_UPDATE = st.one_of(
    st.builds(
        lambda name, value: {"clip_id": name, "aesthetic": value, "aesthetic_by": f"by-{value}"},
        st.sampled_from(clip_ids("v1", 4)),
        st.sampled_from([4.0, 5.0, None]),
    ),
    st.builds(
        lambda name, text: {"clip_id": name, "caption": text, "caption_by": "m" if text else None},
        st.sampled_from(clip_ids("v1", 4)),
        st.sampled_from(["a fox", "snow", None]),
    ),
)


@settings(max_examples=10, deadline=None)
@given(st.lists(ONE_UPDATE, min_size=1, max_size=8))
@example([{"clip_id": clip_ids("v1", 1)[0], "caption": text, "caption_by": text} for text in ("a fox", "snow")])
def test_updates_together_do_what_they_do_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, updates: list[dict[str, Any]]
) -> None:
    parts = [Batch(clip_updates=[clips(update)]) for update in updates]
    found = []
    for name, batches in (("one by one", parts), ("together", [joined(parts)])):
        pyramid = Pyramid.create(tmp_path_factory.mktemp(name) / "p", TIERS, "test")
        Committer(pyramid).commit(whole_video(pyramid, "v1", 4))
        for batch in batches:
            Committer(pyramid).commit(batch)
        captions = sorted((row["clip_id"], row["caption"], row["by"]) for row in rows(pyramid, "captions"))
        found.append((sorted(rows(pyramid, "clips"), key=lambda row: row["clip_id"]), captions))
    assert found[0] == found[1]


def test_results_of_one_stage_are_one_transaction(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 30))
    before = pyramid.dataset("clips").version
    parts = [Batch(clip_updates=[clips({"clip_id": name, "aesthetic": 5.0})]) for name in clip_ids("v1", 30)]
    Committer(pyramid).commit(joined(parts))
    assert pyramid.dataset("clips").version == before + 1
    assert pyramid.where(aesthetic=5.0).count() == 30


def test_a_job_without_a_filter_does_not_erase_the_score_of_one_that_has_it(pyramid: Pyramid) -> None:
    (name,) = clip_ids("v1", 1)
    scored = {
        "clip_id": name,
        "aesthetic": 6.0,
        "aesthetic_by": "clip-1",
        "laplacian": [0.5] * 5,
        "caption": "a dog",
    }
    Committer(pyramid).commit(whole_video(pyramid, "v1", 1))
    Committer(pyramid).commit(Batch(clip_updates=[clips(scored)]))
    without = {"clip_id": name, "aesthetic": None, "aesthetic_by": None, "aesthetic_why": "not in the recipe"}
    Committer(pyramid).commit(Batch(clips=clips(without | {"laplacian": None, "caption": None})))
    (row,) = rows(pyramid, "clips")
    assert (row["aesthetic"], row["aesthetic_why"], row["caption"]) == (6.0, None, "a dog")
    assert row["laplacian"] == [0.5] * 5
    answer = {
        "clip_id": name,
        "aesthetic": None,
        "aesthetic_by": "clip-2",
        "aesthetic_why": "frames are black",
    }
    Committer(pyramid).commit(Batch(clip_updates=[clips(answer)]))
    (row,) = rows(pyramid, "clips")
    assert (row["aesthetic"], row["aesthetic_by"], row["aesthetic_why"]) == (
        None,
        "clip-2",
        "frames are black",
    )


def test_a_score_that_is_not_a_number_becomes_null_with_a_reason(pyramid: Pyramid) -> None:
    name = clip_ids("v1", 1)[0]
    Committer(pyramid).commit(whole_video(pyramid, "v1", 1))
    bad = clips({"clip_id": name, "motion": float("nan"), "motion_by": "motion-2"})
    Committer(pyramid).commit(Batch(clip_updates=[bad]))
    (row,) = rows(pyramid, "clips")
    assert row["motion"] is None and "not a number" in row["motion_why"] and row["tier"] is None


def test_updates_of_clips_that_are_gone_insert_nothing(pyramid: Pyramid) -> None:
    update = clips({"clip_id": "gone", "motion": 1.0, "motion_by": "x"})
    assert Committer(pyramid).commit(Batch(clip_updates=[update])).updated == 0
    assert counts(pyramid) == [0, 0, 0, 0]


def test_names_times_and_attempts_of_a_content_are_united(pyramid: Pyramid) -> None:
    row = {
        "video_id": "v",
        "uris": ["/b"],
        "modified": [1.0],
        "status": "done",
        "fingerprint": "p",
        "attempts": 2,
    }
    same_batch = videos(row, row | {"uris": ["/a"], "modified": [5.0], "attempts": 1})
    Committer(pyramid).commit(Batch(videos=same_batch))
    Committer(pyramid).commit(Batch(videos=videos(row | {"uris": ["/b", "/c"], "modified": [9.0, 3.0]})))
    (found,) = rows(pyramid, "videos")
    assert (found["uris"], found["modified"], found["attempts"]) == (["/a", "/b", "/c"], [5.0, 9.0, 3.0], 2)


def test_a_later_failure_does_not_undo_a_done_video(pyramid: Pyramid) -> None:
    done = {
        "video_id": "v",
        "uris": ["/a"],
        "modified": [1.0],
        "status": "done",
        "fingerprint": "p",
        "clips": 3,
    }
    lost = {
        "video_id": "v",
        "uris": ["/b"],
        "modified": [1.0],
        "status": "quarantined",
        "reason": "worker_lost",
    }
    Committer(pyramid).commit(Batch(videos=videos(done)))
    for plan in ("p", "q"):
        Committer(pyramid).commit(Batch(videos=videos(lost | {"fingerprint": plan})))
        (row,) = rows(pyramid, "videos")
        assert (row["status"], row["reason"], row["clips"], row["uris"]) == ("done", None, 3, ["/a", "/b"])
        assert (row["fingerprint"], row["detail"]) == ("p", "a later attempt could not judge it: worker_lost")
    Committer(pyramid).commit(Batch(videos=videos(done | {"fingerprint": "q"})))
    (row,) = rows(pyramid, "videos")
    assert (row["fingerprint"], row["detail"]) == ("q", None)


def test_a_new_plan_replaces_the_clips_of_the_old_one(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 5, "plan-1"))
    Committer(pyramid).commit(whole_video(pyramid, "v2", 2, "plan-1"))
    batch = whole_video(pyramid, "v1", 3, "plan-2")
    new = Batch(batch.media, batch.samples, batch.clips, batch.videos, replaced={"v1": clip_ids("v1", 3, "plan-2")})
    assert Committer(pyramid).commit(new).deleted == 5
    assert {row["clip_id"] for row in rows(pyramid, "clips")} == {
        *clip_ids("v1", 3, "plan-2"),
        *clip_ids("v2", 2, "plan-1"),
    }


def whole(pyramid: Pyramid) -> int:
    """Check that every done video has all that belongs to it; how many there are."""
    snapshot = pyramid.snapshot()
    done = pyramid.dataset("videos", snapshot["videos"]).to_table(columns=["video_id", "clips"]).to_pylist()
    found = pyramid.dataset("clips", snapshot["clips"]).to_table(columns=["clip_id", "video_id"]).to_pylist()
    media = set(pyramid.dataset("media", snapshot["media"]).to_table(columns=["clip_id"])["clip_id"].to_pylist())
    samples = set(pyramid.dataset("samples", snapshot["samples"]).to_table(columns=["clip_id"])["clip_id"].to_pylist())
    for video in done:
        ids = [row["clip_id"] for row in found if row["video_id"] == video["video_id"]]
        assert len(ids) == len(set(ids)) == video["clips"], video
        assert media.issuperset(ids) and samples.issuperset(ids)
    return len(done)


@pytest.mark.parametrize("indexed", [False, True])
def test_the_plan_of_a_video_is_that_of_all_its_clips(pyramid: Pyramid, indexed: bool) -> None:
    """Two runs with different recipes met it at the same time: neither knew of the other's clips."""
    prepare(pyramid, indexed)
    for plans in (("plan-1", "plan-2"), ("plan-2", "plan-1"), ("plan-1", "plan-2", "plan-1")):
        video_id = "-".join(plans)
        for count, plan in enumerate(plans, 2):
            Committer(pyramid).commit(whole_video(pyramid, video_id, count, plan))
        left = sorted(pyramid.where(video_id=video_id).ids())
        assert left == sorted(clip_ids(video_id, len(plans) + 1, plans[-1]))


def test_p1_two_runs_under_different_plans_leave_the_clips_of_one(pyramid: Pyramid) -> None:
    names = [f"v{number}" for number in range(8)]
    assert run(build.commit_under_plan, *((pyramid.uri, names, plan) for plan in ("plan-1", "plan-2"))) == [0, 0]
    for row in rows(pyramid, "videos"):
        left = sorted(pyramid.where(video_id=row["video_id"]).ids())
        assert left == sorted(clip_ids(row["video_id"], 3, row["fingerprint"]))


def test_a_video_refused_under_another_plan_has_no_clips(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    Committer(pyramid).commit(Batch(videos=videos({"video_id": "v1", "status": "rejected", "fingerprint": "plan-2"})))
    assert pyramid.query().ids() == []


def test_a_further_name_or_the_same_plan_again_deletes_nothing(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    name = pa.table({"video_id": ["v1"], "uris": [["/b.mp4"]], "modified": [[1.0]]})
    undone = pa.table({"video_id": ["v1"], "fingerprint": pa.nulls(1, pa.string())})
    for batch in (Batch(videos=name), Batch(videos=whole_video(pyramid, "v1", 3).videos), Batch(videos=undone)):
        Committer(pyramid).commit(batch)
        assert len(pyramid.query().ids()) == 3


def test_p5_a_reader_sees_whole_videos_and_a_pinned_version_never_changes(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "first", 4))
    pinned = pyramid.query().columns("clip_id", "motion", "tier").pinned()
    expected = pinned.to_table()
    names = [[f"w{writer}v{index}" for index in range(8)] for writer in range(2)]
    children = [SPAWN.Process(target=build.commit_videos, args=(pyramid.uri, some, 4)) for some in names]
    for child in children:
        child.start()
    seen: list[int] = []
    while any(child.is_alive() for child in children):
        seen.append(whole(pyramid))
        assert pinned.to_table().equals(expected)
    assert [child.exitcode for child in children] == [0, 0]
    assert whole(pyramid) == 17 and len(set(seen)) > 3 and seen == sorted(seen)
    assert pinned.to_table().equals(expected) and pyramid.query().count() == 68


@pytest.mark.parametrize("step", range(6))
def test_kill_in_the_middle_of_a_commit_leaves_it_readable_and_a_rerun_completes_it(
    pyramid: Pyramid, step: int
) -> None:
    child = SPAWN.Process(target=build.die_in_commit, args=(pyramid.uri, step))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert whole(pyramid) == 0
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    assert whole(pyramid) == 1 and counts(pyramid) == [3, 3, 3, 1]


def test_kill_at_any_moment(pyramid: Pyramid) -> None:
    names = [f"v{index}" for index in range(40)]
    for pause in (1.2, 1.6):
        child = SPAWN.Process(target=build.commit_videos, args=(pyramid.uri, names, 3))
        child.start()
        time.sleep(pause)
        child.kill()
        child.join()
        whole(pyramid)
    for name in names[:3]:
        Committer(pyramid).commit(whole_video(pyramid, name, 3))
    assert whole(pyramid) >= 3
    there = pyramid.query().ids()
    assert sorted(name for name, _, _ in pyramid.media(there)) == sorted(there)
    upkeep(pyramid, idle=True)
    assert counts(pyramid)[:3] == [len(there)] * 3 and whole(pyramid) >= 3


def test_a_full_disk_is_said_in_one_line(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = whole_video(pyramid, "v1", 2)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(lance.LanceDataset, "commit", full)
    with pytest.raises(UserError, match="no space left") as caught:
        Committer(pyramid).commit(batch)
    assert "run the same command again" in caught.value.remedy
    assert counts(pyramid) == [0, 0, 0, 0]


def test_a_fault_of_the_store_is_retried_and_then_raised() -> None:
    pauses: list[float] = []
    answers = iter([OSError("connection reset"), OSError("Too many concurrent writers"), None])

    def sometimes() -> str:
        error = next(answers)
        if error:
            raise error
        return "done"

    assert retry.retrying("x", sometimes, pauses.append) == "done" and len(pauses) == 2

    def never() -> None:
        raise OSError("connection reset")

    pauses.clear()
    with pytest.raises(OSError, match="connection reset"):
        retry.retrying("x", never, pauses.append)
    assert len(pauses) == retry.FAULTS - 1 and sum(pauses) < 15
    with pytest.raises(ValueError, match="a mistake"):
        retry.retrying("x", lambda: (_ for _ in ()).throw(ValueError("a mistake")), pauses.append)


def test_two_committers_in_one_process(pyramid: Pyramid) -> None:
    failures: list[BaseException] = []

    def work(job: int) -> None:
        try:
            for index in range(4):
                Committer(pyramid).commit(whole_video(pyramid, f"v{index}", 2, uri=f"/{job}/{index}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and counts(pyramid) == [8, 8, 8, 4]
    assert all(len(row["uris"]) == 3 for row in rows(pyramid, "videos"))


def test_no_column_of_clips_is_unknown_to_the_merge() -> None:
    from curation.pyramid.commits.commit import _HEAVY

    lists = {field.name for field in CLIPS if "list" in str(field.type)}
    said = {field.name for field in REVIEW}  # short, and united word by word
    assert lists - said == set(_HEAVY)
