"""A filter that fails, dies or is killed: its neighbours are scored, what it finished is kept, and nothing loops."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from curation.pyramid.commits import journal
from curation.pyramid.store import Pyramid
from pipelines.curate import SCORE_CLIPS
from pipelines.execution.attempts import HOLD_S
from tests.support import scoring
from tests.support.scoring import BY, Options

CLIPS = 64
"""Two items of the scoring stage: neighbours are in the same item and in the other one."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    scoring.pyramid(tmp_path / "p", CLIPS)
    return tmp_path / "p"


def missing(place: Path) -> dict[int, tuple[float | None, str | None, str | None]]:
    return {number: row for number, row in scoring.scores(place).items() if row != (float(number), BY, None)}


def test_a_filter_that_raises_costs_its_clip_only_until_the_next_run(place: Path) -> None:
    told = scoring.run(place, Options(poison=(3, 20, 63), ray=False))
    assert told == {"scored": {"text_area": CLIPS - 3}, "not_scored": {"text_area: internal_error": 3}}
    assert missing(place) == {
        number: (None, BY, f"internal_error: ValueError: clip {number} is odd") for number in (3, 20, 63)
    }
    assert scoring.run(place, Options(ray=False)) == {"scored": {"text_area": 3}, "not_scored": {}}
    assert missing(place) == {}


def test_a_filter_that_kills_its_process_costs_its_clip_only(place: Path) -> None:
    told = scoring.run(place, Options(deadly=(5,), attempts=2))
    assert told["scored"] == {"text_area": CLIPS - 1}
    assert missing(place) == {5: (None, BY, "worker_lost")}


def test_ten_in_a_row_stop_the_run_and_leave_no_trace_for_the_next_one(place: Path) -> None:
    told = scoring.run(place, Options(poison=tuple(range(CLIPS)), ray=False))
    assert "10 videos in a row failed for one cause: internal_error: ValueError: clip " in told["cause"]
    journal.recover(Pyramid.open(place))  # as the next run begins
    assert set(scoring.scores(place).values()) == {(None, None, None)}


def test_a_filter_that_cannot_start_stops_the_run_with_its_cause(place: Path) -> None:
    told = scoring.run(place, Options(broken=True))
    assert told["cause"] == "stage ocr cannot start: RuntimeError: a library is of another version"
    assert set(scoring.scores(place).values()) == {(None, None, None)}


def test_a_kill_in_a_long_scoring_stage_loses_seconds_of_it(place: Path, tmp_path: Path) -> None:
    log, sleep_s, one_item = tmp_path / "log", 1.0, 25
    options = Options(sleep_s=sleep_s, log=str(log), cpus=1)  # one worker, so that the first item is not done yet
    process = subprocess.Popen(scoring.command(place, options), cwd=scoring.ROOT)
    while process.poll() is None and not (log.exists() and log.stat().st_size >= one_item):
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [psutil.Process(process.pid), *family]:  # a machine that goes down takes the workers with it
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    measured = log.stat().st_size
    assert one_item <= measured < SCORE_CLIPS, "it was killed in the middle of an item"
    journal.recover(Pyramid.open(place))
    kept = CLIPS - len(missing(place))
    # A worker holds back what takes it HOLD_S, and each clip takes at least `sleep_s`.
    assert measured - kept <= HOLD_S / sleep_s
