"""The account of a run: every input is counted once, and a lost one is noticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from curation.contract import CLIPS, Reason, Source, Verdict
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer, joined
from curation.pyramid.commits.journal import FOLDER, Journal, recover
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from curation.rows import nameless_id, video_row
from pipelines.execution.cluster import Resources
from pipelines.execution.coordinator import Coordinator
from pipelines.execution.ray_data import Delivery, StageSpec, pool_size, run
from pipelines.execution.results.account import Account
from pipelines.execution.results.committer import ResultCommitter
from pipelines.stages.base import Claim
from pipelines.stages.results import CutDone, MeasureDone, SameContent, Scored, batch_of


def measured(verdict: Verdict | None) -> MeasureDone:
    return MeasureDone(video_row("v", Source("a.mp4", 1), "plan", "job", verdict=verdict))


def test_each_kind_of_outcome_is_counted() -> None:
    account = Account(inputs=5, settled_before=1)
    account.add(measured(None))
    account.add(measured(Verdict(Reason.TOO_SHORT, 1.0)))
    account.add(measured(Verdict(Reason.CRASHED, 11.0)))
    account.add(SameContent("v", Source("b.mp4", 1), known=True))
    account.check()
    assert (account.done, account.rejected, account.quarantined, account.same_content) == (1, 1, 1, 1)
    assert account.reasons == {"too_short": 1, "decoder_crashed": 1}
    silent = {"c": "decoder_crashed: of its sound"}
    account.add(CutDone(("c",), "ticket", {"d": "timed_out: cut"}, decoded=7, bytes=9, without_sound=silent))
    assert (account.cut, account.cut_failed, account.cut_bytes) == (1, {"timed_out": 1}, 9)
    assert account.cut_without_sound == {"decoder_crashed": 1}


def test_a_lost_input_is_noticed() -> None:
    account = Account(inputs=2)
    account.add(measured(None))
    with pytest.raises(AssertionError, match="2 inputs, but 1 outcomes"):
        account.check()


def test_a_claim_is_for_one_source_and_ends_after_its_attempts() -> None:
    coordinator = Coordinator(attempts=2)
    assert coordinator.claim("v", "a.mp4") == (Claim.GO, 1)
    assert coordinator.claim("v", "b.mp4") == (Claim.TAKEN, 1)
    assert coordinator.claim("v", "a.mp4") == (Claim.GO, 2), "its worker was lost"
    assert coordinator.claim("v", "a.mp4") == (Claim.EXHAUSTED, 2)
    coordinator.release(["v"])
    assert coordinator.claim("v", "b.mp4") == (Claim.GO, 1)


class FakeCoordinator:
    """What `ResultCommitter` tells the actor."""

    def __init__(self) -> None:
        self.released: list[str] = []
        self.release = self

    def remote(self, video_ids: list[str]) -> None:
        self.released += video_ids


def test_what_is_committed_is_forgotten_by_journal_and_coordinator(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    journal, coordinator, account = Journal(pyramid.uri, "run"), FakeCoordinator(), Account(inputs=1)
    result = measured(Verdict(Reason.TOO_SHORT, 1.0))
    batch = batch_of(result)
    assert batch is not None
    with ResultCommitter(pyramid, account, coordinator, journal) as committer:
        committer.put(Delivery(result, journal.keep(batch)))
    assert pyramid.dataset("videos").count_rows() == 1
    assert not list(Path(pyramid.uri, FOLDER).rglob("*.arrow"))
    assert coordinator.released == ["v"]
    assert (account.rejected, account.commits) == (1, 1)


@pytest.mark.parametrize(
    ("reasons", "not_cut", "why", "code"),
    [
        ({}, {}, [None, "filter off"], 0),
        ({"low_fps": 3, "decoder_crashed": 2, "timed_out": 1}, {"memory_limit": 1}, ["timed_out: slow"], 0),
        ({"unreadable": 1}, {}, [None], 1),
        ({"worker_lost": 1, "empty": 4}, {}, [None], 1),
        ({}, {"internal_error": 1}, [None], 1),
        ({}, {"/a/b.mp4 holds other bytes now": 2}, [None], 1),
        ({}, {}, ["internal_error: ValueError: no such shape"], 1),
    ],
)
def test_the_exit_code_is_0_only_where_nothing_was_lost(
    reasons: dict[str, int], not_cut: dict[str, int], why: list[str | None], code: int
) -> None:
    account = Account(reasons=Counter(reasons), cut_failed=Counter(not_cut))
    ids = [str(number) for number in range(len(why))]
    columns = {"clip_id": ids, "motion": [None] * len(why), "motion_by": [None] * len(why), "motion_why": why}
    fields = [CLIPS.field(name) for name in columns]
    account.add(Scored(pa.table(columns, schema=pa.schema(fields)), len(why)))
    assert account.exit_code == code
    assert bool(account.losses) == bool(code)


def test_a_further_name_waits_for_the_row_of_its_content(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    with ResultCommitter(pyramid, Account(), FakeCoordinator(), Journal(pyramid.uri, "run")) as committer:
        committer.put(Delivery(SameContent("v", Source("b.mp4", 1), known=False)))
        committer.put(Delivery(measured(Verdict(Reason.TOO_SHORT, 1.0))))
    (row,) = pyramid.dataset("videos").to_table(columns=["uris", "status"]).to_pylist()
    assert row == {"uris": ["a.mp4", "b.mp4"], "status": "rejected"}


def test_a_further_name_whose_content_never_lands_has_an_outcome_of_its_own(tmp_path: Path) -> None:
    """The worker that had claimed the content was lost, and its source ended under its name alone."""
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")

    def give_up(source: Source, verdict: Verdict) -> MeasureDone:
        return MeasureDone(video_row(nameless_id(source.uri), source, "plan", "job", verdict=verdict))

    account = Account(inputs=4)
    with ResultCommitter(pyramid, account, FakeCoordinator(), Journal(pyramid.uri, "run"), 0, give_up) as committer:
        committer.put(Delivery(SameContent("lost", Source("b.mp4", 1), known=False)))
        committer.put(Delivery(SameContent("lost", Source("c.mp4", 1), known=False)))
        committer.put(Delivery(SameContent("known", Source("d.mp4", 1), known=True)))
        committer.put(Delivery(give_up(Source("a.mp4", 1), Verdict(Reason.WORKER_LOST))))
    account.check()
    assert (account.same_content, account.exit_code, account.losses) == (1, 1, {"videos: worker_lost": 3})
    rows = pyramid.dataset("videos").to_table(columns=["uris", "reason"]).to_pylist()
    found = {uri: row["reason"] for row in rows for uri in row["uris"]}
    assert found == {"a.mp4": "worker_lost", "b.mp4": "worker_lost", "c.mp4": "worker_lost", "d.mp4": None}
    flow = account.flows.now
    assert (flow.out, flow.rejected, flow.taken) == (3, {"worker_lost": 3}, 2), "no count goes down"


def test_a_stage_that_is_stopped_settles_no_name_that_waits(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test")
    committer = ResultCommitter(pyramid, Account(), FakeCoordinator(), Journal(pyramid.uri, "run"))
    committer.__enter__()
    committer.put(Delivery(SameContent("v", Source("b.mp4", 1), known=False)))
    committer.__exit__(KeyboardInterrupt)
    assert pyramid.dataset("videos").count_rows() == 0


def test_a_worker_that_waits_is_at_no_post() -> None:
    coordinator = Coordinator(attempts=1)
    coordinator.beat("w", "measure", "a.mp4", 3)
    ((heartbeat, silent),) = coordinator.heartbeats()
    assert (heartbeat.stage, heartbeat.item, heartbeat.frames) == ("measure", "a.mp4", 3)
    assert silent >= 0
    coordinator.beat("w", "measure", "", 0)
    assert coordinator.heartbeats() == []


@pytest.mark.parametrize(
    ("cpus", "stages", "items", "workers"), [(2, 1, 9, 2), (1, 1, 9, 1), (16, 1, 9, 9), (16, 2, 99, 18)]
)
def test_a_pool_leaves_a_reserve(cpus: float, stages: int, items: int, workers: int) -> None:
    spec = StageSpec("measure", lambda: lambda item, report: item)
    found = pool_size(spec, stages, Resources(cpus, 0.0, 1), items)
    assert found == workers
    assert found == 1 or found * spec.cpus / stages < cpus, "Ray Data stands still when actors hold every processor"


TWO_NODES = Resources(16.0, 4.0, 2, ((8.0, 3.0), (8.0, 1.0)))


@pytest.mark.parametrize(("gpus", "workers"), [(1.0, 4), (2.0, 1), (0.5, 8), (0.4, 8), (3.0, 1)])
def test_a_worker_lies_on_one_node(gpus: float, workers: int) -> None:
    spec = StageSpec("caption", lambda: lambda item, report: item, gpus=gpus)
    assert pool_size(spec, 1, TWO_NODES, 99) == workers


@pytest.mark.parametrize(
    ("cpus", "gpus", "needs"), [(0.8, 4.0, "0.8 CPUs and 4 GPUs"), (9.0, 0.0, "9 CPUs"), (0.0, 4.0, "4 GPUs")]
)
def test_a_worker_that_no_node_has_room_for_is_a_line(cpus: float, gpus: float, needs: str) -> None:
    spec = StageSpec("caption", lambda: lambda item, report: item, cpus=cpus, gpus=gpus)
    with pytest.raises(UserError, match=f"a worker of stage caption needs {needs}, which no machine of 2 has"):
        next(run([1], [spec], None, TWO_NODES, str))


def test_scores_measured_again_are_committed_beside_what_is_new(tmp_path: Path) -> None:
    """In one batch, and out of the journal of a killed run."""
    pyramid = Pyramid.create(tmp_path / "p", Tiers((Tier("all"),)), "test")
    Committer(pyramid).commit(batch_of(measured(None)) or Batch())
    vain = measured(Verdict(Reason.CRASHED, 11.0))
    again = MeasureDone(measured(None).video | {"clips": 7}, refreshed=True)
    new = MeasureDone(video_row("w", Source("b.mp4", 1), "plan", "job"))
    for done in (vain, again, new):
        done.video["tried"] = "attempt" if done is vain else None
    parts = [batch for done in (vain, again, new) if (batch := batch_of(done)) is not None]
    for number, batches in enumerate((parts, [*reversed(parts[1:])])):
        journal = Journal(pyramid.uri, f"killed{number}")
        for batch in batches:
            journal.keep(batch)
        Committer(pyramid).commit(joined(batches))
        assert recover(pyramid) == len(batches)
    rows = {row["video_id"]: row for row in pyramid.dataset("videos").to_table().to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {"v": "done", "w": "done"}
    assert (rows["v"]["clips"], rows["v"]["tried"], rows["v"]["detail"]) == (0, None, None)
