"""Input rules: each rejects with its own reason and the measured value, on files that break exactly that rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curation.contract import Reason
from curation.media.plan import MediaPlan, Rules
from curation.media.probe import Unfit
from tests.support import media
from tests.support.measuring import measured
from tests.support.shared import VIDEOS, need

STRICT = MediaPlan()


def reject(name: str) -> tuple[Reason, float | None]:
    with pytest.raises(Unfit) as caught:
        measured(media.sample(name), STRICT)
    return caught.value.verdict.reason, caught.value.verdict.measured


@pytest.mark.parametrize(
    ("name", "reason", "value"),
    [
        ("short.mp4", Reason.TOO_SHORT, 1.5),
        ("fps12.mp4", Reason.LOW_FPS, 12.0),
        ("wide.mp4", Reason.BAD_ASPECT, 4.0),
        ("tall.mp4", Reason.BAD_ASPECT, 0.25),
    ],
)
def test_a_broken_rule_has_its_reason_and_value(name: str, reason: Reason, value: float) -> None:
    found, number = reject(name)
    assert found is reason
    assert number == pytest.approx(value, rel=0.01)


def test_low_bits_per_pixel() -> None:
    path = media.sample("low_bpp.mp4")
    reason, number = reject("low_bpp.mp4")
    assert reason is Reason.LOW_BPP
    # Nearly all of the file is the video stream: the file's own size gives about the same number.
    assert number == pytest.approx(path.stat().st_size * 8 / (640 * 360 * 24 * 4), rel=0.35)
    assert number is not None and number < 0.02


def test_bits_are_those_of_a_pixel_as_it_is_coded() -> None:
    """Of 240x180 that is shown as 320x180: pixels that a player makes cost no bits."""
    facts = measured(media.sample("anamorphic.mp4")).facts
    assert (facts.width, facts.height) == (320, 180) and facts.bit_rate and facts.fps
    assert facts.bpp == pytest.approx(facts.bit_rate / (240 * 180 * facts.fps))
    assert replace(facts, coded_width=0).bpp is None


def test_constrained_baseline() -> None:
    assert reject("constrained_baseline.mp4")[0] is Reason.BANNED_PROFILE
    assert measured(media.sample("constrained_baseline.mp4"), MediaPlan(rules=Rules(banned_profiles=()))).clips


def test_the_rules_lie_exactly_on_their_thresholds() -> None:
    path = media.sample("plain.mp4")
    bpp = measured(path).facts.bpp
    assert bpp is not None
    assert measured(path, MediaPlan(rules=Rules(min_bpp=bpp * 0.999, min_fps=24.0, min_duration_s=4.0))).clips
    for rules, asked in (
        (Rules(min_bpp=bpp * 1.001), f"{bpp * 1.001:g}"),
        (Rules(min_fps=24.01), "24.01"),
        (Rules(min_duration_s=4.01), "4.01 s"),
        (Rules(max_aspect=1.5), "0.3333 to 1.5"),
    ):
        with pytest.raises(Unfit) as caught:
            measured(path, MediaPlan(rules=rules))
        assert caught.value.verdict.detail.endswith(f"the rule asks for {asked}")


def test_rotation_and_sample_aspect_count_as_displayed() -> None:
    rotated = measured(media.sample("rotated.mp4")).facts
    assert (rotated.width, rotated.height) == (rotated.coded_height, rotated.coded_width)
    assert rotated.rotation == 90
    anamorphic = measured(media.sample("anamorphic.mp4")).facts
    assert (anamorphic.coded_width, anamorphic.width, anamorphic.height) == (240, 320, 180)


def test_frames_that_are_left_out_do_not_lower_the_rate() -> None:
    facts = measured(media.sample("variable_rate.mp4")).facts
    assert facts.fps == pytest.approx(24, rel=1e-3)
    assert facts.duration_s == pytest.approx(4, abs=0.1)


def test_a_missing_bit_rate_is_counted_from_packets() -> None:
    facts = measured(media.sample("vp9.webm")).facts
    assert facts.bit_rate == pytest.approx(media.sample("vp9.webm").stat().st_size * 8 / 4, rel=0.1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mediabunny__sar_2x1.mp4", Reason.BAD_ASPECT),
        ("moviepy__no_duration.webm", Reason.LOW_FPS),
        ("media__sample_fragmented.mp4", Reason.TOO_SHORT),
        ("file-type__fixture2.mkv", Reason.TOO_SHORT),
        ("mp4parse-rust__zero_empty_stsc.mp4", Reason.BROKEN),
        ("mp4parse-rust__bipbop_nonfragment_header.mp4", Reason.NO_FRAMES),
        ("decord__corrupted.mp4", Reason.LOW_FPS),
        ("mediabunny__toothsome-dts.mp4", Reason.NO_VIDEO),
        ("file-type__fixture-corrupt.mkv", Reason.BROKEN),
        ("media__8k24fps_300ms.mp4", Reason.TOO_SHORT),
        ("mediabunny__edts.mp4", Reason.LOW_BPP),
    ],
)
def test_odd_real_files_end_in_one_reason(name: str, reason: Reason) -> None:
    with pytest.raises(Unfit) as caught:
        measured(need(VIDEOS / "odd" / name), STRICT)
    assert caught.value.verdict.reason is reason
