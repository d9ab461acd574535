"""The rules of Lance that `upsert` stands on, each by name: a new release that breaks one fails here.

Pairs of transactions read one version and are published one after the other. What is refused must be refused, and
whatever is taken leaves one row a key and every value that was written.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.contract import CLIPS
from curation.pyramid.commits import indexes
from curation.pyramid.commits import upsert as upsert_module
from curation.pyramid.commits.upsert import Upsert, publish
from curation.pyramid.storage.transaction import committed, write
from curation.pyramid.store import Pyramid
from curation.retry import is_conflict
from tests.curation.pyramid.build import TIERS

Action = Callable[[lance.LanceDataset], object]
ROWS = 20
FILE = 10
"""Rows of the first fragments: k00 to k09 lie in fragment 0, k10 to k19 in fragment 1."""


def key(number: int) -> str:
    return f"k{number:02}"


def row(name: str, value: float = 0.0, caption: str | None = None) -> dict[str, Any]:
    return {"clip_id": name, "video_id": f"v{name[1]}", "fps": value, "caption": caption}


def full(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=CLIPS)


def upserting(pyramid: Pyramid, *rows: dict[str, Any]) -> Upsert:
    """The upsert that writes `rows` and keeps what captions say: each adds its word."""
    incoming = {one["clip_id"]: one for one in rows}

    def unite(old: pa.Table) -> pa.Table:
        there = {one["clip_id"]: one for one in old.to_pylist()}
        words = {name: (there.get(name, {}).get("caption") or "") + (one["caption"] or "") for name, one in
                 incoming.items()}  # fmt: skip
        return full(*(one | {"caption": words[name]} for name, one in incoming.items()))

    return Upsert(pyramid, "clips", incoming, unite)


def put(pyramid: Pyramid, *rows: dict[str, Any]) -> Action:
    """Upsert `rows` as read at the version given, in one attempt."""

    def act(dataset: lance.LanceDataset) -> None:
        offer = upserting(pyramid, *rows).offer(dataset)
        publish(dataset, offer.replaced, offer.written, offer.inserts)

    return act


def merged(dataset: lance.LanceDataset, name: str) -> None:
    """An update by Lance's own merge_insert, once."""
    updating = dataset.merge_insert("clip_id").when_matched_update_all()
    updating.conflict_retries(0).execute(full(row(name, 5.0)))


def joined_tail(dataset: lance.LanceDataset) -> None:
    """What the upkeep of the tail does: all fragments but the oldest as one."""
    some = [one for one in dataset.get_fragments() if one.fragment_id != min(numbers(dataset))]
    written = write(dataset, dataset.scanner(fragments=some).to_reader())
    gone = [one.fragment_id for one in some]
    committed(dataset, lance.LanceOperation.Update(removed_fragment_ids=gone, new_fragments=written))


def taken(first: Action, second: Action, pyramid: Pyramid) -> bool:
    """Whether `second` is taken although `first` came since the version that both read."""
    one, two = pyramid.dataset("clips"), pyramid.dataset("clips")
    first(one)
    try:
        second(two)
    except (OSError, RuntimeError, ValueError) as error:
        if not is_conflict(error):
            raise
        return False
    return True


def numbers(dataset: lance.LanceDataset) -> list[int]:
    return [fragment.fragment_id for fragment in dataset.get_fragments()]


def ids(pyramid: Pyramid) -> list[str]:
    return sorted(pyramid.dataset("clips").to_table(columns=["clip_id"])["clip_id"].to_pylist())


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    """Twenty clips in two fragments, with an index on either key."""
    for start in range(0, ROWS, FILE):
        pyramid.dataset("clips").insert(full(*(row(key(number)) for number in range(start, start + FILE))))
    for column in ("clip_id", "video_id"):
        pyramid.dataset("clips").create_scalar_index(column, "BTREE")
    return pyramid


