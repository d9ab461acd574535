"""What goes through a stage: each unit once, by a bounded set of reasons, over all windows of a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CLIPS
from pipelines.execution.results import flow as module
from pipelines.execution.results.account import BUDGET, Account
from pipelines.execution.results.flow import OTHER, Flow, Flows
from pipelines.stages.results import Captioned, CutDone, Embedded, Scored


def test_a_stage_that_comes_again_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    flows = Flows()
    for window in (4, 6):
        flows.begin("measure")
        flows.now.taken += window
        flows.now.pool(2, 0.125)
        now[0] += 5
        assert flows.to_data()["measure"]["workers"] == 2 and flows.to_data()["measure"]["gpus"] == 0.25
        flows.now.count(window - 1, ["too_short: 1 s"], 100)
        flows.end()
        now[0] += 100  # at other stages
        flows.begin("cut")
        flows.end()
    wanted = {"in": 10, "out": 8, "rejected": {"too_short": 2}, "queue": 0, "seconds": 10.0, "bytes": 200}
    assert flows.to_data() == {
        "measure": {**wanted, "workers": 0, "gpus": 0.0},
        "cut": {"in": 0, "out": 0, "rejected": {}, "queue": 0, "seconds": 0, "bytes": 0, "workers": 0, "gpus": 0.0},
    }


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("low_fps: 3", "low_fps"),
        ("filter off", "filter off"),
        ("/a/b.mp4 holds other bytes now", OTHER),
        ("x" * 100, OTHER),
        ("", OTHER),
    ],
)
def test_no_name_of_a_file_becomes_a_reason(why: str, reason: str) -> None:
    flow = Flow(taken=1)
    flow.count(0, [why])
    assert flow.to_data()["rejected"] == {reason: 1} and flow.to_data()["queue"] == 0


def _table(**columns: list[Any]) -> pa.Table:
    fields = [CLIPS.field(name) for name in columns]
    return pa.table(columns, schema=pa.schema(fields))


SCORED = _table(
    clip_id=["a", "b", "c"], motion=[1.0, None, None], motion_by=["x"] * 3, motion_why=[None, "image", None]
)
CAPTIONED = pa.table({"caption": ["a fox", None], "caption_why": [None, "refused: no"]})
VECTORS, NONE = pa.table({"vector": [1.0, 2.0]}), pa.table({"why": ["image"]})


@pytest.mark.parametrize(
    ("result", "units", "out", "rejected", "written"),
    [
        (Scored(SCORED, 3), 3, 1, {"image": 1, "no value": 1}, 0),
        (CutDone(("a", "b"), None, {"c": "low_fps: 1"}, bytes=77), 3, 2, {"low_fps": 1}, 77),
        (Captioned("dense", CAPTIONED), 2, 1, {"refused": 1}, 0),
        (Captioned("dense", left=5), 5, 0, {BUDGET: 5}, 0),
        (Embedded("s", 3, VECTORS, NONE), 3, 2, {"image": 1}, VECTORS.nbytes),
    ],
)
def test_every_unit_of_a_result_is_counted_once(
    result: Any, units: int, out: int, rejected: dict[str, int], written: int
) -> None:
    account = Account()
    account.flows.begin("stage")
    account.flows.now.taken = units
    account.add(result)
    found = account.flows.to_data()["stage"]
    assert (found["out"], found["rejected"], found["bytes"], found["queue"]) == (out, rejected, written, 0)
