from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pytest

from curation.pyramid.commits import indexes, tail
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle import compaction
from curation.pyramid.lifecycle import upkeep as upkeep_module
from curation.pyramid.lifecycle.compaction import GROWTH, SMALL, compact, plan
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.datasets import NAMES
from curation.pyramid.storage.fragments import read_ticket, write_media_fragments, write_samples_fragments
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, clip_ids, whole_video

SIZES = (500, 100_000, 4_500_000)
"""One of each of Lance's ways to store a blob: in the row's file, in a file of many, in a file of its own."""
VIDEOS = 10
BOTH = ("samples", "media")


def fill(pyramid: Pyramid, video: str) -> None:
    """A video of three clips, whose bytes and frames tell them apart."""
    ids = clip_ids(video, len(SIZES))
    stored = [(name, random.Random(name).randbytes(size)) for name, size in zip(ids, SIZES, strict=True)]
    frames = [(name, [name.encode() * 20, b"", name.encode()]) for name in ids]
    batch = dataclasses.replace(
        whole_video(pyramid, video, len(SIZES)),
        media=[write_media_fragments(pyramid.uri, stored)],
        samples=[write_samples_fragments(pyramid.uri, frames)],
    )
    Committer(pyramid).commit(batch)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pyramid = Pyramid.create(tmp_path_factory.mktemp("template") / "pyramid", TIERS, "test")
    for index in range(VIDEOS):
        fill(pyramid, f"v{index}")
    return Path(pyramid.uri)


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Pyramid:
    return Pyramid.open(shutil.copytree(template, tmp_path / "filled"))


def numbers(pyramid: Pyramid, name: str) -> list[int]:
    return [fragment.fragment_id for fragment in pyramid.dataset(name).get_fragments()]


def contents(pyramid: Pyramid) -> dict[str, Any]:
    ids = sorted(pyramid.query().ids())
    media = {name: (content, digest) for name, content, digest in pyramid.media(ids)}
    frames = dict(pyramid.samples(ids))
    assert media.keys() == frames.keys() == set(ids)
    return {name: (media[name], frames[name]) for name in ids}


def append_media(pyramid: Pyramid, rows: list[tuple[str, bytes]]) -> None:
    """The first half of a commit: the rows are there, and twins are not removed yet."""
    Committer(pyramid)._append_fragments("media", read_ticket(write_media_fragments(pyramid.uri, rows))[1])


def in_the_middle(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object], function: str = "_reserve") -> None:
    """Run `action` once, when rows have been copied and nothing has been committed yet."""
    original: Callable[..., Any] = getattr(compaction, function)
    due = [action]

    def first_the_other(*arguments: Any) -> Any:
        if due:
            due.pop()()
        return original(*arguments)

    monkeypatch.setattr(compaction, function, first_the_other)


def test_many_small_fragments_become_one_and_nothing_changes(filled: Pyramid) -> None:
    before = contents(filled)
    done = upkeep(filled)
    assert [len(numbers(filled, name)) for name in BOTH] == [1, 1]
    assert (done.fragments_before, done.fragments_after, done.damaged) == (4 * VIDEOS, 4, 0)
    assert done.copied_bytes > VIDEOS * sum(SIZES)
    assert contents(filled) == before
    assert [filled.dataset(name).count_rows() for name in BOTH] == [3 * VIDEOS, 3 * VIDEOS]
    again = upkeep(filled)
    assert again.copied_bytes == again.orphans == again.twins == 0


def test_no_file_of_the_old_fragments_is_needed(filled: Pyramid) -> None:
    before = contents(filled)
    done = upkeep(filled, keep=timedelta(0), idle=True)
    assert done.freed_bytes > VIDEOS * sum(SIZES)
    stored = sum(path.stat().st_size for path in Path(filled.uri, "media.lance", "data").rglob("*") if path.is_file())
    assert VIDEOS * sum(SIZES) < stored < 1.1 * VIDEOS * sum(SIZES)
    assert contents(filled) == before


