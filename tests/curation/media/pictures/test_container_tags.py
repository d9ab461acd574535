"""Tags that only the container has count as if the stream had them, in both passes: what a decoder says of nothing is
no tag.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from curation.contract import Reason
from curation.media.plan import Limits, MediaPlan
from curation.media.probe import Unfit
from curation.media.sandbox.sandbox import Sandbox
from tests.support import light, tagged
from tests.support.light import FFV1, UNTAGGED, X264
from tests.support.measuring import FAST, LENIENT, as_clips, cuts, measured
from tests.support.tagged import Tags

SIZE = (160, 90)
PLAN = replace(LENIENT, rules=replace(LENIENT.rules, min_duration_s=0.0), clips=replace(LENIENT.clips, min_s=0.2))

PQ, HLG, WIDE, HD, PAL = (9, 16, 9, 1), (9, 18, 9, 1), (9, 14, 9, 1), (1, 1, 1, 1), (5, 6, 5, 1)
FULL = (1, 1, 1, 2)

_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt")
_VPX = ("-deadline", "realtime", "-cpu-used", "8")
ENCODERS = {
    "h264": X264,
    "hevc": (*_X265, "yuv420p10le"),
    "av1": ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p10le"),
    "vp9": ("-c:v", "libvpx-vp9", "-profile:v", "2", "-pix_fmt", "yuv420p10le", *_VPX),
    "vp8": ("-c:v", "libvpx", "-b:v", "1M", *_VPX),
    "prores": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "mpeg4": ("-c:v", "mpeg4", "-q:v", "3"),
    "ffv1": (*FFV1, "-pix_fmt", "yuv420p10le"),
}  # fmt: skip
BASES = {"h264": "mp4", "hevc": "mp4", "av1": "mp4"}
"""Containers with a decoding time for every packet."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film of every codec whose stream says nothing of its light, as far as its codec can be silent."""
    folder, made = tmp_path_factory.mktemp("sources"), {}
    pictures = light.patches(8, *SIZE)
    for name, options in ENCODERS.items():
        vf = "scale=out_range=tv,format=yuv420p10le" + UNTAGGED
        made[name] = light.write(folder / f"{name}.{BASES.get(name, 'mkv')}", pictures, *options, vf=vf)
    return made


def both_passes(path: Path, plan: MediaPlan = PLAN) -> tuple[object, list[bytes]]:
    """What both passes make of a film: measures and samples of its clips, and the files."""
    result = measured(path, plan)
    clips = as_clips(result)
    assert clips
    return result.clips, cuts(path, clips, plan, FAST)[0]


def stream_says(path: Path) -> Tags:
    """The tags of the first frame, as the decoder has them once it has begun."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.color_primaries, frame.color_trc, int(frame.colorspace), int(frame.color_range)


CASES = [
    *((codec, kind, tags) for codec in ("hevc", "av1") for kind in ("mp4", "mkv") for tags in (PQ, HLG)),
    ("hevc", "mov", PQ),
    ("hevc", "mp4", WIDE),
    ("hevc", "mkv", HD),
    ("hevc", "mp4", FULL),
    ("av1", "webm", PQ),
    *(("h264", kind, tags) for kind in ("mp4", "mkv", "mov") for tags in (HD, PAL)),
    ("h264", "mkv", FULL),
]


@pytest.mark.parametrize("silence", ["nothing", "unspecified"])
@pytest.mark.parametrize(("codec", "kind", "tags"), CASES)
def test_the_containers_tags_count_as_the_streams(
    codec: str, kind: str, tags: Tags, silence: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    silent = sources[codec]
    if silence == "unspecified":
        silent = tagged.stream(silent, tmp_path / "silent.mp4", codec, (2, 2, 2, tags[3]))
    told = tagged.stream(sources[codec], tmp_path / f"told.{kind}", codec, tags)
    assert stream_says(told) == tags
    outside = tagged.container(silent, tmp_path / f"outside.{kind}", tags)
    assert both_passes(outside) == both_passes(told)


OUTSIDE = [
    ("vp9", "webm", PQ, "tone-mapped from smpte2084"),
    ("vp9", "mp4", HLG, "tone-mapped from arib-std-b67"),
    ("vp9", "mkv", WIDE, "gamut-mapped from bt2020"),
    ("ffv1", "mkv", PQ, "tone-mapped from smpte2084"),
    ("prores", "mov", (9, 16, 9, 0), "tone-mapped from smpte2084"),
    ("prores", "mkv", HLG, "tone-mapped from arib-std-b67"),
    ("vp8", "webm", (9, 1, 2, 1), "gamut-mapped from bt2020"),
    ("mpeg4", "mov", (12, 1, 1, 0), "gamut-mapped from smpte432"),
]


@pytest.mark.parametrize(("codec", "kind", "tags", "conversion"), OUTSIDE)
def test_tags_of_codecs_that_can_hardly_say_them(
    codec: str, kind: str, tags: Tags, conversion: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    outside = tagged.container(sources[codec], tmp_path / f"a.{kind}", tags)
    assert {clip.conversion for clip in measured(outside, PLAN).clips} == {conversion}
    assert {clip.conversion for clip in measured(sources[codec], PLAN).clips} == {None}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_container_that_says_otherwise_than_the_stream_is_not_asked(
    codec: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    for inside, around in ((HD, PAL), (PAL, FULL), (FULL, PAL)):
        told = tagged.stream(sources[codec], tmp_path / "told.mp4", codec, inside)
        outside = tagged.container(told, tmp_path / "outside.mp4", around)
        assert both_passes(outside) == both_passes(told)


def test_hdr_that_only_the_container_tells_is_refused_where_the_recipe_refuses_hdr(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    outside = tagged.container(sources["hevc"], tmp_path / "a.mp4", PQ)
    plan = replace(PLAN, clips=replace(PLAN.clips, hdr="reject"))
    with pytest.raises(Unfit) as caught:
        measured(outside, plan)
    assert caught.value.verdict.reason is Reason.HDR
    with Sandbox(Limits(memory_mb=2048)) as sandbox:
        found = sandbox.measure(outside, outside.name, plan)
        assert found.verdict is not None and found.verdict.reason is Reason.HDR


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
def test_a_pixel_aspect_that_only_the_container_tells(
    codec: str, kind: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    copy = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(sources[codec]), "-c", "copy"]
    inside, outside = tmp_path / f"inside.{kind}", tmp_path / f"outside.{kind}"
    subprocess.run([*copy, "-bsf:v", f"{codec}_metadata=sample_aspect_ratio=4/3", str(inside)], check=True)
    subprocess.run([*copy, "-aspect", "64:27", str(outside)], check=True)
    assert measured(outside, PLAN).facts.sar == pytest.approx(4 / 3)
    assert both_passes(outside) == both_passes(inside)
