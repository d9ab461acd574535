"""A pyramid of clips that want a score, and a run that scores them by a filter that misbehaves as it is told.

    python -m tests.support.scoring PYRAMID OPTIONS

OPTIONS is JSON, see `Options`. Prints what the run's account says, or the `UserError` that ended it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.errors import UserError
from curation.filters.base import SampleFilter, ScoreValue
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.fragments import write_samples_fragments
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from tests.curation.pyramid import build
from tests.support import without_ray

ROOT = Path(__file__).parents[2]
SCORE, BY = "text_area", "fake-1"
STEP = 4
"""Grey levels from one clip's pictures to the next one's: JPEG does not blur so much."""


@dataclass(frozen=True)
class Options:
    """How the filter behaves, by numbers of clips. `log`: a file to which it adds a byte for each clip measured.
    `ray`: see `without_ray`.
    """

    poison: Sequence[int] = ()
    deadly: Sequence[int] = ()
    sleep_s: float = 0.0
    log: str = ""
    broken: bool = False
    attempts: int = 2
    retry: bool = False
    cpus: int = 2
    ray: bool = True


@dataclass(frozen=True)
class Fake:
    """A sample filter that knows a clip by its grey level. Its score is the clip's number."""

    options: Options
    name: str = "ocr"
    scores: tuple[str, ...] = (SCORE,)
    fingerprint: str = BY

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[ScoreValue]:
        return [self._clip(round(float(frames[0].mean()) / STEP)) for frames in clips]

    def _clip(self, number: int) -> ScoreValue:
        time.sleep(self.options.sleep_s)
        if number in self.options.deadly:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number in self.options.poison:
            raise ValueError(f"clip {number} is odd")
        if self.options.log:
            with open(self.options.log, "ab") as log:
                log.write(b".")
        return ScoreValue(float(number))


@dataclass(frozen=True)
class MakeFake:
    """Makes the filter in its worker."""

    options: Options

    def __call__(self) -> SampleFilter:
        if self.options.broken:
            raise RuntimeError("a library is of another version")
        return Fake(self.options)


def pyramid(folder: Path, clips: int) -> Pyramid:
    """A pyramid with as many videos as clips, all measured and none scored."""
    made = Pyramid.create(folder, Tiers((Tier("all"),)), "test")
    batches = []
    for number in range(clips):
        (name,) = build.clip_ids(f"v{number}", 1)
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number * STEP, np.uint8))[1].tobytes()
        row = {
            "clip_id": name,
            "video_id": f"v{number}",
            "start_frame": 0,
            "end_frame": 50,
            "start_s": 0.0,
            "end_s": 2.0,
        }
        batches.append((name, jpeg, row))
    samples = write_samples_fragments(made.uri, [(name, [jpeg] * 3) for name, jpeg, _ in batches])
    Committer(made).commit(Batch(samples=[samples], clips=build.clips(*(row for _, _, row in batches))))
    return made


def command(place: Path, options: Options) -> list[str]:
    return [sys.executable, "-m", "tests.support.scoring", str(place), json.dumps(asdict(options))]


def run(place: Path, options: Options, seconds: float = 240) -> dict[str, Any]:
    """ScoreValue in a process of its own; what it printed."""
    done = subprocess.run(command(place, options), cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def scores(place: Path) -> dict[int, tuple[float | None, str | None, str | None]]:
    """(value, by, why) by the number of the clip's video."""
    table = Pyramid.open(place).dataset("clips").to_table(columns=["video_id", SCORE, f"{SCORE}_by", f"{SCORE}_why"])
    return {int(row["video_id"][1:]): tuple(list(row.values())[1:]) for row in table.to_pylist()}  # type: ignore[misc]


class Silent:
    """A watch that shows nothing."""

    def plan(self, stages: Sequence[str], all_listed: bool) -> None:
        pass

    def over(self, stage: str, coordinator: Any) -> Any:
        return nullcontext()

    def expect(self, units: int) -> None:
        pass

    def advance(self, units: int, clips: int = 0) -> None:
        pass

    def searching(self, what: str) -> Any:
        return nullcontext()


def main(place: str, options: str) -> None:
    wanted = Options(**json.loads(options))
    if not wanted.ray:
        without_ray.install()
    from pipelines import curate
    from pipelines.config.filters import Ready
    from pipelines.config.recipe import Recipe
    from pipelines.execution import starting, work
    from pipelines.execution.results.account import Account

    filter_ = Ready("ocr", (SCORE,), "not run yet", BY, None, MakeFake(wanted))
    recipe = Recipe.model_validate({"name": "test", "run": {"attempts": wanted.attempts}})
    account = Account()
    try:
        with starting.joined(None, wanted.cpus) as resources:
            opened = Pyramid.open(place)
            with work.working(opened, recipe, resources, Silent(), account, retry_quarantined=wanted.retry) as job:
                curate.score(job, filter_, job.again)
    except UserError as error:
        print(json.dumps({"cause": error.cause, "remedy": error.remedy}))
        return
    print(json.dumps({"scored": dict(account.scored), "not_scored": dict(account.not_scored)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
