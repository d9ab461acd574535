"""Orders to cut: each clip under its own plan, none whose row says too little, none of a video that is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.media.plan import ClipPlan, MediaPlan
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history import plans
from curation.pyramid.history.failures import PASSING, kind
from curation.pyramid.store import Pyramid
from curation.rows import CLIP_COLUMNS
from pipelines.execution.orders import cut_orders
from pipelines.execution.orders.cut_orders import ORDER_COLUMNS, orders
from pipelines.stages.results import CutDone, CutOrder
from tests.curation.pyramid.build import TIERS, clips, videos

FAST, SLOW = MediaPlan(clips=ClipPlan(max_fps=30.0)), MediaPlan(clips=ClipPlan(max_fps=15.0))


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    for plan in (FAST, SLOW):
        plans.keep(made.files, plan)
    return made


def row(number: int, plan: str | None, video: str = "v", **more: Any) -> dict[str, Any]:
    place = {"start_s": 2.0 * number, "end_s": 2.0 * number + 2, "key_s": 2.0 * number, "shot": number, "fps": 25.0}
    frames = {"start_frame": 50 * number, "end_frame": 50 * number + 50, "frames": 50, "width": 64, "height": 64}
    checks = {"first_check": 1, "last_check": 2, "all_check": 3}
    clip = {"clip_id": f"c{number}", "video_id": video, "crop": [0, 0, 64, 64], "plan": plan}
    return clip | place | frames | checks | more


def ordered(pyramid: Pyramid, *rows: dict[str, Any]) -> tuple[list[CutOrder], dict[str, str]]:
    Committer(pyramid).commit(Batch(clips=clips(*rows)))
    found = pyramid.query().columns(*ORDER_COLUMNS).to_table().to_pylist()
    made = list(orders(pyramid, found))
    failed = {clip: why for one in made if isinstance(one, CutDone) for clip, why in one.failed.items()}
    return [one for one in made if isinstance(one, CutOrder)], failed


def settle(pyramid: Pyramid, *names: str) -> None:
    rows = [{"video_id": name, "uris": [f"/{name}"], "status": "done", "bytes": 9} for name in names]
    Committer(pyramid).commit(Batch(videos=videos(*rows)))


def test_each_clip_is_cut_under_the_plan_it_was_measured_with(pyramid: Pyramid) -> None:
    settle(pyramid, "v")
    made, failed = ordered(pyramid, *(row(n, (FAST, SLOW)[n % 2].fingerprint) for n in range(4)))
    assert failed == {}
    by_plan = {one.plan.fingerprint: [clip.clip_id for clip in one.clips] for one in made}
    assert by_plan == {FAST.fingerprint: ["c0", "c2"], SLOW.fingerprint: ["c1", "c3"]} and len(made) == 2


def test_what_decodes_is_of_today(pyramid: Pyramid) -> None:
    settle(pyramid, "v")
    Committer(pyramid).commit(Batch(clips=clips(row(0, FAST.fingerprint))))
    rows = pyramid.query().columns(*ORDER_COLUMNS).to_table().to_pylist()
    (order,) = orders(pyramid, rows, hwaccel="cuda")
    assert isinstance(order, CutOrder) and order.plan.hwaccel == "cuda"
    assert order.plan.fingerprint == FAST.fingerprint


def test_a_clip_whose_plan_is_unknown_says_to_curate_again(pyramid: Pyramid) -> None:
    settle(pyramid, "v")
    made, failed = ordered(pyramid, row(0, FAST.fingerprint), row(1, None), row(2, "plan-0-12345678"))
    assert [clip.clip_id for one in made for clip in one.clips] == ["c0"]
    assert set(failed) == {"c1", "c2"}
    assert all("curate its source again" in why and kind(why) == PASSING for why in failed.values())


@pytest.mark.parametrize("name", ["first_check", "last_check"])
def test_a_clip_without_checksums_is_not_cut(pyramid: Pyramid, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(pyramid, "v")
    if name not in CLIP_COLUMNS:  # the passes of this version know no checksums yet
        monkeypatch.setattr(cut_orders, "_CHECKS", (name,))
        monkeypatch.setattr(cut_orders, "ORDER_COLUMNS", (*ORDER_COLUMNS, name))
    Committer(pyramid).commit(Batch(clips=clips(row(0, FAST.fingerprint) | {name: None}, row(1, FAST.fingerprint))))
    (done, order) = orders(pyramid, pyramid.query().columns(*cut_orders.ORDER_COLUMNS).to_table().to_pylist())
    assert isinstance(done, CutDone) and set(done.failed) == {"c0"}
    assert isinstance(order, CutOrder) and [clip.clip_id for clip in order.clips] == ["c1"]


def test_clips_that_another_jobs_video_row_is_still_to_follow_are_left_to_a_later_run(pyramid: Pyramid) -> None:
    settle(pyramid, "v")
    made, failed = ordered(pyramid, row(0, FAST.fingerprint), row(1, FAST.fingerprint, video="under way"))
    assert failed == {} and [clip.clip_id for one in made for clip in one.clips] == ["c0"]
    settle(pyramid, "under way")
    rows = pyramid.query().columns(*ORDER_COLUMNS).to_table().to_pylist()
    assert [one.video_id for one in orders(pyramid, rows) if isinstance(one, CutOrder)] == ["under way", "v"]
