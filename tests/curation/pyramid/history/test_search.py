from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import failures
from curation.pyramid.history import search as search_module
from curation.pyramid.history.failures import PASSING
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.history.search import FOLDER
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from tests.curation.pyramid.build import TIERS, clips


def row(name: str, **other: Any) -> dict[str, Any]:
    return {"clip_id": name, "video_id": "v", "motion": 2.0, "motion_by": "m"} | other


def commit(pyramid: Pyramid, *rows: dict[str, Any]) -> None:
    Committer(pyramid).commit(Batch(clips=clips(*rows)))


def lacking(pyramid: Pyramid, by: str = "j", remember: bool = True, again: tuple[str, ...] = ()) -> list[str]:
    """The clips that lack jitter and reach the tier `low` (a motion of 1 or more)."""
    batches = Ledger(pyramid, remember).stale_clips("jitter", by, pyramid.tiers, "low", again=again)
    return sorted(name for batch in batches for name in batch["clip_id"].to_pylist())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many fragments each search has read."""
    counts: list[int] = []
    batches = search_module._batches

    def counting(dataset: Any, question: Any, columns: Any, fragments: list[Any]) -> Any:
        counts.append(len(fragments))
        return batches(dataset, question, columns, fragments)

    monkeypatch.setattr(search_module, "_batches", counting)
    return counts


def test_what_was_read_in_vain_is_not_read_again(pyramid: Pyramid, read: list[int]) -> None:
    commit(pyramid, row("a", motion=0.0), row("b", motion=0.0))
    commit(pyramid, row("c", jitter=1.0, jitter_by="j"))
    assert lacking(pyramid) == [] == lacking(pyramid) and read == [2]
    commit(pyramid, row("d"), row("e"))
    assert lacking(pyramid) == ["d", "e"] == lacking(pyramid) and read == [2, 1, 1]
    commit(pyramid, row("d", jitter=1.0, jitter_by="j"))
    assert lacking(pyramid) == ["e"]
    assert read == [2, 1, 1, 2]


def test_another_question_is_another_memory(pyramid: Pyramid) -> None:
    commit(pyramid, row("a", motion=1.5), row("b", motion=0.5, jitter=1.0, jitter_by="j"))
    commit(pyramid, row("c", jitter=1.0, jitter_by="j"))
    assert lacking(pyramid) == ["a"]
    commit(pyramid, row("a", motion=1.5, jitter=None, jitter_by="j", jitter_why="unreadable"))
    assert lacking(pyramid) == []
    assert lacking(pyramid, by="j2") == ["a", "c"], "another version of the filter"
    assert lacking(pyramid, again=(PASSING,)) == ["a"], "what failed and may pass"
    moved = pyramid.with_tiers(pyramid.tiers.moved("low", "motion", Range(0.1)))
    commit(moved, row("d", motion=0.5))
    assert lacking(moved) == ["d"], "a moved threshold"


def test_a_failure_that_is_of_another_kind_today_is_found(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade whose `failures` tries again what an older one did not."""
    commit(pyramid, row("a", jitter=None, jitter_by="j", jitter_why="broken: y"), row("b", media_why="broken: y"))
    commit(pyramid, row("b", jitter=1.0, jitter_by="j"))
    assert lacking(pyramid, again=(PASSING,)) == [] == list(uncut(pyramid, again=(PASSING,)))
    monkeypatch.setattr(failures, "_KINDS", {**failures._KINDS, "broken": PASSING})
    assert lacking(pyramid, again=(PASSING,)) == ["a"]
    assert list(uncut(pyramid, again=(PASSING,))) == [["b"]]


def test_a_reader_writes_nothing(pyramid: Pyramid) -> None:
    commit(pyramid, row("a", motion=0.0))
    assert lacking(pyramid, remember=False) == [] and not Path(pyramid.uri, FOLDER).exists()
    lacking(pyramid)
    assert list(Path(pyramid.uri, FOLDER).iterdir())


def test_a_search_that_is_given_up_remembers_nothing(pyramid: Pyramid) -> None:
    commit(pyramid, row("a", motion=0.0))
    commit(pyramid, row("b"))
    next(Ledger(pyramid, remember=True).stale_clips("jitter", "j", TIERS, "low"))
    assert not Path(pyramid.uri, FOLDER).exists()


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"nothing": {"x": "y"}}'])
def test_a_damaged_memory_is_none(pyramid: Pyramid, damage: bytes) -> None:
    commit(pyramid, row("a", motion=0.0))
    assert lacking(pyramid) == []
    for path in Path(pyramid.uri, FOLDER).iterdir():
        path.write_bytes(damage)
    commit(pyramid, row("b"))
    assert lacking(pyramid) == ["b"]


def test_a_version_that_is_restored_is_read_again(pyramid: Pyramid) -> None:
    commit(pyramid, row("a"), row("b", motion=0.0))
    before = pyramid.dataset("clips").version
    commit(pyramid, row("a", jitter=1.0, jitter_by="j"))
    assert lacking(pyramid) == []
    pyramid.dataset("clips", before).restore()
    assert lacking(pyramid) == ["a"]
    commit(pyramid, row("b", motion=0.0, jitter=1.0, jitter_by="j"))
    assert lacking(pyramid) == ["a"], "as many rows are deleted as when a was the one"


