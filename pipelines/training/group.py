"""A group of workers as Ray Train runs it: started, watched, started again after a loss, made smaller or larger.

    Group.run -> TorchTrainer.fit -> worker.work in each process -> Trained

Ray Train has the restart budget and the elastic range. What no restart can put right (`UserError`, of which `Faulty` is
one) ends it: its controller asks `Causes` after every loss, and an error that comes out of there is not retried.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from curation.errors import UserError
from pipelines.train import Trained
from pipelines.training.monitor import Lost
from pipelines.training.timeouts import Timeouts
from pipelines.training.worker import work

STORAGE = ".ray"
"""In the run's folder: Ray Train leaves a marker there, and no checkpoint."""
_NODE = "ray.io/node-id"
_COLLATERAL = ("connection", "gloo", "nccl", "peer", "timed out", "socket")


@dataclass(frozen=True, slots=True)
class Crew:
    """Who computes. `workers`: processes, a GPU each where there are GPUs; `least`: with how many it goes on when there
    is no room for more; `restarts`: how often a lost group is started again; `cpus`: of each worker."""

    workers: int
    least: int
    restarts: int
    gpu: bool
    cpus: int

    @property
    def resources(self) -> Mapping[str, float]:
        return {"CPU": self.cpus, **({"GPU": 1} if self.gpu else {})}


@dataclass(frozen=True, slots=True)
class Group:
    """`given`: of `worker.work`. `without`: nodes, by Ray's id, on which nothing is to run."""

    crew: Crew
    timeouts: Timeouts
    folder: Path
    given: Mapping[str, Any]
    without: Collection[str] = ()

    def run(self, restarts: int) -> Trained:
        """Until the run has ended, with so many restarts at most. UserError: of a worker, or the group is lost."""
        crew, timeouts = self.crew, self.timeouts
        storage = self.folder / STORAGE
        selector = {_NODE: f"!in({','.join(sorted(self.without))})"} if self.without else None
        trainer = TorchTrainer(
            work,
            train_loop_config=dict(self.given),
            torch_config=TorchConfig(
                backend="cpu:gloo,cuda:nccl" if crew.gpu else "gloo", timeout_s=int(timeouts.group)
            ),
            scaling_config=ScalingConfig(
                num_workers=crew.workers if crew.least == crew.workers else (crew.least, crew.workers),
                use_gpu=crew.gpu,
                resources_per_worker=dict(crew.resources),
                label_selector=selector,
                elastic_resize_monitor_interval_s=timeouts.resize,
            ),
            run_config=RunConfig(
                name=uuid.uuid4().hex[:8],
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=restarts, controller_failure_limit=timeouts.starts),
                callbacks=[Causes(self.given["monitor"])],
            ),
        )
        try:
            found = trainer.fit().return_value
        except ControllerError as error:
            if isinstance(error.controller_failure, FINAL):
                raise error.controller_failure from None
            raise UserError(
                f"no group of workers could be started ({_line(error.controller_failure)})",
                "see `ray status`; --min-workers goes on with fewer, the same command goes on where it stopped",
            ) from error
        except WorkerGroupError as error:
            rank = likeliest(error.worker_failures)
            last = f"rank {rank}: {told(error.worker_failures[rank])}"
            raise UserError(
                f"the workers were lost more often than there are restarts ({crew.restarts}), the last time: {last}",
                "--restarts allows more; the same command goes on where it stopped",
            ) from error
        else:
            assert isinstance(found, Trained), "rank 0 is never one of those that are left over"
            return found
        finally:
            shutil.rmtree(storage, ignore_errors=True)


FINAL = (UserError,)
"""Errors of a worker that no restart puts right."""


class Causes(UserCallback):
    """Tells the monitor why workers were lost, and ends the group where it would be lost again. It runs in Ray Train's
    controller."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, FINAL):
                raise error
        why = {rank: told(error) for rank, error in worker_exceptions.items()}
        self._monitor.lost.remote(Lost(why, likeliest(worker_exceptions)))


def told(error: BaseException) -> str:
    """Why a worker is lost, in one line."""
    failure = getattr(error, "health_check_failure", error)
    if isinstance(failure, RayActorError):
        return "its process or its node is gone"
    return _line(failure)


def likeliest(errors: Mapping[int, BaseException]) -> int:
    """The rank that has begun it, of several: one whose process is gone, then one that failed by itself, then those
    whose connections broke for it."""

    def order(item: tuple[int, BaseException]) -> tuple[int, int]:
        rank, error = item
        failure = getattr(error, "health_check_failure", error)
        text = str(failure).lower()
        collateral = any(word in text for word in _COLLATERAL)
        return (0 if isinstance(failure, RayActorError) else 2 if collateral else 1, rank)

    return min(errors.items(), key=order)[0]


def _line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
