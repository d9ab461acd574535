from __future__ import annotations

import pytest

from curation.pyramid.commit import Batch, Committer
from curation.pyramid.retention import UNEXPLAINED, tier_report
from curation.pyramid.store import Pyramid
from curation.pyramid.tiers import Range, Tier, Tiers
from tests.curation.pyramid.build import clips

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


def test_tiers_of_the_pyramid_by_default_and_an_empty_pyramid(pyramid: Pyramid) -> None:
    report = tier_report(pyramid)
    assert [row.tier for row in report] == ["low", "mid", "high"]
    assert all((row.clips, row.hours, row.share_clips, row.share_hours) == (0, 0, 0, 0) for row in report)