PAIRS: dict[str, tuple[Callable[[Pyramid], tuple[Action, Action]], bool]] = {
    "insert, insert the same": (lambda p: (put(p, row("n1")), put(p, row("n1"))), False),
    "insert, insert another": (lambda p: (put(p, row("n1")), put(p, row("n2"))), False),
    "insert, update in the oldest": (lambda p: (put(p, row("n1")), put(p, row("k01"))), False),
    "insert, update elsewhere": (lambda p: (put(p, row("n1")), put(p, row("k11"))), True),
    "update in the oldest, insert": (lambda p: (put(p, row("k01")), put(p, row("n1"))), False),
    "update, update of the row": (lambda p: (put(p, row("k01")), put(p, row("k01"))), False),
    "update, update of its fragment": (lambda p: (put(p, row("k01")), put(p, row("k02"))), False),
    "update, update of another fragment": (lambda p: (put(p, row("k01")), put(p, row("k11"))), True),
    "update, merge_insert of the row": (lambda p: (put(p, row("k01")), lambda d: merged(d, "k01")), False),
    "merge_insert, update of its fragment": (lambda p: (lambda d: merged(d, "k02"), put(p, row("k01"))), False),
    "deletion, update of the row": (lambda p: (lambda d: d.delete("clip_id = 'k11'"), put(p, row("k11"))), False),
    "oldest emptied by an update, insert": (
        lambda p: (put(p, *(row(key(n)) for n in range(FILE))), put(p, row("n1"))),
        False,
    ),
    "insert, oldest emptied by an update": (
        lambda p: (put(p, row("n1")), put(p, *(row(key(n)) for n in range(FILE)))),
        False,
    ),
    "oldest deleted, insert": (lambda p: (lambda d: d.delete("clip_id < 'k10'"), put(p, row("n1"))), False),
    "compaction of all, insert": (lambda p: (lambda d: d.optimize.compact_files(), put(p, row("n1"))), False),
    "insert, compaction of all": (lambda p: (put(p, row("n1")), lambda d: d.optimize.compact_files()), False),
    "compaction of all, update": (lambda p: (lambda d: d.optimize.compact_files(), put(p, row("k11"))), False),
    "tail joined, update in it": (lambda p: (joined_tail, put(p, row("k11"))), False),
    "update in the tail, tail joined": (lambda p: (put(p, row("k11")), joined_tail), False),
    "deletion in the tail, tail joined": (lambda p: (lambda d: d.delete("clip_id = 'k11'"), joined_tail), False),
    "tail joined, insert": (lambda p: (joined_tail, put(p, row("n1"))), True),
    "insert, tail joined": (lambda p: (put(p, row("n1")), joined_tail), True),
    "index extended, insert": (lambda p: (lambda d: d.optimize.optimize_indices(), put(p, row("n1"))), True),
    "metadata, insert": (lambda p: (lambda d: d.update_metadata({"a": "b"}), put(p, row("n1"))), True),
    "column added, insert": (
        lambda p: (lambda d: d.add_columns(pa.schema([pa.field("new", pa.int32())])), put(p, row("n1"))),
        False,
    ),
}
"""Two transactions, and whether the second one is to be taken."""


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_read_one_version(filled: Pyramid, name: str) -> None:
    make, both = PAIRS[name]
    assert taken(*make(filled), filled) is both
    found = ids(filled)
    assert len(found) == len(set(found)) and len(found) >= ROWS - FILE


@pytest.mark.parametrize(
    "first",
    [
        lambda p: put(p, row("n1")),
        lambda p: put(p, row("n2")),
        lambda p: lambda d: d.insert(full(row("n1"))),
    ],
    ids=["first rows", "other first rows", "append"],
)
def test_into_an_empty_dataset_only_one_of_two_is_taken(pyramid: Pyramid, first: Callable[[Pyramid], Action]) -> None:
    assert not taken(first(pyramid), put(pyramid, row("n1")), pyramid)
    assert len(ids(pyramid)) == 1


