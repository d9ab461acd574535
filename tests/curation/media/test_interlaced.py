"""Interlaced sources through both passes: found on the way, measured once more, deinterlaced or rejected."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import pytest

from curation.contract import Reason
from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
from curation.media.probe import Unfit
from curation.media.sandbox.sandbox import Sandbox
from tests.support import numbered
from tests.support.light import combing
from tests.support.measuring import as_clips, cuts, measured
from tests.support.numbered import KINDS, Kind

PLAN = MediaPlan(rules=Rules(banned_profiles=(), min_bpp=0), clips=ClipPlan(min_s=1.0, max_s=3.0))


@pytest.fixture(scope="module")
def woven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames a second of two fields each, from 50 pictures a second; a cut in the middle."""
    kind = Kind(".mp4", (*KINDS["mp4"].encode, "-vf", "scale=384:288:flags=neighbor,interlace=scan=tff:lowpass=off"))
    return numbered.write(tmp_path_factory.mktemp("woven") / "woven", kind, 300, (150,), 50)


def test_every_frame_is_measured_once_and_comes_out_whole(woven: Path) -> None:
    result = measured(woven, PLAN)
    clips = as_clips(result)
    assert {clip.conversion for clip in clips} == {"deinterlaced tff"}
    held = [number for clip in clips for number in range(clip.start_frame, clip.end_frame)]
    assert held == sorted(set(held)), "a frame is in two clips"
    assert len(held) == 150
    with av.open(str(woven)) as container:
        fields = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    files, _ = cuts(woven, clips, PLAN, Encode(preset="ultrafast", crf=14))
    for clip, data in zip(clips, files, strict=True):
        with av.open(io.BytesIO(data), "r") as container:
            pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(pictures) == clip.frames
        for at in (0, clip.frames // 2, clip.frames - 1):
            assert combing(pictures[at]) < 0.5 * combing(fields[clip.start_frame + at])


def test_the_sandbox_forgets_what_came_before_the_second_measuring(woven: Path) -> None:
    with Sandbox(Limits(memory_mb=2048)) as sandbox:
        found = sandbox.measure(woven, woven.name, PLAN)
    assert found.clips == tuple(measured(woven, PLAN).clips)


def test_a_recipe_may_reject_it(woven: Path) -> None:
    with pytest.raises(Unfit) as caught:
        measured(woven, replace(PLAN, clips=replace(PLAN.clips, interlaced="reject")))
    assert caught.value.verdict.reason is Reason.INTERLACED
    assert (caught.value.verdict.measured or 0) > 0.5
