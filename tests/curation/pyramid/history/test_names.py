from __future__ import annotations

import json
import random
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.contract import Source
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import names as names_module
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.history.names import FOLDER, INDEX, Names
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.files import Files
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, videos

PLAN = "p"


def row(number: int, **other: Any) -> dict[str, Any]:
    base = {"video_id": f"v{number}", "uris": [f"/in/{number}"], "modified": [5.0], "bytes": number}
    return base | {"status": "done", "fingerprint": PLAN, "clips": 0, "reason": None} | other


def source(number: int, modified: float = 5.0) -> Source:
    return Source(f"/in/{number}", number, modified)


def commit(pyramid: Pyramid, *rows: dict[str, Any]) -> None:
    Committer(pyramid).commit(Batch(videos=videos(*rows)))


def settled(pyramid: Pyramid, count: int, plan: str = PLAN, retry: bool = False, modified: float = 5.0) -> set[int]:
    """The numbers of the sources that a start finds settled; twice, for the file is there the second time."""
    sources = [source(number, modified) for number in range(count)]
    found = [
        {one.bytes for one in Ledger(pyramid, remember).settled(sources, plan, retry)} for remember in (True, False)
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row goes into the file, not only thousands."""
    monkeypatch.setattr(names_module, "FEW", 0)


def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of `videos` are read from now on, in each look."""
    read: list[int] = []
    rows = names_module._rows

    def counting(dataset: Any, fragments: list[Any]) -> Any:
        found = list(rows(dataset, fragments))
        read.append(len(found))
        return found

    monkeypatch.setattr(names_module, "_rows", counting)
    return read


def test_a_start_reads_the_rows_written_since_and_no_others(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pyramid, *(row(number) for number in range(100)))
    assert settled(pyramid, 110) == set(range(100))
    read = read_rows(monkeypatch)
    assert settled(pyramid, 110) == set(range(100))
    commit(pyramid, *(row(number) for number in range(100, 105)))
    assert settled(pyramid, 110) == set(range(105))
    assert read == [0, 0, 5, 0]
    monkeypatch.setattr(names_module, "FEW", 5)
    commit(pyramid, *(row(number) for number in range(105, 110)))
    assert settled(pyramid, 110) == set(range(110))
    assert read == [0, 0, 5, 0, 5, 5], "so short a tail is read each time"


def test_what_the_tail_says_of_a_video_counts(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    assert settled(pyramid, 20) == set(range(20))
    commit(pyramid, row(3, fingerprint="q"), row(4, fingerprint=None), row(5, uris=["/other"], modified=[1.0]))
    assert settled(pyramid, 20) == set(range(20)) - {3, 4}
    assert settled(pyramid, 20, plan="q") == {3}
    assert Ledger(pyramid).settled([Source("/other", 5, 1.0), Source("/other", 5, 2.0)], PLAN) == {
        Source("/other", 5, 1.0)
    }


def test_the_kinds_of_failures(pyramid: Pyramid) -> None:
    rows = [
        row(0, status="quarantined", reason="timed_out"),
        row(1, status="quarantined", reason="worker_lost"),
        row(2, status="rejected", reason="low_fps"),
        row(3),
    ]
    commit(pyramid, *rows)
    for _ in range(2):
        assert settled(pyramid, 5) == {0, 2, 3}
        assert settled(pyramid, 5, retry=True) == {2, 3}
        assert settled(pyramid, 5, modified=0.0) == {0, 2, 3}
        assert settled(pyramid, 5, modified=6.0) == set()


def test_a_row_that_is_deleted_is_settled_no_more(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    assert settled(pyramid, 20) == set(range(20))
    pyramid.dataset("videos").delete("video_id = 'v7'")
    read = read_rows(monkeypatch)
    assert settled(pyramid, 20) == set(range(20)) - {7}
    assert read == [0, 19, 0], "everything is read, once, and the file is right again"


def test_a_version_that_is_restored_is_read_again(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    before = pyramid.dataset("videos").version
    commit(pyramid, row(3, fingerprint="q"))
    assert settled(pyramid, 20, plan="q") == {3}
    pyramid.dataset("videos", before).restore()
    assert settled(pyramid, 20, plan="q") == set() and settled(pyramid, 20) == set(range(20))


def test_an_index_that_lies_does_not_come_true_again(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    before = pyramid.dataset("videos").version
    commit(pyramid, row(3, fingerprint="q"))
    assert settled(pyramid, 20, plan="q") == {3}
    pyramid.dataset("videos", before).restore()
    monkeypatch.setattr(names_module, "FEW", 256)
    assert settled(pyramid, 20, plan="q") == set()
    commit(pyramid, row(4, fingerprint="q"))
    assert settled(pyramid, 20, plan="q") == {4}, "as many rows are deleted as when 3 was the one"


def test_an_index_of_the_shape_before_is_none(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    assert settled(pyramid, 20) == set(range(20))
    path = Path(pyramid.uri, INDEX)
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"fragments": list(index["fragments"])}))
    assert Names(pyramid)._kept.parts == {}
    assert settled(pyramid, 25) == set(range(20)) and Names(pyramid)._kept.parts


def test_an_index_by_other_reasons_to_try_again_is_none(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade whose `failures` tries videos again that an older one did not."""
    commit(pyramid, row(0), row(1, status="quarantined", reason="broken"))
    assert settled(pyramid, 2) == {0, 1}
    monkeypatch.setattr(names_module, "_AGAIN", names_module._AGAIN | {"broken"})
    assert settled(pyramid, 2) == {0}


def test_an_upkeep_changes_nothing_and_makes_the_file(pyramid: Pyramid) -> None:
    for number in range(12):
        commit(pyramid, row(number))
    upkeep(pyramid)
    assert Path(pyramid.uri, INDEX).exists() and settled(pyramid, 20) == set(range(12))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_again(pyramid: Pyramid, damage: bytes | None) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    assert settled(pyramid, 20) == set(range(20))
    for path in Path(pyramid.uri, FOLDER).iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:-8] if damage is None else damage)
        assert settled(pyramid, 25) == set(range(20))


def test_a_file_that_is_gone_is_made_again(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    settled(pyramid, 20)
    for path in Path(pyramid.uri, FOLDER).glob("*.bin"):
        path.unlink()
    assert settled(pyramid, 25) == set(range(20))


def files(pyramid: Pyramid) -> set[str]:
    return {path.name for path in Path(pyramid.uri, FOLDER).glob("*.bin")}


def in_use(pyramid: Pyramid) -> set[str]:
    return {Path(name).name for name in json.loads(Path(pyramid.uri, INDEX).read_text())["files"]}


def test_the_files_of_an_index_that_is_not_true_are_removed(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    for number in range(3):
        assert settled(pyramid, 20) == set(range(number, 20))
        pyramid.dataset("videos").delete(f"video_id = 'v{number}'")
    assert settled(pyramid, 20) == set(range(3, 20))
    assert files(pyramid) == in_use(pyramid) and len(files(pyramid)) == 1


def test_files_that_no_index_names_go_with_an_upkeep(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    starts = [Names(pyramid) for _ in range(3)]
    for start in starts:
        start.keep(pyramid)
    assert len(files(pyramid)) == 3 and len(in_use(pyramid)) == 1
    upkeep(pyramid)
    assert len(files(pyramid)) == 3, "they are young"
    upkeep(pyramid, settle=timedelta(0))
    assert files(pyramid) == in_use(pyramid) and len(files(pyramid)) == 1
    assert settled(pyramid, 25) == set(range(20)) and Names(pyramid)._kept.parts


def test_a_file_that_an_index_is_about_to_name_stays(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upkeep comes between the file and its index."""
    commit(pyramid, *(row(number) for number in range(20)))
    write = Files.write
    between: list[set[str]] = []

    def late(self: Files, name: str, content: bytes, durable: bool = True) -> None:
        if name == INDEX and not between:
            between.append(files(pyramid))
            names_module.tidy(pyramid, timedelta(hours=1))
        write(self, name, content, durable)

    monkeypatch.setattr(Files, "write", late)
    assert settled(pyramid, 20) == set(range(20))
    (made,) = between
    assert made == files(pyramid) == in_use(pyramid) and len(made) == 1 and Names(pyramid)._kept.parts


def test_a_file_of_an_older_version_counts_as_old(pyramid: Pyramid) -> None:
    commit(pyramid, *(row(number) for number in range(20)))
    assert settled(pyramid, 20) == set(range(20))
    used = in_use(pyramid)
    for name in ("0" * 32, "x-y"):
        Path(pyramid.uri, FOLDER, f"{name}.bin").write_bytes(b"")
    names_module.tidy(pyramid, timedelta(hours=1))
    assert files(pyramid) == used
    Path(pyramid.uri, INDEX).write_bytes(b"{")
    names_module.tidy(pyramid, timedelta(0))
    assert files(pyramid) == set(), "a damaged index names none"


def test_there_are_few_files_however_many_starts_there_were(pyramid: Pyramid) -> None:
    for number in range(0, 120, 3):
        commit(pyramid, *(row(one) for one in range(number, number + 3)), row(number // 2, fingerprint="q"))
        Ledger(pyramid, remember=True).settled([], PLAN)
        assert len(list(Path(pyramid.uri, FOLDER).glob("*.bin"))) <= 4
    rows = pyramid.dataset("videos").to_table(columns=["bytes", "fingerprint"]).to_pylist()
    assert settled(pyramid, 130) == {one["bytes"] for one in rows if one["fingerprint"] == PLAN}
    assert settled(pyramid, 130, plan="q") == {one["bytes"] for one in rows if one["fingerprint"] == "q"}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_it_is_what_reading_all_rows_would_say(seed: int) -> None:
    """Through commits, deletions, merges of fragments, restored versions and starts in any order."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        pyramid = Pyramid.create(f"{folder}/p", TIERS, "test")
        for _ in range(8):
            what = rng.choice(["commit", "commit", "commit", "delete", "compact", "start", "restore"])
            if what == "commit":
                some = rng.sample(range(30), rng.randrange(1, 8))
                commit(pyramid, *(row(number, fingerprint=rng.choice([PLAN, "q", None])) for number in some))
            elif what == "delete":
                pyramid.dataset("videos").delete(f"video_id = 'v{rng.randrange(30)}'")
            elif what == "compact":
                pyramid.dataset("videos").optimize.compact_files()
            elif what == "restore":  # and a start, as a run begins with one
                latest = pyramid.dataset("videos").version
                pyramid.dataset("videos", max(1, latest - rng.randrange(3))).restore()
                Ledger(pyramid, remember=True).settled([], PLAN)
            else:
                Ledger(pyramid, remember=True).settled([], PLAN)
        there = pyramid.dataset("videos").to_table(columns=["bytes", "fingerprint"]).to_pylist()
        for plan in (PLAN, "q"):
            expected = {one["bytes"] for one in there if one["fingerprint"] == plan}
            assert settled(pyramid, 30, plan) == expected
        assert len(Names(pyramid)._tail.videos) == 0, "the start just before has made a file of it"
