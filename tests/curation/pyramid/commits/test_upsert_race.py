"""P1, P2, P5 and P8 of `clips`: racing writers, kill -9, upkeep and a reader at once, from an empty pyramid."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.store import Pyramid
from tests.curation.pyramid import race

SPAWN = multiprocessing.get_context("spawn")


def fire(pyramid: Pyramid, folder: Path, writers: int, kills: int, keys: int, pause: float) -> None:
    """Race until so many writers have been killed; then nothing may be lost, twice or hidden."""
    rng, until = random.Random(kills), time.time() + 600
    logs = [folder / f"log{number}" for number in range(writers)]
    stop = SPAWN.Process(target=race.keep_up, args=(pyramid.uri, until))
    stop.start()
    live = [started(pyramid, number, until, logs, number, keys) for number in range(writers)]
    for kill in range(kills):
        before = pyramid.dataset("clips").version
        while pyramid.dataset("clips").version < before + 3:  # however slow the machine is, something was written
            time.sleep(0.05)
        assert not twice(pyramid)
        time.sleep(rng.uniform(0, pause))
        victim = rng.choice([number for number, child in enumerate(live) if child.is_alive()])
        live[victim].kill()
        live[victim].join()
        assert live[victim].exitcode == -signal.SIGKILL
        if kill < kills - 1:
            live[victim] = started(pyramid, victim, until, logs, 1000 + kill, keys)
    for process in [*live, stop]:
        process.kill()
        process.join()
    assert race.lost(pyramid, logs) == []
    upkeep(pyramid, idle=True)
    assert race.lost(pyramid, logs) == []


def started(pyramid: Pyramid, number: int, until: float, logs: list[Path], seed: int, keys: int) -> BaseProcess:
    logs[number].touch()  # the child may be killed before it has written a line
    child = SPAWN.Process(target=race.write, args=(pyramid.uri, number, until, str(logs[number]), seed, keys))
    child.start()
    return child


def twice(pyramid: Pyramid) -> bool:
    ids = pyramid.dataset("clips").to_table(columns=["clip_id"])["clip_id"]
    return len(ids) != len(ids.unique())


def test_racing_writers_that_are_killed_lose_nothing_and_write_nothing_twice(pyramid: Pyramid, tmp_path: Path) -> None:
    fire(pyramid, tmp_path, writers=3, kills=6, keys=400, pause=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [150, 6000])
def test_soak_of_racing_writers(pyramid: Pyramid, tmp_path: Path, keys: int) -> None:
    fire(pyramid, tmp_path, writers=4, kills=40, keys=keys, pause=1.5)