def test_a_column_that_is_written_anew_is_read_again(pyramid: Pyramid) -> None:
    commit(pyramid, row("a", motion=0.0))
    assert lacking(pyramid) == []
    dataset = pyramid.dataset("clips")
    dataset.drop_columns(["motion"])
    pyramid.dataset("clips").add_columns({"motion": "cast(3.0 as float)"})
    assert lacking(pyramid) == ["a"]


def uncut(pyramid: Pyramid, at_once: int = 5, again: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Lists of the clips of the tier `low` that are to be cut, or with `again` to be cut again."""
    ledger = Ledger(pyramid, remember=True)
    columns = ["clip_id"]
    for rows in ledger.uncut_again("low", columns, at_once, again) if again else ledger.uncut("low", columns, at_once):
        assert all(list(one) == columns for one in rows)
        yield sorted(one["clip_id"] for one in rows)


def test_clips_that_are_not_cut_are_found_until_they_are(pyramid: Pyramid, read: list[int]) -> None:
    commit(pyramid, row("a"), row("b"), row("c", motion=0.0), row("d", media_why="broken"))
    assert list(uncut(pyramid)) == [["a", "b"]]
    commit(pyramid, row("a", media="x"), row("b", media="x"))
    assert list(uncut(pyramid)) == [] == list(uncut(pyramid))
    assert read == [1, 2]


def test_all_that_is_to_be_cut_is_found_by_one_search(pyramid: Pyramid, read: list[int]) -> None:
    for name in "abcde":
        commit(pyramid, row(name), row(name + "0", motion=0.0))
    done: list[list[str]] = []
    for some in uncut(pyramid, 2):
        commit(pyramid, *(row(name, media="x") for name in some))
        done += [some]
    assert [len(some) for some in done] == [2, 2, 1] and sorted(one for some in done for one in some) == [*"abcde"]
    assert read == [5]
    commit(pyramid, row("f0", motion=0.0))
    assert list(uncut(pyramid)) == [] and read == [5, 5 + 3 + 1], "where it has found some it looks once more"
    assert list(uncut(pyramid)) == [] and len(read) == 2, "what it has read is remembered"


@pytest.mark.parametrize(
    "change",
    [{"media": "x"}, {"media_why": "broken"}, {"motion": 0.5}, None],
    ids=["cut", "failed", "below the tier", "deleted"],
)
def test_what_is_not_to_be_cut_any_more_when_its_turn_comes_is_left_out(
    pyramid: Pyramid, change: dict[str, Any] | None
) -> None:
    """Another run cuts a clip, or fails to, or gives it another score, or deletes it, after the search has found it."""
    commit(pyramid, *(row(name) for name in "abcdef"))
    lists = uncut(pyramid, 2)
    assert next(lists) == ["a", "b"]
    if change is None:
        Committer(pyramid).delete_clips(["d", "e", "f"])
    else:
        commit(pyramid, *(row(name) | change for name in "def"))
    assert list(lists) == [["c"]], "and no empty list"


@pytest.mark.parametrize(
    "change",
    [{"media": "x"}, {"media_why": "broken"}, {"motion": 0.5}],
    ids=["cut", "failed otherwise", "below the tier"],
)
def test_what_is_not_to_be_cut_again_any_more_is_left_out(pyramid: Pyramid, change: dict[str, Any]) -> None:
    commit(pyramid, *(row(name, media_why="unreadable: the network") for name in "abcd"), row("e"))
    lists = uncut(pyramid, 2, (PASSING,))
    assert next(lists) == ["a", "b"]
    commit(pyramid, row("d") | change)
    assert list(lists) == [["c"]]


def test_memories_of_no_fragment_that_is_there_go_with_an_upkeep(pyramid: Pyramid, read: list[int]) -> None:
    def memories() -> set[str]:
        return {path.name for path in Path(pyramid.uri, FOLDER).iterdir()}

    commit(pyramid, row("a", motion=0.0))
    commit(pyramid, row("b", motion=0.0))
    for by in ("j1", "j2", "j3"):
        assert lacking(pyramid, by) == []
    old = memories()
    assert len(old) == 3
    pyramid.dataset("clips").optimize.compact_files()
    assert lacking(pyramid, "j") == []
    (used,) = memories() - old
    Path(pyramid.uri, FOLDER, "damaged.json").write_bytes(b"{")
    upkeep(pyramid)
    assert memories() == {used}
    assert lacking(pyramid, "j") == [] and read == [2, 2, 2, 1], "what is remembered still holds"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_it_is_what_reading_all_rows_would_find(seed: int) -> None:
    """Through commits, scores, deletions, compactions and searches in any order."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        pyramid = Pyramid.create(f"{folder}/p", TIERS, "test")
        for _ in range(10):
            what = rng.choice(["commit", "score", "search", "delete", "compact"])
            some = rng.sample(range(20), 3)
            if what == "commit":
                commit(pyramid, *(row(f"c{number}", motion=rng.choice([0.0, 2.0])) for number in some))
            elif what == "score":
                commit(pyramid, *(row(f"c{number}", jitter=1.0, jitter_by=rng.choice("jk")) for number in some))
            elif what == "delete":
                Committer(pyramid).delete_clips([f"c{some[0]}"])
            elif what == "compact":
                pyramid.dataset("clips").optimize.compact_files()
            else:
                lacking(pyramid)
        rows = pyramid.dataset("clips").to_table(columns=["clip_id", "motion", "jitter_by"]).to_pylist()
        expected = sorted(one["clip_id"] for one in rows if one["motion"] >= 1 and one["jitter_by"] != "j")
        assert lacking(pyramid) == expected == lacking(pyramid, remember=False)