def test_a_pinned_version_reads_the_same(filled: Pyramid) -> None:
    filled.pin("frozen")
    before = contents(filled)
    rows = {name: filled.dataset(name, "frozen").to_table(columns=["clip_id"]) for name in BOTH}
    assert upkeep(filled, keep=timedelta(0), idle=True).copied_bytes
    frozen = filled.dataset("media", "frozen")
    assert all(filled.dataset(name, "frozen").to_table(columns=["clip_id"]).equals(rows[name]) for name in BOTH)
    found = select(frozen, "clip_id", sorted(before), ["clip_id"], with_row_address=True).to_pylist()
    files = frozen.take_blobs("video", addresses=[row["_rowaddr"] for row in found])
    read = {row["clip_id"]: file.readall() for row, file in zip(found, files, strict=True) if file is not None}
    assert read == {name: media[0] for name, (media, _) in before.items()}


def test_indexes_find_moved_rows_before_and_after_they_are_extended(filled: Pyramid) -> None:
    for name in BOTH:
        filled.dataset(name).create_scalar_index("clip_id", "BTREE")
    fill(filled, "later")
    before = contents(filled)
    ids = sorted(before)
    for name in BOTH:
        assert compact(filled, name).copied_bytes
    assert contents(filled) == before, "an index that does not know the new fragment"
    assert all(len(list(filled.media([one]))) == 1 for one in ids[:9])
    upkeep(filled)
    for name in BOTH:
        (index,) = filled.dataset(name).describe_indices()
        assert index.num_rows_indexed == len(ids)
        assert {number for part in index.segments for number in part.fragment_ids} == set(numbers(filled, name))
    assert contents(filled) == before
    assert all(len(list(filled.media([one]))) == 1 for one in ids[:9])


def test_big_fragments_are_not_copied(filled: Pyramid) -> None:
    small = numbers(filled, "media")
    append_media(filled, [("big", random.Random(1).randbytes(9_000_000))])
    (big,) = set(numbers(filled, "media")) - set(small)
    done = compact(filled, "media", target_bytes=50_000_000)
    assert 0 < done.copied_bytes < VIDEOS * sum(SIZES) + 100_000
    after = numbers(filled, "media")
    assert big in after and not set(small) & set(after) and len(after) == 2
    assert compact(filled, "media", target_bytes=50_000_000).copied_bytes == 0


def test_a_merged_fragment_holds_about_the_target(filled: Pyramid) -> None:
    before = contents(filled)
    target = int(8.5 * sum(SIZES))  # a video is a little less than an eighth of it
    assert compact(filled, "media", target).copied_bytes
    rows = [fragment.count_rows() for fragment in filled.dataset("media").get_fragments()]
    assert len(rows) == 2 and sum(rows) == 3 * VIDEOS and max(rows) == 3 * 8
    assert contents(filled) == before


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("function", ["_reserve", "_put"])
def test_a_commit_while_rows_are_copied_loses_nothing(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, name: str, function: str
) -> None:
    before = contents(filled)
    in_the_middle(monkeypatch, lambda: fill(filled, "later"), function)
    assert compact(filled, name).copied_bytes
    after = contents(filled)
    assert {one: after[one] for one in before} == before and len(after) == len(before) + 3
    assert len(numbers(filled, name)) == 2


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("function", ["_reserve", "_put", "committed"])
def test_indexes_that_are_extended_beside_it_make_it_copy_nothing_twice(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, name: str, function: str
) -> None:
    """Of each group that is copied, every time: an extension before its number is reserved, before the latest version
    is looked at, and after that.
    """
    monkeypatch.setattr(tail, "EVERY", 4)
    monkeypatch.setattr(indexes, "WORTH", 1)
    monkeypatch.setattr(indexes, "GROWTH", 1000)  # each extension covers all fragments
    original, copied = getattr(compaction, function), compaction._copied
    due: list[str] = []
    copies: list[set[int]] = []

    def extended(*arguments: Any) -> Any:
        if due and (function != "committed" or isinstance(arguments[1], lance.LanceOperation.Rewrite)):
            due.pop()
            fill(filled, f"later {len(copies)}")
            tail.tend(filled, name)
            (part,) = filled.dataset(name).describe_indices()[0].segments
            covered.append(set(part.fragment_ids))
        return original(*arguments)

    def counted(*arguments: Any) -> str:
        copies.append({fragment.fragment_id for fragment in arguments[3]})
        due.append("an extension")
        return copied(*arguments)

    covered: list[set[int]] = []
    before, old = contents(filled), set(numbers(filled, name))
    monkeypatch.setattr(compaction, function, extended)
    monkeypatch.setattr(compaction, "_copied", counted)
    assert compact(filled, name, int(8.5 * max(compaction._sizes(filled.dataset(name)).values()))).copied_bytes
    assert len(copies) == 2
    assert all(group <= some for group, some in zip(copies, covered, strict=True)), "each was covered meanwhile"
    assert sorted(number for group in copies for number in group) == sorted(old), "each was copied once"
    assert not old & set(numbers(filled, name))
    after = contents(filled)
    assert {one: after[one] for one in before} == before and len(after) == len(before) + 3 * len(copies)
    monkeypatch.undo()
    upkeep(filled)
    assert contents(filled) == after


