"""What `curate.cut` gives to be cut: each clip of the tier once, whatever else is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from curation.errors import UserError
from curation.filters.base import SampleFilter
from curation.media.plan import ClipPlan, MediaPlan
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import plans, search
from curation.pyramid.history.failures import PASSING
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from curation.rows import attempt_fingerprint
from pipelines import curate
from pipelines.commands.pyramid import dry_run
from pipelines.config.adoption import Choice
from pipelines.config.filters import Ready
from pipelines.config.recipe import Recipe, load
from pipelines.execution import work
from pipelines.execution.cluster import Resources
from pipelines.execution.orders.settled import stale_uris
from pipelines.execution.ray_data import StageSpec
from pipelines.execution.records.notices import of_measuring
from pipelines.execution.results.account import Account
from pipelines.execution.work import Left
from pipelines.stages.results import CutOrder, Place
from pipelines.stages.score import ClipsToScore
from tests.curation.pyramid.build import TIERS, clips, videos

PLAN = MediaPlan(clips=ClipPlan(max_fps=30.0))


NEVER_MADE = cast("Callable[[], SampleFilter]", list)


def row(number: int, **more: Any) -> dict[str, Any]:
    clip = {"clip_id": f"c{number}", "video_id": f"v{number}", "crop": [0, 0, 64, 64], "plan": PLAN.fingerprint}
    place = {"start_s": 0.0, "end_s": 2.0, "key_s": 0.0, "shot": 0, "fps": 25.0, "start_frame": 0, "end_frame": 50}
    size = {"frames": 50, "width": 64, "height": 64, "first_check": 1, "last_check": 2, "all_check": 3}
    return clip | place | size | {"motion": 2.0, "motion_by": "m"} | more


@dataclass
class Job:
    """Stands in for `work.Job`: what it is to run is noted and counts as cut, and two clips more are cut by another
    run each time.
    """

    pyramid: Pyramid
    recipe: Recipe
    also: list[int] = field(default_factory=list)
    given: list[list[str]] = field(default_factory=list)
    watch: Any = None

    def __post_init__(self) -> None:
        self.watch = self

    @property
    def place(self) -> Place:
        return Place(self.pyramid.uri, None)

    def searching(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    def stage(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def repeat(self, stage: Callable[[Collection[str]], Sequence[Any]], again: Collection[str]) -> None:
        stage(again)

    def run(self, items: Iterable[CutOrder], stages: object, committer: object) -> Left:
        names = sorted(clip.clip_id for order in items for clip in order.clips)
        self.given.append(names)
        others = [f"c{self.also.pop()}" for _ in self.also[:2]]
        rows = [{"clip_id": name, "media": "x"} for name in {*names, *others}]
        Committer(self.pyramid).commit(Batch(clip_updates=[clips(*rows)]))
        return Left(0, ())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(curate, "CLIPS_IN_HAND", 3)
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    plans.keep(pyramid.files, PLAN)
    return Job(pyramid, load("small"))


def add(job: Job, *rows: dict[str, Any], settled: bool = True) -> None:
    ledger = videos(*({"video_id": one["video_id"], "uris": ["/x"], "status": "done", "bytes": 9} for one in rows))
    Committer(job.pyramid).commit(Batch(clips=clips(*rows), videos=ledger if settled else None))


def cut(job: Job, again: tuple[str, ...] = ()) -> list[str]:
    curate.cut(cast("work.Job", job), "low", again)
    return [name for names in job.given for name in names]


def test_each_clip_is_cut_once_and_found_by_one_search(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[object] = []
    batches = search._batches
    monkeypatch.setattr(search, "_batches", lambda *what: searches.append(what) or batches(*what))
    add(job, *(row(number) for number in range(8)))
    assert sorted(cut(job)) == [f"c{number}" for number in range(8)] and len(job.given) == 3
    assert len(searches) == 1
    assert len(cut(job)) == 8, "and none by another run"


def test_what_another_run_cuts_meanwhile_is_not_cut_again(job: Job) -> None:
    add(job, *(row(number) for number in range(8)))
    job.also = [7, 6]
    assert sorted(cut(job)) == [f"c{number}" for number in range(6)]


def test_what_another_run_cuts_meanwhile_is_not_tried_again(job: Job) -> None:
    add(job, *(row(number, media_why="unreadable: the network") for number in range(8)))
    job.also = [7, 6]
    assert cut(job) == []
    assert sorted(cut(job, (PASSING,))) == [f"c{number}" for number in range(6)]


def test_clips_whose_videos_are_still_to_come_keep_no_others_from_being_cut(job: Job) -> None:
    add(job, *(row(number) for number in range(4)), settled=False)
    add(job, *(row(number) for number in range(4, 8)))
    assert sorted(cut(job)) == ["c4", "c5", "c6", "c7"]


def test_scores_measured_otherwise_are_measured_once_more_and_where_that_was_in_vain_not_again(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "stale", TIERS, "test")
    attempt = attempt_fingerprint(PLAN)
    base = {"status": "done", "fingerprint": PLAN.fingerprint, "clips": 1, "modified": [1.0]}
    rows = [base | {"video_id": f"v{number}", "uris": [f"/{number}"]} for number in range(2)]
    rows[1]["tried"] = attempt
    old = [row(number, motion_by="older") for number in range(2)]
    Committer(pyramid).commit(Batch(clips=clips(*old), videos=videos(*rows)))
    ledger = Ledger(pyramid)
    assert stale_uris(ledger, PLAN, False) == {"/0"}
    assert stale_uris(ledger, PLAN, True) == {"/0", "/1"}
    told = of_measuring(pyramid, PLAN)
    assert "measured otherwise than the recipe says: 1;" in told[0] and "stay as they were: 1;" in told[1]


@pytest.mark.parametrize("python", [None, "/env/bin/python"])
def test_a_filter_that_wants_a_gpu_holds_one_wherever_it_runs(job: Job, python: str | None) -> None:
    add(job, row(0))
    asked: list[float] = []

    def run(items: object, stages: Sequence[StageSpec], committer: object) -> Left:
        asked.append(stages[-1].gpus)
        return Left(0, ())

    job.run = run  # type: ignore[method-assign]
    curate.score(
        cast("work.Job", job),
        Ready("logo", ("aesthetic",), "", "by-1", make=NEVER_MADE, gpus=0.5, python=python),
    )
    assert asked == [0.5]


def test_a_filter_that_wants_a_gpu_ends_a_run_that_has_none() -> None:
    wants = Ready("logo", ("aesthetic",), "", "by-1", make=NEVER_MADE, gpus=1.0)
    recipe = load("small")
    with pytest.raises(UserError, match="the filter logo asks for a GPU, and there is none"):
        curate.check_gpus(recipe, [wants], False)
    curate.check_gpus(recipe, [wants], True)
    curate.check_gpus(recipe, [replace(wants, make=None), replace(wants, gpus=0.0)], False)


def test_a_filter_that_no_machine_has_gpus_enough_for_ends_a_run_before_it_begins(job: Job) -> None:
    wants = Ready("logo", ("aesthetic",), "", "by-1", make=NEVER_MADE, gpus=2.0)
    there = Resources(8.0, 2.0, 2, ((4.0, 1.0), (4.0, 1.0)))
    settings: Any = (job.pyramid, load("small"), there, job, Account(), [wants])
    with (
        pytest.raises(UserError, match="a worker of stage logo needs 2 GPUs, which no machine of 2 has"),
        work.working(*settings),
    ):
        pass


def test_clips_that_lack_one_of_a_filters_scores_are_scored(job: Job) -> None:
    add(
        job,
        row(0, text_area=0.1, text_area_by="by-1"),
        row(1, text_area=0.1, text_area_by="by-1", aesthetic=5.0, aesthetic_by="by-1"),
    )
    asked: list[str] = []

    def run(items: Iterable[ClipsToScore], stages: object, committer: object) -> Left:
        asked.extend(name for item in items for name in item.clip_ids)
        return Left(0, ())

    job.run = run  # type: ignore[method-assign,assignment]
    wants = Ready("two", ("text_area", "aesthetic"), "", "by-1", make=NEVER_MADE)
    curate.score(cast("work.Job", job), wants)
    assert asked == ["c0"]


def test_a_dry_run_knows_a_content_unless_a_run_would_measure_it_again(tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "known", TIERS, "test")
    recipe = load("small")
    base = {"fingerprint": recipe.plan.fingerprint, "modified": [1.0], "status": "done"}
    rows = [base | {"video_id": f"v{number}", "uris": [f"/{number}"]} for number in range(3)]
    rows[1]["fingerprint"] = "another"
    rows[2]["status"] = "quarantined"
    Committer(pyramid).commit(Batch(videos=videos(*rows)))
    choice = Choice(recipe, "", pyramid, keeps=True)

    def knows(retry: bool, stale: set[str]) -> list[bool]:
        asks = dry_run._knows(choice, retry, stale)
        return [asks(f"v{number}") for number in range(4)]

    assert knows(False, set()) == [True, False, True, False]
    assert knows(True, set()) == [True, False, False, False]
    assert knows(False, {"/0"}) == [False, False, True, False]
