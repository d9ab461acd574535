"""Which failures the next run tries again, and which wait for `--retry`."""

from __future__ import annotations

import pytest

from curation.contract import Reason
from curation.filters.base import NO_SAMPLES, WEIGHTS_MISSING
from curation.pyramid.history.failures import (
    LASTING,
    MEASURE_AGAIN,
    PASSING,
    NoCaption,
    beginnings,
    failure,
    kind,
    reason_of,
)

AGAIN = {"unreadable", "internal_error", "worker_lost", "other_frames", "timed_out"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_of_one_kind_with_and_without_a_detail(reason: Reason) -> None:
    wanted = PASSING if str(reason) in AGAIN else LASTING
    for why in (failure(reason), failure(reason, "a: b")):
        assert reason_of(why) is reason
        assert kind(why) == wanted


@pytest.mark.parametrize(
    "why", [None, "", "filter off", "not run yet", "not reached (tier a)", NO_SAMPLES, WEIGHTS_MISSING]
)
def test_what_is_no_failure_is_of_no_kind(why: str | None) -> None:
    assert kind(why) is None


def test_a_clip_of_an_older_version_is_looked_at_again() -> None:
    assert kind(f"{MEASURE_AGAIN}: curate its source again") == PASSING


def test_beginnings_tell_all_that_is_of_a_kind() -> None:
    assert set(beginnings([PASSING])) == AGAIN | {MEASURE_AGAIN}
    every = {*map(str, Reason), *map(str, NoCaption), MEASURE_AGAIN}
    assert set(beginnings([PASSING, LASTING])) == every and beginnings([]) == []
    assert all(kind(begins) == kind(f"{begins}: x") == LASTING for begins in beginnings([LASTING]))
