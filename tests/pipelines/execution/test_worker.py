"""A worker of Ray's, without Ray: one stage however many items it has in hand, and an end where it is of no use."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import psutil

from pipelines.execution.coordinator import Coordinator
from pipelines.execution.ray_data import SPENT, StageSpec, _Worker
from pipelines.stages.base import Report
from tests.support import jobs, without_ray

_SPENT = """
import subprocess, sys
from curation.errors import WorkerSpentError
from pipelines.execution.coordinator import Coordinator
from pipelines.execution.ray_data import StageSpec, _Worker
from tests.support import without_ray

class Stage:
    def __call__(self, item, report):
        raise AssertionError("it is streamed")
    def stream(self, item, report):
        yield "a result"
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid, flush=True)
        raise WorkerSpentError("the engine is lost: CUDA error")

with without_ray.here():
    worker = _Worker(StageSpec("caption dense", Stage), without_ray.Here(Coordinator(3)), 3, None)
    for row in worker({"item": "x", "key": "k"}):
        print(row["item"], flush=True)
    print("it goes on")
"""


def test_a_worker_whose_engine_is_lost_ends_with_all_that_it_started() -> None:
    done = subprocess.run([sys.executable, "-c", _SPENT], cwd=jobs.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == SPENT, done.stderr
    result, child = done.stdout.split("\n")[:2]
    assert result == "a result" and "it goes on" not in done.stdout
    assert "stage caption dense: the engine is lost: CUDA error; its worker ends" in done.stderr
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE


def test_items_in_hand_side_by_side_share_one_stage() -> None:
    made: list[int] = []
    together = threading.Barrier(2, timeout=60)

    def make() -> Any:
        made.append(1)
        time.sleep(0.3)  # the other item comes meanwhile, and must not have a second one made

        def stage(item: str, report: Report) -> str:
            together.wait()  # neither goes on before both are here
            return item.upper()

        return stage

    with without_ray.here():
        worker = _Worker(StageSpec("caption dense", make, at_once=2), without_ray.Here(Coordinator(3)), 3, None)
        found: list[Any] = []

        def work(name: str) -> None:
            found.extend(row["item"] for row in worker({"item": name, "key": name}))

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert made == [1] and sorted(found) == ["A", "B"]
