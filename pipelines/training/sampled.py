"""Videos of a run's checkpoints, made beside training by a task of Ray: `[samples]` of a preset.

    a checkpoint is whole -> [Samples.step] -> task: `pipelines.sampling.command.run` -> RUN/samples/step-N/

One task at a time: where it takes longer than training needs to the next checkpoint, the newest is sampled next, and
what was passed over is told. Training never waits for it but at the very end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from pipelines.encoding.stream import Refused, said
from pipelines.execution.cluster import Resources
from pipelines.sampling.samples_file import NAME
from pipelines.sampling.wish import OfRun, Wish

if TYPE_CHECKING:
    from pipelines.sampling.command import Made
    from pipelines.train import Trained, Watch
    from training.callbacks.base import Report
    from training.checkpoint.folder import Checkpoints
    from training.presets import SampleSettings
    from training.trainer import Progress

FOLDER = "samples"
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of which checkpoints. `gpus`, `cpus`: what the task takes."""

    wish: Wish
    every: int
    gpus: float
    cpus: int


def wish_of(settings: SampleSettings, model: str) -> Wish:
    """What a preset asks for, of a model file or the name of one that ships; the run is put in for each checkpoint."""
    return Wish(
        prompts=settings.prompts,
        model=str(Path(model).absolute()) if Path(model).is_file() else model,
        size=settings.size,
        frames=settings.frames,
        fps=settings.fps,
        motion=settings.motion,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=settings.seed,
    )


def check_room(gpus: float, others: int, there: Resources) -> None:
    """UserError: samples take a GPU beside those of `others`, and Ray has too few."""
    if gpus and others + 1 > there.gpus:
        told = f"{others} workers and encoders take a GPU each and samples one more, and Ray has {there.gpus:g}"
        raise UserError(told, "lower --workers, or leave samples to `ziggurat sample --run`: --set samples.every=0")


class Samples:
    """A `pipelines.train.Watch` that hands on, and sees to the samples between two steps. `stop`: whether training was
    asked to end. `missed`: steps whose samples failed."""

    def __init__(self, watch: Watch, checkpoints: Checkpoints, plan: Plan, stop: Callable[[], bool]) -> None:
        self._watch, self._checkpoints, self._plan, self._stop = watch, checkpoints, plan, stop
        self._run = checkpoints.folder.parent.absolute()
        self._begun, self._step = 0, 0
        self._task: Any = None
        self.missed: list[int] = []

    def note(self, text: str) -> None:
        self._watch.note(text)

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        self._watch.begin(progress, steps, validation, measure)
        last = progress.step - progress.step % self._plan.every
        made = Path(self._place(last), NAME).is_file()
        self._begun = max(self._begun, last if made else last - self._plan.every)

    def step(self, progress: Progress, report: Report) -> None:
        self._watch.step(progress, report)
        self._step = progress.step
        self._look()

    def finished(self, done: Trained) -> Trained:
        """Wait for what is under way and for the last checkpoint's; what was trained, with the steps that failed."""
        self._look()
        if self._task is not None and not self._stop():
            self.note(f"the samples of step {self._begun} are being made")
        while self._task is not None and not self._stop():
            _wait(self._task, LOOK_S)
            self._look()
        if self._task is not None:
            _cancel(self._task)
            self._failed("the run was asked to end")
        return replace(done, unsampled=tuple(self.missed))

    def _look(self) -> None:
        """Take what has been made, and begin the newest that is due."""
        if self._task is not None and _wait(self._task, 0):
            self._take()
        every = self._plan.every
        due = self._step - self._step % every
        if self._task is not None or due <= self._begun or not self._checkpoints.at(due).is_dir():
            return
        for passed in range(self._begun + every, due, every):
            self.note(f"step {passed} is not sampled: the samples before it took longer")
        self._begun = due
        wish = replace(self._plan.wish, run=OfRun(folder=self._run, step=due))
        self._task = _begun(wish, self._place(due), self._plan)

    def _place(self, step: int) -> str:
        return str(self._run / FOLDER / self._checkpoints.at(step).name)

    def _take(self) -> None:
        from ray.exceptions import RayError

        try:
            answer = _answer(self._task)
        except RayError as error:
            self._failed(said(error))
            return
        if isinstance(answer, Refused):
            self._failed(f"{answer.cause}; {answer.remedy}")
            return
        self._task = None
        self.note(f"samples of step {self._begun}: {answer}")

    def _failed(self, why: str) -> None:
        self._task = None
        self.missed.append(self._begun)
        self.note(f"step {self._begun} has no samples: {why}")


class _Unseen:
    """A `pipelines.sampling.command.Watch` of a task, whose answer is all that is told."""

    def note(self, text: str) -> None: ...
    def made(self, made: Made) -> None: ...


def make(wish: Wish, to: str) -> str | Refused:
    """The task: the folder of the samples, or why there are none."""
    from pipelines.sampling import command

    try:
        return command.run(wish, to, _Unseen()).folder
    except UserError as error:
        return Refused(error.cause, error.remedy)


def _begun(wish: Wish, to: str, plan: Plan) -> Any:
    import ray

    task: Any = ray.remote(make)
    return task.options(num_cpus=plan.cpus, num_gpus=plan.gpus or None, max_retries=0).remote(wish, to)


def _wait(task: Any, seconds: float) -> bool:
    import ray

    return bool(ray.wait([task], timeout=seconds)[0])


def _answer(task: Any) -> str | Refused:
    import ray

    return ray.get(task)


def _cancel(task: Any) -> None:
    import ray

    ray.cancel(task, force=True)
