"""P2, P5, P7: killed at any instant, a run leaves whole versions, no process, and a rerun ends in the same table."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from curation.contract import Status
from curation.pyramid.commits import journal
from curation.pyramid.store import Pyramid
from tests.support import jobs, without_ray

WORKERS = 2


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.corpus(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    without_ray.curate(videos, folder / "pyramid", jobs.recipe(folder, jobs.WITHOUT_TEXT))
    return folder / "pyramid"


def settled(pyramid: Path) -> int:
    return Pyramid.open(pyramid).dataset("videos").count_rows() if (pyramid / "pyramid.json").exists() else 0


def finished(pyramid: Path) -> int:
    """Videos whose measuring is finished: settled, or in the journal."""
    return settled(pyramid) + len(list((pyramid / journal.FOLDER).glob("*/*.arrow")))


def measured_and_lost(pyramid: Path) -> int:
    """Videos whose measuring was finished (their sample frames are on disk) and whose rows are not."""
    if not (pyramid / "pyramid.json").exists():
        return 0
    files = {path.name for path in (pyramid / "samples.lance" / "data").glob("*.lance")}
    known = {
        file.path
        for fragment in Pyramid.open(pyramid).dataset("samples").get_fragments()
        for file in fragment.data_files()
    }
    return len(files - known)


def recovered(pyramid: Path, copy: Path) -> int:
    """How many videos the next run will know, from the datasets and the journal; tried on a copy."""
    if not (pyramid / "pyramid.json").exists():
        return 0
    shutil.copytree(pyramid, copy)
    journal.recover(Pyramid.open(copy))
    return settled(copy)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_killed_at_a_random_instant_and_run_again(videos: Path, undisturbed: Path, tmp_path: Path, seed: int) -> None:
    pyramid, recipe = tmp_path / "pyramid", jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    wanted = random.Random(seed).randint(0, len(jobs.LENGTHS) - 1)
    arguments = ("curate", str(videos), "--to", str(pyramid), "--recipe", recipe, "--cpus", str(WORKERS), "--json")
    first = jobs.start(*arguments)
    while first.poll() is None and finished(pyramid) < wanted:
        _check_whole(pyramid)
        time.sleep(0.05)
    jobs.kill(first)
    _check_whole(pyramid)
    assert finished(pyramid) >= wanted - 1
    before = recovered(pyramid, tmp_path / "recovered")
    assert measured_and_lost(tmp_path / "recovered") <= WORKERS, "more than one video a worker is decoded again"

    again = jobs.curate(videos, pyramid, recipe)
    # A worker outlives its driver by a moment: it may keep the result it was at.
    assert before <= again.summary["settled_before"] <= before + WORKERS
    assert jobs.rows(pyramid) == jobs.rows(undisturbed)


def _check_whole(pyramid: Path) -> None:
    """P5: whoever reads at this instant finds the clips and sample frames of every done video."""
    if not (pyramid / "pyramid.json").exists():
        return
    opened = Pyramid.open(pyramid)
    at = opened.snapshot()
    videos = opened.dataset("videos", at["videos"]).to_table(columns=["video_id", "status", "clips"]).to_pylist()
    clips = opened.dataset("clips", at["clips"]).to_table(columns=["clip_id", "video_id"]).to_pylist()
    samples = set(opened.dataset("samples", at["samples"]).to_table(columns=["clip_id"])["clip_id"].to_pylist())
    for video in videos:
        mine = {clip["clip_id"] for clip in clips if clip["video_id"] == video["video_id"]}
        if video["status"] == Status.DONE:
            assert len(mine) == video["clips"]
            assert mine <= samples


def test_a_killed_worker_costs_nothing_but_time(videos: Path, undisturbed: Path, tmp_path: Path) -> None:
    pyramid, recipe = tmp_path / "pyramid", jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    process = jobs.start("curate", str(videos), "--to", str(pyramid), "--recipe", recipe, "--cpus", "2", "--json")
    victims = _wait_for_workers(process)
    os.kill(victims[0].pid, signal.SIGKILL)
    done = jobs.finish(process)
    assert done.code == 0, done.error
    assert done.summary["quarantined"] == 0
    assert jobs.rows(pyramid) == jobs.rows(undisturbed)


def test_a_driver_that_is_interrupted_leaves_no_process(videos: Path, tmp_path: Path) -> None:
    to = ("--to", str(tmp_path / "p"), "--recipe", jobs.recipe(tmp_path, jobs.WITHOUT_TEXT), "--cpus", "2", "--json")
    process = jobs.start("curate", str(videos), *to)
    workers = _wait_for_workers(process)
    family = [*psutil.Process(process.pid).children(recursive=True), *workers]
    process.send_signal(signal.SIGINT)
    finished = jobs.finish(process)
    assert finished.code == 130
    _, alive = psutil.wait_procs(family, timeout=120)
    assert not [p for p in alive if "curation.media.sandbox.child" in " ".join(p.cmdline()) or "MapWorker" in p.name()]
    assert len(finished.error.splitlines()) == 1, finished.error


def _wait_for_workers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers of a run whose decoder child is up, and not the one by which the run tries its set-up."""
    while driver.poll() is None:
        for process in psutil.process_iter(["cmdline"]):
            if "curation.media.sandbox.child" in (process.info["cmdline"] or []):
                with contextlib.suppress(psutil.Error):  # it may have ended since
                    worker = process.parent()
                    if worker is not None and _belongs(worker, driver.pid):
                        return [worker]
        time.sleep(0.05)
    raise AssertionError(f"no worker started to decode: {driver.communicate()[1]}")


def _belongs(worker: psutil.Process, driver: int) -> bool:
    return any(parent.pid == driver for parent in worker.parents())
