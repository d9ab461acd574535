"""How long a run on Ray waits for what, and where Ray Train reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `poll`: between two looks at the workers. `health`: a worker that does not answer Ray for so long is
    dead. `start`: for workers to start, after which fewer are tried where that is allowed, at most `starts` times.
    `shutdown`: for a lost group to end by itself; a stopped process never does. `group`: of a collective. `resize`:
    between two looks for more room. `silence`: a rank that does not move for so long, while others wait for it, is
    lost; Ray sees nothing of that. `aside`: the same while it validates or waits for a save.
    """

    poll: float = 1.0
    health: float = 60.0
    start: float = 60.0
    starts: int = 10
    shutdown: int = 5
    group: int = 1800
    resize: float = 60.0
    silence: float = 300.0
    aside: float = 3600.0

    @property
    def driver(self) -> Mapping[str, str]:
        """Environment variables that Ray Train reads in the driver and hands on."""
        return {
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(self.poll),
            "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(self.health),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(self.start),
            "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
            "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a job's paths count from the driver's folder
        }

    @property
    def job(self) -> Mapping[str, str]:
        """What Ray Train hands on to nobody, and its controller reads: for the runtime environment of the whole job."""
        return {"TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": str(self.shutdown)}

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The driver's variables, in this block."""
        before = {name: os.environ.get(name) for name in self.driver}
        os.environ.update(self.driver)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