def test_a_fragment_gets_a_number_that_none_ever_had(filled: Pyramid) -> None:
    """Also after all rows have gone: else an index that had covered the number would take new rows for old ones."""
    seen: list[set[int]] = []
    for turn in range(3):
        seen.append(set(numbers(filled.dataset("clips"))))
        filled.dataset("clips").delete("true")
        assert numbers(filled.dataset("clips")) == []
        upserting(filled, row(f"n{turn}")).run()
        upserting(filled, row(f"m{turn}")).run()
        assert filled.where(clip_id=f"n{turn}").count() == 1 and filled.where(clip_id="k01").count() == 0
    assert all(max(before) < min(after) for before, after in itertools.pairwise(seen))


def test_a_compaction_numbers_what_it_writes_last(filled: Pyramid) -> None:
    """So the oldest fragment changes only by a transaction that removes it."""
    upserting(filled, row("n1"), row("k01"), row("k12")).run()
    before = numbers(filled.dataset("clips"))
    filled.dataset("clips").optimize.compact_files()
    made = set(numbers(filled.dataset("clips"))) - set(before)
    assert made and min(made) > max(before)


def test_the_touched_fragment_stays_in_the_indexes(filled: Pyramid) -> None:
    upserting(filled, row("n1"), row("k12")).run()
    for index in filled.dataset("clips").describe_indices():
        assert {number for part in index.segments for number in part.fragment_ids} == {0, 1}
    for name in ("n1", "k01", "k12"):
        assert filled.where(clip_id=name).count() == 1
    assert same_by_index_and_pass(filled)


def same_by_index_and_pass(pyramid: Pyramid) -> bool:
    """Whether the index on the videos finds what a pass finds."""
    dataset = pyramid.dataset("clips")
    tests = [f"video_id = 'v{number}'" for number in range(10)]
    return all(
        sorted(dataset.scanner(filter=test, use_scalar_index=True).to_table()["clip_id"].to_pylist())
        == sorted(dataset.scanner(filter=test, use_scalar_index=False).to_table()["clip_id"].to_pylist())
        for test in tests
    )


def test_a_column_of_somebody_elses_keeps_its_values(filled: Pyramid) -> None:
    filled.dataset("clips").add_columns({"mine": "cast(fps as string)"})
    upserting(filled, row("k01", 3.0), row("n1", 4.0)).run()
    found = {one["clip_id"]: one for one in filled.dataset("clips").to_table().to_pylist()}
    assert (found["k01"]["mine"], found["k01"]["fps"], found["n1"]["mine"]) == ("0.0", 3.0, None)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each file that an upsert writes."""
    written: list[int] = []

    def counting(dataset: lance.LanceDataset, rows: pa.Table) -> list[Any]:
        written.append(rows.num_rows)
        return write(dataset, rows)

    monkeypatch.setattr(upsert_module, "write", counting)
    return written


def before_publishing(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> None:
    """Run the actions one by one, each just before an attempt is published."""
    due = list(actions)

    def first_the_other(*arguments: Any) -> Any:
        if due:
            due.pop(0)()
        return publish(*arguments)

    monkeypatch.setattr(upsert_module, "publish", first_the_other)


def test_a_refused_file_is_offered_again_where_nobody_has_its_keys(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, files: list[int]
) -> None:
    def other(name: str) -> Callable[[], object]:
        return lambda: put(filled, row(name))(filled.dataset("clips"))

    before_publishing(monkeypatch, other("m1"), other("m2"))
    assert upserting(filled, row("n1"), row("n2")).run() == 2
    assert files == [2, 1, 1], "one of ours, then the others'"
    assert {"n1", "n2", "m1", "m2"} <= set(ids(filled)) and len(ids(filled)) == ROWS + 4


def test_a_key_that_another_has_inserted_meanwhile_is_united(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    before_publishing(monkeypatch, lambda: put(filled, row("n1", caption="theirs "))(filled.dataset("clips")))
    upserting(filled, row("n1", caption="ours"), row("n2")).run()
    found = {one["clip_id"]: one["caption"] for one in filled.query().to_table().to_pylist()}
    assert found["n1"] == "theirs ours" and len(found) == ROWS + 2 == len(ids(filled))


def test_a_row_that_is_deleted_meanwhile_does_not_come_back(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of it is gone: the file that unites it may not be offered again."""
    upserting(filled, row("k11", caption="old ")).run()
    before_publishing(monkeypatch, lambda: filled.dataset("clips").delete("clip_id = 'k11'"))
    upserting(filled, row("k11", caption="new")).run()
    found = {one["clip_id"]: one["caption"] for one in filled.query().to_table().to_pylist()}
    assert found["k11"] == "new" and len(ids(filled)) == ROWS


