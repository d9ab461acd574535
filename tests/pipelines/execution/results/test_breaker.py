"""The circuit breaker: ten videos in a row with one fault stop a run, and leave no trace of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.contract import Reason, Source, Verdict
from curation.errors import UserError
from curation.pyramid.commits.journal import Journal
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from curation.rows import video_row
from pipelines.execution.ray_data import Delivery
from pipelines.execution.results.account import Account
from pipelines.execution.results.breaker import Breaker
from pipelines.execution.results.committer import ResultCommitter
from pipelines.stages.results import CutDone, MeasureDone, Result, SameContent, Scored, fault_of, why_of
from pipelines.stages.score import ClipsToScore, Unscored


def measured(number: int, verdict: Verdict | None) -> Delivery:
    return Delivery(MeasureDone(video_row(f"v{number}", Source(f"{number}.mp4", 1), "plan", "job", verdict=verdict)))


def internal(number: int, text: str = "ValueError: clip {} of '/videos/{}.mp4' is bad") -> Delivery:
    return measured(
        number, Verdict(Reason.INTERNAL, detail=f"Traceback:\n  File x\nmodule.{text.format(number, number)}")
    )


def test_a_fault_waits_until_the_stage_does_its_work_again() -> None:
    breaker = Breaker(3)
    first, second, good = internal(1), internal(2), measured(3, Verdict(Reason.TOO_SHORT, 1.0))
    assert breaker.admit(first) == breaker.admit(second) == []
    assert breaker.admit(good) == [first, second, good]
    assert breaker.admit(internal(4)) == breaker.admit(internal(5)) == []
    assert len(breaker.rest()) == 2, "at the end of a stage they are written down"


def test_so_many_of_one_cause_in_a_row_stop_the_run_with_that_cause() -> None:
    breaker = Breaker(3)
    breaker.admit(internal(1))
    breaker.admit(Delivery(SameContent("v", Source("a", 1), known=True)))
    breaker.admit(internal(2))
    with pytest.raises(UserError, match=r"3 videos in a row .*: internal_error: ValueError: clip 3 of .*; mend that"):
        breaker.admit(internal(3))


def test_several_causes_are_several_faults() -> None:
    breaker = Breaker(2)
    assert breaker.admit(internal(1)) == []
    assert len(breaker.admit(internal(2, "KeyError: 'x'"))) == 1
    assert len(breaker.admit(internal(3))) == 1


def test_clips_of_one_video_count_once_and_nothing_stops_at_zero() -> None:
    give_up = Unscored(("text_area",), "by-1")
    breaker = Breaker(2)
    for number in range(20):
        assert not breaker.admit(Delivery(give_up(ClipsToScore((f"c{number}",), ("v",)), Verdict(Reason.INTERNAL))))
    never = Breaker(0)
    assert [never.admit(internal(number)) for number in range(50)] == [[]] * 50


ONE_ID = pa.table({"clip_id": ["c"]})


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (measured(1, Verdict(Reason.WORKER_LOST, 3.0)).result, "worker_lost"),
        (measured(1, Verdict(Reason.CRASHED, 11.0)).result, None),
        (measured(1, None).result, None),
        (SameContent("v", Source("a", 1), known=True), None),
        (Scored(ONE_ID, 1), None),
        (CutDone(("a",), "t", {"b": "internal_error: x"}), None),
        (CutDone((), None, {"b": "broken: x"}), None),
        (CutDone((), None, {"b": "a.mp4 holds other bytes now"}), None),
        (CutDone((), None, {"b": "internal_error: Traceback\nx.Odd: no"}, video_id="v"), "internal_error: Odd: no"),
    ],
)
def test_what_is_a_fault_of_ours(result: Result, cause: str | None) -> None:
    found = fault_of(result)
    assert (found.cause if found else None) == cause


def test_a_reason_in_a_line_is_the_error_and_not_its_traceback() -> None:
    detail = 'Traceback:\n  File "a.py", line 3, in f\npipelines.stages.score.SampleError: v1.2 is: bad\n'
    assert why_of(Verdict(Reason.INTERNAL, detail=detail)) == "internal_error: SampleError: v1.2 is: bad"
    assert why_of(Verdict(Reason.WORKER_LOST, 3.0)) == "worker_lost"


class NoCoordinator:
    """The committer tells it what is settled."""

    release: NoCoordinator

    def __init__(self) -> None:
        self.release = self

    def remote(self, video_ids: list[str]) -> None:
        pass


def test_a_run_that_is_stopped_writes_nothing_of_the_cause(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    account = Account()

    def work() -> None:
        with ResultCommitter(pyramid, account, NoCoordinator(), Journal(pyramid.uri, "r"), 3) as committer:
            committer.put(measured(0, Verdict(Reason.TOO_SHORT, 1.0)))
            for number in range(1, 9):
                committer.put(internal(number))

    with pytest.raises(UserError, match="3 videos in a row"):
        work()
    assert pyramid.dataset("videos").to_table(columns=["video_id"])["video_id"].to_pylist() == ["v0"]
    assert account.quarantined == 0


def test_faults_that_stop_nothing_are_written_at_the_end(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    with ResultCommitter(pyramid, Account(), NoCoordinator(), Journal(pyramid.uri, "r"), 3) as committer:
        committer.put(internal(1))
        committer.put(internal(2))
    assert pyramid.dataset("videos").count_rows() == 2
