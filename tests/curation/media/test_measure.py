"""The measuring pass: clips at the right frames, their measures, their sample frames, and one decode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.contract import Reason
from curation.media.clip_builder import SAMPLE_SIDE
from curation.media.measures.motion import Motion
from curation.media.measures.scored import ScoredSize
from curation.media.pictures.geometry import view
from curation.media.plan import ClipPlan, MediaPlan, ShotPlan
from curation.media.probe import Unfit
from curation.rows import frame_fingerprints
from tests.support import media, numbered
from tests.support.measuring import LENIENT, measured


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_clips_are_the_shots() -> None:
    cuts = media.cut_frames((2.5, 3, 2, 2.5))
    result = measured(media.sample("scenes.mp4"))
    assert [(c.start_frame, c.end_frame) for c in result.clips] == list(
        zip([0, *cuts], [*cuts, frames_in(media.sample("scenes.mp4"))], strict=True)
    )
    assert [c.shot for c in result.clips] == [0, 1, 2, 3]
    assert [c.start_s for c in result.clips] == pytest.approx([0, 2.5, 5.5, 7.5], abs=1e-3)
    assert [c.frames for c in result.clips] == [60, 72, 48, 60]


def test_long_shots_are_split_and_a_short_tail_is_dropped() -> None:
    clips = measured(media.sample("long_shot.mp4")).clips
    assert [c.frames for c in clips] == [192, 192, 72]
    assert all(c.shot == 0 for c in clips)
    plan = replace(LENIENT, clips=ClipPlan(min_s=4))
    assert [c.frames for c in measured(media.sample("long_shot.mp4"), plan).clips] == [192, 192]


def test_shots_that_are_all_too_short_are_a_reason_with_the_longest() -> None:
    with pytest.raises(Unfit) as caught:
        measured(media.sample("scenes.mp4"), replace(LENIENT, clips=ClipPlan(min_s=3.5)))
    assert caught.value.verdict.reason is Reason.NO_CLIP
    assert caught.value.verdict.measured == pytest.approx(3.0)


def test_a_part_that_a_rule_refuses_is_told_and_is_no_shot(tmp_path: Path) -> None:
    """Joined to a part of another shape."""
    kind = replace(numbered.KINDS["webm grows"], second=(8 * numbered.WIDTH, numbered.HEIGHT))
    path = numbered.write(tmp_path / "wide", kind, 120, ())
    plan = replace(LENIENT, rules=replace(LENIENT.rules, max_aspect=3.0))
    found = measured(path, plan)
    assert [(clip.start_frame, clip.end_frame) for clip in found.clips] == [(0, 66)]
    told = f"bad_aspect: {8 * numbered.WIDTH}x{numbered.HEIGHT} as displayed"
    seconds = (frames_in(path) - 66) / 25
    assert (found.tally.refused_s, found.tally.refused) == (pytest.approx(seconds), told)
    with pytest.raises(Unfit) as caught:
        measured(path, replace(plan, clips=ClipPlan(min_s=3)))
    assert caught.value.verdict.measured == pytest.approx(2.6, abs=0.1), "the longest of those that may be a clip"
    assert f"{seconds:.1f} s that a rule refuses, {told}" in caught.value.verdict.detail


def test_trimming_leaves_frames_out_at_cuts_only() -> None:
    cuts = media.cut_frames((2.5, 3, 2, 2.5))
    clips = measured(media.sample("scenes.mp4"), replace(LENIENT, shots=ShotPlan(trim_frames=2))).clips
    assert [c.start_frame for c in clips][:2] == [0, cuts[0] + 2]
    assert clips[0].end_frame == cuts[0] - 2


@pytest.mark.parametrize("name", ["plain.mp4", "scenes.mp4", "vp9.webm", "fps60.mp4", "mpeg2.mpg"])
def test_every_frame_is_decoded_once(name: str) -> None:
    assert measured(media.sample(name)).tally.decoded == frames_in(media.sample(name))


@pytest.mark.parametrize(("name", "fps", "frames"), [("fps60.mp4", 30000 / 1001, 120), ("fps50.mp4", 25.0, 100)])
def test_high_rates_are_measured_at_the_clips_rate(name: str, fps: float, frames: int) -> None:
    (clip,) = measured(media.sample(name)).clips
    assert (clip.fps, clip.frames) == (pytest.approx(fps), frames)


def test_sample_frames_are_the_first_middle_and_last_inside_the_borders() -> None:
    path = media.sample("letterboxed.mp4")
    (clip,) = measured(path).clips
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    crop = clip.crop
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in clip.samples]
    for picture, index in zip(pictures, (0, len(frames) // 2, len(frames) - 1), strict=True):
        inside = frames[index][crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
        assert picture is not None
        assert picture.shape == inside.shape
        # The middle one may lie up to an eighth of a second away, where candidates are kept.
        assert cv2.absdiff(picture, inside).mean() < (12 if index == len(frames) // 2 else 6)
    assert pictures[0] is not None
    assert max(pictures[0].shape[:2]) <= SAMPLE_SIDE


def test_measures_tell_still_from_moving_and_sharp_from_blurred(tmp_path: Path) -> None:
    still = measured(media.sample("still.mp4")).clips[0]
    moving = measured(media.sample("noise.mp4")).clips[0]
    assert still.motion is not None and moving.motion is not None
    assert still.jitter is not None and moving.jitter is not None
    assert still.motion < 0.05 < 5 < moving.motion
    assert still.jitter < 0.5 < moving.jitter
    blurred = media.write(tmp_path / "b.mp4", media.picture("testsrc2", seconds=3).filter("gblur", sigma=6), crf=18)
    assert measured(blurred).clips[0].sharpness < 0.1 * measured(media.sample("plain.mp4")).clips[0].sharpness
    assert len(moving.laplacian) == 5


def test_scores_at_one_side_mean_the_same_at_every_size(tmp_path: Path) -> None:
    """Own sizes tell a video and its small copy apart, a side in common hardly does."""
    source = media.sample("scenes.mp4")
    small = media.write(tmp_path / "small.mp4", media.ffmpeg.input(str(source)).filter("scale", 160, -2), crf=10)
    off = {}
    for side in (0, 90):
        large, copy = (measured(path, replace(LENIENT, score_side=side)).clips[-1] for path in (source, small))
        assert large.motion is not None and copy.motion is not None
        off[side] = np.abs(np.log([large.motion / copy.motion, large.sharpness / copy.sharpness]))
    assert np.all(off[90] < 0.6 * off[0]) and off[90][0] < 0.02


@pytest.mark.parametrize("name", ["plain.mp4", "letterboxed.mp4"])
def test_scores_are_those_of_the_pictures_at_the_side(name: str) -> None:
    """Of the picture inside its borders."""
    path = media.sample(name)
    for side in (64, 480):
        (clip,) = measured(path, replace(LENIENT, score_side=side)).clips
        size, motion = ScoredSize.of(clip.crop, measured(path).facts, 1080, side), Motion()
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                luma = np.asarray(frame.planes[0], np.uint8).reshape(frame.height, frame.planes[0].line_size)
                motion.push(*size.for_motion(view(luma, clip.crop)))
        assert clip.motion == pytest.approx(motion.mean(clip.frames), rel=1e-6)


def test_the_side_of_scores_changes_no_clip() -> None:
    own, common = (measured(media.sample("scenes.mp4"), replace(LENIENT, score_side=side)) for side in (0, 90))
    assert replace(LENIENT, score_side=90).fingerprint == LENIENT.fingerprint
    scores = {"motion": 0.0, "sharpness": 0.0, "laplacian": ()}
    assert [replace(clip, **scores) for clip in own.clips] == [replace(clip, **scores) for clip in common.clips]
    assert all(a.sharpness != b.sharpness for a, b in zip(own.clips, common.clips, strict=True))


def test_scores_that_the_side_changes_say_so() -> None:
    own, common = (frame_fingerprints(MediaPlan(score_side=side)) for side in (0, 360))
    assert {score for score in own if own[score] != common[score]} == {"motion", "sharpness"}


def test_ten_bit_and_wide_chroma_are_measured() -> None:
    eight, ten = (measured(media.sample(name)).clips[0] for name in ("plain.mp4", "ten_bit.mp4"))
    assert ten.motion == pytest.approx(eight.motion, rel=0.05)


def test_the_plan_has_a_fingerprint_that_hardware_does_not_change() -> None:
    plan = MediaPlan()
    assert plan.fingerprint == replace(plan, hwaccel="cuda").fingerprint
    assert plan.fingerprint != replace(plan, clips=ClipPlan(max_s=6)).fingerprint