def test_a_lost_reply_leaves_no_second_row(filled: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[bool] = []

    def once(*arguments: Any) -> Any:
        new = publish(*arguments)
        if not lost:
            lost.append(True)
            raise OSError("LanceError(IO): Generic S3 error: connection reset")
        return new

    monkeypatch.setattr(upsert_module, "publish", once)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert upserting(filled, row("n1", 7.0), row("k01", 7.0)).run() == 2
    found = {one["clip_id"]: one["fps"] for one in filled.query().to_table().to_pylist()}
    assert found["n1"] == found["k01"] == 7.0 and len(ids(filled)) == ROWS + 1 == len(found)


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.sets(st.integers(0, 7), min_size=1, max_size=3),
            st.sampled_from(["look", "join", "compact", "delete"]),
        ),
    ),
    min_size=4,
    max_size=14,
)
"""Of one of three writers: the keys that it upserts by the version it last saw, or something else that happens."""


@settings(max_examples=20, deadline=None)
@given(OPERATIONS)
def test_any_interleaving_leaves_one_row_a_key_and_every_word(operations: list[tuple[int, Any]]) -> None:
    """Writers with stale views: what Lance takes of theirs is what would have come one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        pyramid = Pyramid.create(f"{folder}/p", TIERS, "test")
        views = [pyramid.dataset("clips")] * 3
        expected: dict[str, list[str]] = {}
        for step, (writer, what) in enumerate(operations):
            if isinstance(what, set):
                rows = [row(key(number), caption=f"[{step}]") for number in sorted(what)]
                if attempted(put(pyramid, *rows), views[writer]):
                    for one in rows:
                        expected.setdefault(one["clip_id"], []).append(f"[{step}]")
            elif what == "join" and len(numbers(views[writer])) > 1:
                attempted(joined_tail, views[writer])
            elif what == "compact":
                attempted(lambda dataset: dataset.optimize.compact_files(), views[writer])
            elif what == "delete":
                gone = views[writer].delete("clip_id = 'k00'")["num_deleted_rows"]
                if gone or "k00" not in ids(pyramid):
                    expected.pop("k00", None)
            views[writer] = pyramid.dataset("clips")
        found = pyramid.dataset("clips").to_table(columns=["clip_id", "caption"]).to_pylist()
        assert len(found) == len({one["clip_id"] for one in found})
        assert {one["clip_id"]: one["caption"] for one in found} == {
            name: "".join(words) for name, words in expected.items()
        }


def attempted(action: Action, dataset: lance.LanceDataset) -> bool:
    try:
        action(dataset)
    except (OSError, RuntimeError, ValueError) as error:
        if not is_conflict(error):
            raise
        return False
    return True


def test_a_commit_reads_pages_of_an_index_and_not_the_keys_of_all_clips(pyramid: Pyramid) -> None:
    rows = 60_000
    names = pa.array([f"{number:032x}" for number in range(0, 2 * rows, 2)])
    table = pa.table([names, *(pa.nulls(rows, field.type) for field in list(CLIPS)[1:])], schema=CLIPS)
    pyramid.dataset("clips").insert(table)
    indexes.create(pyramid, "clips", ["clip_id"])
    fresh = Pyramid.open(pyramid.uri)  # a session with nothing in its memory
    dataset = fresh.dataset("clips")
    new = [f"{number:032x}" for number in range(rows + 1, rows + 41, 2)]
    upsert = Upsert(fresh, "clips", new, lambda _: full(*(row(name) for name in new)))
    assert upsert.offer(dataset).inserts
    assert 0 < dataset.io_stats_incremental().read_bytes < names.nbytes / 5
