"""The same job on a two-node cluster, one node of which dies without warning while it works. In a process of its own,
see `tests.support.apart`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from curation.inputs.sources import list_sources
from curation.pyramid.store import Pyramid
from pipelines.config.recipe import load
from pipelines.config.sections import ShotsSection
from pipelines.curate import curate
from pipelines.doctor import checks
from pipelines.execution.results.account import Account
from tests.support import jobs, without_ray
from tests.support.apart import apart
from tests.support.watch import Silent


@contextmanager
def two_nodes() -> Iterator[Any]:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # cluster_utils starts its nodes without a token
    os.environ["PYTHONPATH"] = str(jobs.ROOT)
    os.environ.update(RAY_worker_niceness="0")  # at Ray's 15 they would hardly run beside other tests
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 << 20})
    made.add_node(num_cpus=1, object_store_memory=200 << 20)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_a_node_is_lost_and_the_table_is_the_same(tmp_path: Path) -> None:
    videos, recipe = jobs.corpus(tmp_path / "videos"), jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    without_ray.curate(videos, tmp_path / "alone", recipe)
    assert apart(curate_and_lose_a_node, videos, tmp_path / "p", recipe), "no node was lost"
    assert jobs.rows(tmp_path / "p") == jobs.rows(tmp_path / "alone")


def curate_and_lose_a_node(videos: Path, to: Path, written: str) -> bool:
    from pipelines.execution.cluster import joined

    recipe = load(written)
    pyramid = Pyramid.create(to, recipe.pyramid_tiers, recipe.name)
    account = Account()
    with two_nodes() as cluster, joined(cluster.address) as resources:
        assert (resources.nodes, resources.cpus) == (2, 2.0)
        checks.of_nodes(checks.of_machine, recipe)
        wrong = recipe.model_copy(update={"shots": ShotsSection.model_construct(options={"treshold": 3.0})})
        with pytest.raises(UserError, match=r"node .*treshold"):
            checks.of_nodes(checks.of_machine, wrong)
        watch = Silent()
        killer = threading.Thread(target=_lose_a_node, args=(cluster, account, watch), daemon=True)
        killer.start()
        curate(list_sources([str(videos)]), pyramid, recipe, resources, watch, account)
        killer.join()
    return watch.lost


@pytest.mark.slow
def test_two_runs_of_one_cluster_do_each_video_and_each_clip_once(tmp_path: Path) -> None:
    videos, recipe = jobs.corpus(tmp_path / "videos"), jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    without_ray.curate(videos, tmp_path / "alone", recipe)
    Pyramid.create(tmp_path / "p", load(recipe).pyramid_tiers, load(recipe).name)
    runs = apart(two_runs, videos, tmp_path / "p", recipe)
    alone = jobs.rows(tmp_path / "alone")
    assert jobs.rows(tmp_path / "p") == alone
    for what, rows in zip(("done", "clips", "cut"), alone, strict=True):
        assert sum(run[what] for run in runs) == len(rows), runs
    assert [run["inputs"] for run in runs] == [len(jobs.LENGTHS)] * 2, "each accounts for all of its inputs"


def two_runs(videos: Path, to: Path, recipe: str) -> list[dict[str, Any]]:
    """What each of two runs has done that start together."""
    with two_nodes() as cluster:
        cluster.add_node(num_cpus=4, object_store_memory=200 << 20)
        command = ("curate", str(videos), "--to", str(to), "--recipe", recipe, "--address", cluster.address, "--json")
        started = [jobs.start(*command, RAY_AUTH_MODE="disabled") for _ in range(2)]
        ended = [jobs.finish(process) for process in started]
    assert [run.code for run in ended] == [0, 0], ended
    return [run.summary for run in ended]


def _lose_a_node(cluster: Any, account: Account, watch: Silent) -> None:
    while account.finished < 1:
        time.sleep(0.05)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    watch.lost = True
