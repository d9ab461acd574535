"""The column `clips.tier` and the tiers in `pyramid.json` agree whenever no command is at work, kills included."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.upsert import Upsert
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering import retier as retier_module
from curation.pyramid.tiering.retier import opened, retier
from curation.pyramid.tiering.tiers import Range, Tiers
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video

MOVED = TIERS.moved("low", "motion", Range(2.0))


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    for name in ("v1", "v2"):
        Committer(pyramid).commit(whole_video(pyramid, name, 4))
    return pyramid


def agrees(pyramid: Pyramid) -> bool:
    """Whether every row's tier is the strictest one that admits it."""
    now = Pyramid.open(pyramid.uri)
    table = now.dataset("clips").to_table()
    rows = [row | {"duration_s": row["frames"] / row["fps"]} for row in table.to_pylist()]
    assert rows
    return all(row["tier"] == now.tiers.highest(row) for row in rows)


def test_moving_and_moving_back(filled: Pyramid) -> None:
    assert agrees(filled)
    moved = filled.with_tiers(MOVED)
    assert moved.about.retiering and not agrees(filled)
    assert retier(moved) == 2
    assert agrees(filled) and not Pyramid.open(filled.uri).about.retiering
    (one,) = Pyramid.open(filled.uri).about.moved
    assert (one.tier, one.column, one.before, one.now) == ("low", "motion", Range(1.0), Range(2.0))
    retier(opened(filled.uri).with_tiers(TIERS))
    assert agrees(filled) and Pyramid.open(filled.uri).about.moved == ()


def die_between(uri: str, after: int) -> None:
    """Child: kill -9 itself in a move, after `after` of its commits (0: before the first)."""
    done = 0

    def rejudge(pyramid: Pyramid, some: list[str]) -> None:
        nonlocal done
        if done == after:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        real(pyramid, some)

    real, retier_module.rejudge = retier_module.rejudge, rejudge
    retier_module._COMMIT_ROWS = 1
    retier(Pyramid.open(uri).with_tiers(MOVED))


@pytest.mark.parametrize("after", [0, 1])
def test_a_move_that_is_killed_is_finished_by_the_next_command(filled: Pyramid, after: int) -> None:
    child = multiprocessing.get_context("spawn").Process(target=die_between, args=(filled.uri, after))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = Pyramid.open(filled.uri)
    assert left.tiers == MOVED and left.about.retiering and not agrees(filled)
    assert not opened(filled.uri).about.retiering
    assert agrees(filled)


def test_where_the_column_cannot_be_written_a_warning_says_so(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled.with_tiers(MOVED)

    def refused(*_: Any) -> int:
        raise UserError("the file system is read-only", "mount it for writing")

    monkeypatch.setattr(retier_module, "retier", refused)
    assert opened(filled.uri).about.retiering
    assert "behind its tiers" in caplog.text


def test_a_run_that_has_read_the_old_tiers_writes_none_of_them(
    filled: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold moves while a run commits: before its rows are judged, or between that and its commit."""
    old = Pyramid.open(filled.uri)
    retier(filled.with_tiers(MOVED))
    Committer(old).commit(whole_video(old, "v3", 4))
    assert agrees(filled)

    moved_once, write = False, Upsert.run

    def run(upsert: Upsert) -> int:
        nonlocal moved_once
        if not moved_once:
            moved_once = True
            retier(Pyramid.open(filled.uri).with_tiers(TIERS))  # and looks at all clips before these are there
        return write(upsert)

    monkeypatch.setattr(Upsert, "run", run)
    Committer(old).commit(whole_video(old, "v4", 4))
    assert moved_once and agrees(filled)


def test_a_score_that_arrives_is_judged_by_the_tiers_in_force(filled: Pyramid) -> None:
    old = Pyramid.open(filled.uri)
    retier(filled.with_tiers(MOVED))
    ids = clip_ids("v1", 4)
    Committer(old).commit(Batch(clip_updates=[clips({"clip_id": ids[1], "motion": 1.5, "motion_by": "m"})]))
    assert agrees(filled)


def test_two_moves_at_once_lose_neither(filled: Pyramid) -> None:
    """Each reads what is in force when it writes, not when it was opened."""
    stale = Pyramid.open(filled.uri)
    filled.with_recipe("other", "name = 'other'\n", MOVED)
    after = stale.with_tiers(stale.tiers.moved("mid", "sharpness", Range(30.0)))
    assert after.about.recipe == "other" and after.about.recipe_version == 1
    assert Tiers.from_data(after.tiers.to_data()) == after.tiers
