from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.pyramid.commits import indexes, tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.compaction import GROWTH
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage import transaction
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import clip_ids, clips, videos, whole_video


def numbers(pyramid: Pyramid, name: str) -> list[int]:
    return [fragment.fragment_id for fragment in pyramid.dataset(name).get_fragments()]


def uncovered(pyramid: Pyramid, name: str) -> set[int]:
    """Fragments that some index does not cover."""
    there = set(numbers(pyramid, name))
    parts = [index.segments for index in pyramid.dataset(name).describe_indices()]
    return {number for some in parts for number in there - {one for part in some for one in part.fragment_ids}}


def commit_clip(pyramid: Pyramid, number: int) -> None:
    """One clip and its video, and a score of the clip before."""
    name = f"{number:04}"
    before = clips({"clip_id": f"{number - 1:04}c", "video_id": f"{number - 1:04}", "jitter": 1.0, "jitter_by": "j"})
    row = {"clip_id": f"{name}c", "video_id": name, "motion": float(number)}
    ledger = videos({"video_id": name, "uris": [f"/{name}"], "modified": [1.0], "status": "done", "clips": 1})
    Committer(pyramid).commit(Batch(clips=clips(row), videos=ledger, clip_updates=[before]))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail of four versions, and indexes from the first row on."""
    monkeypatch.setattr(tail, "EVERY", 4)
    monkeypatch.setattr(indexes, "WORTH", 1)


@pytest.mark.usefixtures("short")
def test_the_tail_stays_short_however_many_commits_there_are(pyramid: Pyramid) -> None:
    commits = 60
    for number in range(commits):
        commit_clip(pyramid, number)
        for name in ("clips", "videos"):
            assert len(numbers(pyramid, name)) <= 2 * tail.EVERY + GROWTH * math.log(2 + number, GROWTH)
            assert len(uncovered(pyramid, name)) <= 2 * tail.EVERY
    found = pyramid.query().columns("clip_id", "motion", "jitter").to_table().to_pylist()
    assert sorted((row["clip_id"], row["motion"]) for row in found) == [
        (f"{number:04}c", float(number)) for number in range(commits)
    ]
    assert sum(row["jitter"] == 1.0 for row in found) == commits - 1
    assert all(pyramid.where(video_id=f"{number:04}").ids() == [f"{number:04}c"] for number in range(0, commits, 7))
    assert upkeep(pyramid).puzzling == 0 and pyramid.query().count() == commits


@pytest.mark.usefixtures("short")
def test_samples_and_media_get_indexes_and_keep_their_fragments(pyramid: Pyramid) -> None:
    for number in range(6):
        Committer(pyramid).commit(whole_video(pyramid, f"v{number}", 2))
    for name in ("samples", "media"):
        assert len(numbers(pyramid, name)) == 6 and len(uncovered(pyramid, name)) <= tail.EVERY
        assert pyramid.dataset(name).describe_indices()
    assert Committer(pyramid).commit(whole_video(pyramid, "v0", 2)).duplicates == 4
    assert len(list(pyramid.media(clip_ids("v0", 2)))) == 2


@pytest.mark.usefixtures("short")
def test_a_commit_that_comes_between_makes_the_tail_wait(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        commit_clip(pyramid, number)
    others = list(range(12, 20))
    write, before = transaction.write, pyramid.query().count()

    def late(*arguments: object) -> list[object]:
        written = write(*arguments)  # type: ignore[arg-type]
        if others:  # a score of a clip in the tail
            row = {"clip_id": "0011c", "video_id": "0011", "sharpness": float(others.pop()), "sharpness_by": "s"}
            Committer(pyramid).commit(Batch(clip_updates=[clips(row)]))
        return written

    monkeypatch.setattr(tail, "plan", lambda fullness: [sorted(fullness)])
    monkeypatch.setattr(transaction, "write", late)
    tail.tend(pyramid, "clips")
    assert pyramid.query().count() == before == len(pyramid.dataset("clips").to_table())
    assert pyramid.where(clip_id="0011c").columns("sharpness").to_table()["sharpness"].to_pylist()[0] is not None


STEPS = [(tail, "merge"), (indexes, "make"), (indexes, "extend")]
FAULTS = [RuntimeError("a page is damaged"), KeyError("clip_id")]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("module", "step"), STEPS)
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_what_fails_of_the_tail_is_said_once_and_fails_no_commit(
    pyramid: Pyramid,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    module: object,
    step: str,
    fault: Exception,
) -> None:
    tried: list[str] = []

    def broken(_: Pyramid, name: str, *more: object) -> None:
        tried.append("/".join(map(str, (name, *more))))
        raise fault

    monkeypatch.setattr(module, step, broken)
    for number in range(10):
        Committer(pyramid).commit(whole_video(pyramid, f"v{number}", 2))
    assert pyramid.query().count() == 20 and pyramid.dataset("videos").count_rows() == 10
    assert len(list(pyramid.media(pyramid.query().ids()))) == 20
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == len(set(said)) == len(set(tried)) < len(tried), said
    assert all(repr(fault) in one for one in said)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("module", "step"), STEPS)
def test_a_full_disk_ends_the_commit_in_the_tail_too(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, full)
    left = list(range(10))

    def commit_all() -> None:
        while left:
            Committer(pyramid).commit(whole_video(pyramid, f"v{left[-1]}", 2))
            left.pop()

    with pytest.raises(UserError, match="no space left"):
        commit_all()
    monkeypatch.undo()
    commit_all()
    assert pyramid.query().count() == 20 == len(list(pyramid.media(pyramid.query().ids())))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("module", "step"), STEPS)
def test_each_step_is_refused_once_and_waits(
    pyramid: Pyramid,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    module: object,
    step: str,
) -> None:
    commit_clip(pyramid, 0)
    tried: list[object] = []

    def refused(_: Pyramid, *more: object) -> None:
        tried.append(more)
        raise OSError("Retryable commit conflict for version 7")

    monkeypatch.setattr(module, step, refused)
    tail.tend(pyramid, "clips")
    assert len(tried) == len(set(tried)) >= 1, "each column has an index of its own"
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.usefixtures("short")
def test_the_oldest_fragment_is_left_alone(pyramid: Pyramid) -> None:
    commit_clip(pyramid, 0)
    (oldest,) = numbers(pyramid, "videos")
    for number in range(1, 20):
        commit_clip(pyramid, number)
    assert numbers(pyramid, "videos")[0] == oldest


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(0, 10_000_000))
def test_an_index_has_few_segments_and_its_base_is_seldom_rewritten(added: list[int], base: int) -> None:
    """As rows are added over and over: the number of segments, and of rows that are written again."""
    rows, segments, written = {0: base}, [[0]], 0
    for number, count in enumerate(added, 1):
        rows[number] = count
        merged = indexes.merged_segments(rows, segments)
        assert merged is not None
        covered = {one for segment in segments for one in segment}
        last = [one for segment in segments[len(segments) - merged :] for one in segment]
        segments = [*segments[: len(segments) - merged], [*last, *(rows.keys() - covered)]]
        written += sum(rows[one] for one in segments[-1])
        assert len(segments) <= 3 + math.log(2 + sum(added[:number]), indexes.GROWTH)
    total = sum(added)
    assert written <= (indexes.GROWTH + 1) * (3 + math.log(2 + base + total, indexes.GROWTH)) * total
    assert sorted(one for segment in segments for one in segment) == sorted(rows)
    assert indexes.merged_segments(rows, segments) is None


@pytest.mark.usefixtures("short")
def test_upkeep_makes_indexes_with_larger_pages_again(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"clip_id": f"{number:04}c", "video_id": f"{number:04}"} for number in range(40)]
    Committer(pyramid).commit(Batch(clips=clips(*rows)))
    pyramid.dataset("clips").create_scalar_index("clip_id", "BTREE")

    def pages() -> int:
        return pyramid.dataset("clips").stats.index_stats("clip_id_idx")["segments"][0]["num_pages"]

    assert pages() == 1
    monkeypatch.setattr(indexes, "PAGE_ROWS", 8)
    upkeep(pyramid)
    assert pages() == 5 and pyramid.where(clip_id="0017c").count() == 1