@pytest.mark.parametrize("name", BOTH)
def test_fragments_with_deleted_rows_are_merged_beside_commits(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    gone = clip_ids("v3", 3)[0]
    Committer(filled).delete_clips([gone])
    before = contents(filled)
    filled.dataset(name).delete(f"clip_id = '{gone}'")
    in_the_middle(monkeypatch, lambda: filled.dataset(name).create_scalar_index("clip_id", "BTREE"))
    assert compact(filled, name).copied_bytes
    assert len(numbers(filled, name)) == 1 and contents(filled) == before


def test_a_second_row_appended_meanwhile_never_comes_before_the_first(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled)
    ids = clip_ids("v3", 3)
    twins = [(name, b"another encoder made this") for name in ids]
    in_the_middle(monkeypatch, lambda: append_media(filled, twins))
    compact(filled, "media")
    assert contents(filled) == before
    stayed, removed = Committer(filled)._keep_first("media", ids, ["sha256"])
    assert {row["clip_id"]: row["sha256"] for row in stayed} == {name: before[name][0][1] for name in ids}
    assert removed == 3 and contents(filled) == before
    assert len(numbers(filled, "media")) == 2, "the others were merged at the second try"


def test_a_second_row_appended_after_the_number_is_reserved(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(filled)
    ids = clip_ids("v3", 3)
    twins = [(name, b"another encoder made this") for name in ids]
    in_the_middle(monkeypatch, lambda: append_media(filled, twins), "_put")
    compact(filled, "media")
    assert len(numbers(filled, "media")) == 2
    assert contents(filled) == before
    assert Committer(filled)._keep_first("media", ids, [])[1] == 3
    assert contents(filled) == before


def test_clips_with_two_rows_stay_where_they_are(filled: Pyramid) -> None:
    before = contents(filled)
    append_media(filled, [(name, b"second") for name in clip_ids("v0", 3)])
    small = numbers(filled, "media")
    compact(filled, "media")
    after = numbers(filled, "media")
    assert {small[0], small[-1]} < set(after) and len(after) == 3
    assert contents(filled) == before
    done = upkeep(filled, idle=True)
    assert (done.twins, done.orphans) == (3, 0) and contents(filled) == before


@pytest.mark.parametrize("function", ["_reserve", "_put"])
def test_a_deletion_meanwhile_wins(filled: Pyramid, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    (row,) = select(
        filled.dataset("media"), "clip_id", clip_ids("v3", 1), ["clip_id"], with_row_address=True
    ).to_pylist()
    in_the_middle(monkeypatch, lambda: filled.dataset("media").delete(f"_rowaddr = {row['_rowaddr']}"), function)
    stale = filled.dataset("media")
    compact(filled, "media")
    rows = filled.dataset("media").to_table(columns=["clip_id"])["clip_id"].to_pylist()
    assert len(rows) == len(set(rows)) == 3 * VIDEOS - 1 and row["clip_id"] not in rows
    assert len(numbers(filled, "media")) == 1, "it was tried again"
    everywhere = " OR ".join(f"_rowaddr = {number << 32}" for number in range(VIDEOS + 1))
    assert stale.delete(everywhere)["num_deleted_rows"] == 0, "a committer may still hold old addresses"
    assert filled.dataset("media").count_rows() == 3 * VIDEOS - 1


@pytest.mark.parametrize("function", ["_reserve", "_put"])
def test_killed_in_the_middle(filled: Pyramid, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    before = contents(filled)

    def die() -> None:
        raise KeyboardInterrupt

    in_the_middle(monkeypatch, die, function)
    with pytest.raises(KeyboardInterrupt):
        upkeep(filled)
    assert contents(filled) == before
    done = upkeep(filled, keep=timedelta(0), idle=True)
    assert done.twins == 0 and done.orphans == (function == "_put"), "the placeholder"
    assert [len(numbers(filled, name)) for name in BOTH] == [1, 1]
    assert [filled.dataset(name).count_rows() for name in BOTH] == [3 * VIDEOS] * 2
    assert contents(filled) == before
    stored = sum(path.stat().st_size for path in Path(filled.uri, "media.lance", "data").rglob("*") if path.is_file())
    assert stored < 1.1 * VIDEOS * sum(SIZES)


def test_damaged_bytes_are_not_copied_under_a_new_hash(filled: Pyramid) -> None:
    victim = next(Path(filled.uri, "media.lance", "data").rglob("*.blob"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    hashes = {name: digest for name, _, digest in filled.media(filled.query().ids())}
    assert upkeep(filled).damaged == 1
    assert len(numbers(filled, "media")) == 2, "the others are merged"
    assert {name: digest for name, _, digest in filled.media(filled.query().ids())} == hashes


def test_orphans_that_were_moved_are_counted_when_they_are_removed(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_media(filled, [(f"orphan {index}", b"x") for index in range(3)])
    settled = {name: filled.dataset(name).version for name in NAMES}
    compact(filled, "media")
    with monkeypatch.context() as patch:
        patch.setattr(upkeep_module, "_as_of", lambda pyramid, name, _: pyramid.dataset(name, settled[name]))
        assert upkeep(filled).orphans == 0
    assert filled.dataset("media").count_rows() == 3 * VIDEOS + 3
    assert upkeep(filled, idle=True).orphans == 3
    assert filled.dataset("media").count_rows() == 3 * VIDEOS


def test_a_row_is_copied_a_bounded_number_of_times() -> None:
    """Commits of every size and an upkeep after every few of them, for as long as it takes to fill 40 targets."""
    rng = random.Random(7)
    fragments: dict[int, float] = {}
    copies: dict[int, int] = {}
    upkeeps = 0
    for number in range(30_000):
        fragments[number], copies[number] = rng.choice((1e-4, 1e-3, 3e-3, 0.2 if number % 100 == 0 else 1e-3)), 0
        if number % 37:
            continue
        upkeeps += 1
        for group in plan(fragments):
            merged = 1_000_000 + upkeeps * 1000 + group[0] % 1000
            assert merged not in fragments
            share = sum(fragments[one] for one in group)
            assert SMALL <= share <= 1 + SMALL or share >= GROWTH * max(fragments[one] for one in group)
            assert all(fragments[one] < SMALL for one in group)
            copies[merged] = 1 + max(copies.pop(one) for one in group)
            for one in group:
                del fragments[one]
            fragments[merged] = share
    assert max(copies.values()) <= 4
    assert sum(share < SMALL for share in fragments.values()) < 100
    assert sum(share for share in fragments.values()) > 30


def test_plan_fills_groups_up_to_the_target() -> None:
    groups = plan(dict.fromkeys(range(100), 0.1) | {500: 0.2, 501: 3.0})
    assert sorted(number for group in groups for number in group) == list(range(100))
    assert all(9 <= len(group) <= 11 for group in groups)
    exact = [len(group) for group in plan(dict.fromkeys(range(33), 1 / 16))]
    assert exact == [16, 17], "one alone would be copied again"
    assert plan({1: 0.1}) == [] and plan({}) == []
    assert plan({1: 0.05, 2: 0.01}) == [], "to copy 0.05 for 0.01 is not worth it"
    assert plan({1: 0.07, 2: 0.06}) == [[1, 2]]


def test_a_batch_of_a_run_and_upkeep_in_turn(pyramid: Pyramid) -> None:
    for index in range(20):
        Committer(pyramid).commit(whole_video(pyramid, f"v{index}", 2))
        if index % 9 == 8:
            upkeep(pyramid, settle=timedelta(0))
    Committer(pyramid).commit(Batch(media=whole_video(pyramid, "v0", 2).media))
    upkeep(pyramid, settle=timedelta(0))
    ids = pyramid.query().ids()
    assert len(ids) == 40 and [name for name, content, _ in pyramid.media(ids) if content != name.encode() * 100] == []
    assert pyramid.dataset("media").count_rows() == pyramid.dataset("samples").count_rows() == 40
