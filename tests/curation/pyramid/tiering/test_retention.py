from __future__ import annotations

import pytest

from curation.contract import Kind
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import UNEXPLAINED, tier_report
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from tests.curation.pyramid.build import clips, image_row

STEPS = Tiers(
    (
        Tier("low", {"motion": Range(1.0)}),
        Tier("high", {"aesthetic": Range(5.0), "duration_s": Range(None, 5.0)}),
    )
)


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    rows = [
        #  motion, aesthetic, why, seconds
        (2.0, 6.0, None, 4.0),  # in both
        (2.0, 4.0, None, 4.0),  # aesthetic too low
        (0.5, 4.0, None, 4.0),  # motion too low, then aesthetic
        (0.5, 6.0, None, 8.0),  # motion too low, then too long
        (2.0, None, "weights missing", 8.0),  # not judged, then too long
        (0.5, None, "below the tier", 4.0),  # motion too low, not judged
        (2.0, None, None, 4.0),  # not judged, nobody says why
    ]
    made = [
        {
            "clip_id": str(index),
            "motion": motion,
            "aesthetic": aesthetic,
            "aesthetic_why": why,
            "start_s": 10.0,
            "end_s": 10.0 + seconds,
            "frames": round(seconds * 24),
            "fps": 24.0,
        }
        for index, (motion, aesthetic, why, seconds) in enumerate(rows)
    ]
    Committer(pyramid).commit(Batch(clips=clips(*made)))
    return pyramid


def test_what_each_tier_keeps_and_each_filter_drops(filled: Pyramid) -> None:
    low, high = tier_report(filled, STEPS)
    assert (low.tier, low.clips, low.share_clips) == ("low", 4, 4 / 7)
    assert low.hours == pytest.approx(20 / 3600) and low.share_hours == pytest.approx(20 / 36)
    assert (high.clips, high.share_clips) == (1, 1 / 7)
    motion, aesthetic, duration = high.losses
    assert (motion.column, motion.alone, motion.after, motion.alone_null) == ("motion", 3, 3, {})
    assert (aesthetic.alone, aesthetic.after) == (2, 1)
    assert aesthetic.alone_null == {"weights missing": 1, "below the tier": 1, UNEXPLAINED: 1}
    assert aesthetic.after_null == {"weights missing": 1, UNEXPLAINED: 1}
    assert (duration.alone, duration.after, duration.alone_null) == (2, 0, {})


def test_the_drops_after_each_other_add_up(filled: Pyramid) -> None:
    for row in tier_report(filled, STEPS):
        dropped = sum(loss.after + sum(loss.after_null.values()) for loss in row.losses)
        assert row.clips + dropped == 7
        assert row.clips == filled.with_tiers(STEPS).tier(row.tier).count()


OF_KINDS = Tiers(
    (
        Tier("low", {"motion": Range(1.0), "sharpness": Range(10.0)}),
        Tier("stills", {"duration_s": Range(3.0), "kind": Kind.IMAGE, "fps": Range(24.0)}),
    )
)


def test_images_are_dropped_by_what_they_have_alone(filled: Pyramid) -> None:
    rows = [image_row("i1", "v1"), image_row("i2", "v2", sharpness=3.0), image_row("i3", "v3", sharpness=None)]
    Committer(filled).commit(Batch(clips=clips(*rows)))
    Committer(filled).commit(Batch(clip_updates=[clips({"clip_id": str(n), "sharpness": 20.0}) for n in range(7)]))
    low, stills = tier_report(filled, OF_KINDS)
    motion, sharpness = low.losses
    assert (motion.alone, motion.alone_null) == (3, {}) and (sharpness.alone, sharpness.after) == (1, 1)
    assert sharpness.after_null == {UNEXPLAINED: 1} and low.clips == 5
    duration, kind, fps = stills.losses[2:]
    assert (kind.column, kind.range, kind.alone, kind.after) == ("kind", Kind.IMAGE, 7, 4)
    assert (duration.alone, duration.alone_null, fps.after) == (0, {}, 0) and fps.after_null == {}
    assert (stills.clips, stills.hours, stills.share_clips) == (1, 0.0, 0.1)
    moved = filled.with_tiers(OF_KINDS)
    for row in (low, stills):
        assert row.clips == moved.tier(row.tier).count()
        assert row.clips + sum(loss.after + sum(loss.after_null.values()) for loss in row.losses) == 10
    retier(moved)
    assert moved.where(tier="stills").ids() == ["i1"] == moved.tier("stills").ids()
    assert sorted(moved.where(tier="low").ids()) == sorted(set(moved.tier("low").ids()) - {"i1"})
    assert [row.clips for row in tier_report(filled, OF_KINDS, among={"kind": "image"})] == [1, 1]
    assert [row.clips for row in tier_report(filled, OF_KINDS, among={"kind": "video"})] == [4, 0]


def test_tiers_of_the_pyramid_by_default_and_an_empty_pyramid(pyramid: Pyramid) -> None:
    report = tier_report(pyramid)
    assert [row.tier for row in report] == ["low", "mid", "high"]
    assert all((row.clips, row.hours, row.share_clips, row.share_hours) == (0, 0, 0, 0) for row in report)
