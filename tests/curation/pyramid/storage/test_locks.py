"""Who writes and who is alone exclude each other, between threads as between processes, and nobody starves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.storage import locks
from curation.pyramid.storage.locks import alone, writing


def started(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_many_write_at_a_time_and_ask_again_within(tmp_path: Path) -> None:
    uri, met = str(tmp_path / "p"), threading.Barrier(3)

    def write() -> None:
        with writing(uri), writing(uri):
            met.wait(60)

    others = [started(write) for _ in range(2)]
    write()
    for other in others:
        other.join(60)
    with alone(uri), writing(uri):
        pass


def test_who_is_alone_waits_for_those_who_write_and_keeps_others_out(tmp_path: Path) -> None:
    uri, order = str(tmp_path), list[str]()
    inside, leave = threading.Event(), threading.Event()

    def write(name: str) -> None:
        with writing(uri):
            inside.set()
            leave.wait(60)
            order.append(name)

    def be_alone() -> None:
        with alone(uri):
            order.append("alone")

    first = started(lambda: write("before"))
    assert inside.wait(60)
    one = started(be_alone)
    one.join(0.2)  # it waits, and has closed the door by now
    second = started(lambda: write("after"))
    second.join(0.2)
    assert order == []
    leave.set()
    for thread in (first, one, second):
        thread.join(60)
    assert order == ["before", "alone", "after"]


def test_who_writes_for_ever_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.05)
    over = threading.Event()

    def write() -> None:
        with writing(str(tmp_path)):
            inside.set()
            over.wait(60)

    inside = threading.Event()
    other = started(write)
    assert inside.wait(60)
    with pytest.raises(UserError, match="somebody has been writing"), alone(str(tmp_path)):
        pass
    over.set()
    other.join(60)
    with alone(str(tmp_path)):
        pass


def test_an_object_store_has_no_locks() -> None:
    with alone("s3://bucket/p"), writing("s3://bucket/p"), alone("s3://bucket/p"):
        pass
