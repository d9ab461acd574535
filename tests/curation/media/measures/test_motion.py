"""Motion equals libavfilter's vmafmotion: on synthetic frames, and on every clip of the real videos."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from curation.contract import Clip, Facts
from curation.media.encode import repack
from curation.media.frames import Decoder, planes
from curation.media.measures.motion import Motion
from curation.media.pictures.convert import Converter
from curation.media.probe import open_media
from curation.media.stream.rates import cadence
from curation.media.stream.scan import scan
from tests.support.measuring import LENIENT, Result, as_clips, measured
from tests.support.shared import real_videos

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
TOLERANCE = 0.01
WITHOUT_CLIPS = ("media__sample_no_bframes.mp4", "opencvdoc__tree.avi")  # too short, too few frames


def oracle(frames: list[np.ndarray]) -> float:
    """Mean vmafmotion of grey frames, by the ffmpeg program."""
    height, width = frames[0].shape
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="gray", s=f"{width}x{height}", r=25)
    command = source.filter("vmafmotion", stats_file="-").output("-", format="null").compile(cmd=FFMPEG)
    done = subprocess.run(
        [*command, "-loglevel", "error"], input=b"".join(f.tobytes() for f in frames), capture_output=True, check=True
    )
    scores = [float(value) for value in re.findall(r"motion:(\S+)", done.stdout.decode())]
    assert len(scores) == len(frames)
    return float(np.mean(scores))


def clip_frames(path: Path, facts: Facts, clip: Clip) -> list[np.ndarray]:
    """The luma of the clip's frames just before they would be encoded."""
    with open_media(path) as (container, stream):
        timeline = scan(container, stream)
    kept: dict[int, np.ndarray] = {}
    pace = cadence(timeline.run_of(clip.start_frame), LENIENT.clips)
    convert = Converter()
    with open_media(path) as (container, stream):
        for picture in Decoder(container, stream, timeline):
            if clip.start_frame <= picture.index < clip.end_frame:
                luma = planes(repack(convert(picture.frame), clip, facts))[0]
                kept.setdefault(pace.tick(picture.index), luma.copy())
    first = min(kept)
    ordered: list[np.ndarray] = []
    for tick in range(first, first + clip.frames):
        ordered.append(kept.get(tick, ordered[-1] if ordered else kept[first]))
    return ordered


def mean(frames: list[np.ndarray]) -> float:
    motion = Motion()
    for frame in frames:
        motion.push(frame)
    return motion.mean(len(frames))


@pytest.mark.parametrize("shape", [(64, 96), (61, 83), (180, 320)])
def test_equals_vmafmotion_on_noise_and_on_stills(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    frames = [random.integers(0, 256, shape, np.uint8) for _ in range(6)]
    frames += [frames[-1], (frames[-1] // 2).astype(np.uint8)]
    assert mean(frames) == pytest.approx(oracle(frames), rel=4e-3)  # it mirrors the right and bottom edges otherwise
    assert mean([frames[0]] * 5) == 0.0


def test_a_single_frame_has_no_motion() -> None:
    assert mean([np.zeros((32, 32), np.uint8)]) == 0.0


@pytest.mark.parametrize(("share", "least"), [(20, 2), pytest.param(1, 51, marks=pytest.mark.slow)])
def test_equals_vmafmotion_on_real_clips(share: int, least: int) -> None:
    """On one video of twenty here, on all of them in the slow tests."""
    compared = 0
    for path in [path for path in real_videos() if path.name not in WITHOUT_CLIPS][::share]:
        compared += _compare(path, measured(path))
    assert compared >= least


def _compare(path: Path, result: Result) -> int:
    for clip, found in zip(as_clips(result), result.clips, strict=True):
        expected = oracle(clip_frames(path, result.facts, clip))
        assert found.motion == pytest.approx(expected, abs=TOLERANCE), f"{path.name}, {clip.start_frame}"
    return len(result.clips)
