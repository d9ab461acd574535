"""An image through both passes: one clip of one picture, and stored bytes that are the picture that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngInfo

from curation.contract import LAPLACIANS, Clip, Crop, Facts, Kind, Reason
from curation.media.cut import cut
from curation.media.measure import measure
from curation.media.plan import Encode, ImagePlan, Limits, MediaPlan, Rules
from curation.media.probe import Unfit
from curation.media.results import ClipMeasure, Tally
from curation.media.sandbox.sandbox import Sandbox
from curation.reasons import BLAME, Blame
from curation.rows import clip_from_row, clips_table, frame_columns
from tests.support import images, media
from tests.support.measuring import LENIENT, MAX_PIXELS, Result, as_clips, cuts, measured

PNG = Encode(image="png")


def measured_image(path: Path, plan: MediaPlan = LENIENT) -> Result:
    facts, clip, tally = measure(path, plan, MAX_PIXELS, image_pixels=MAX_PIXELS)
    assert isinstance(facts, Facts) and isinstance(clip, ClipMeasure) and isinstance(tally, Tally)
    return Result(facts, [clip], tally)


def stored(path: Path, clip: Clip, encode: Encode = PNG) -> np.ndarray:
    ((content,), _) = cuts(path, [clip], encode=encode)
    return images.read(content)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(memory_mb=1024)) as made:
        yield made


@pytest.mark.parametrize("extension", images.FORMATS)
def test_an_image_is_one_clip(tmp_path: Path, sandbox: Sandbox, extension: str) -> None:
    path = images.save(tmp_path / f"x.{extension}", images.picture(301, 201))
    result = measured_image(path)
    (clip,), facts = result.clips, result.facts
    assert (facts.width, facts.height, facts.frames) == (301, 201, 1)
    assert facts.codec == facts.container == {"jpg": "jpeg"}.get(extension, extension)
    assert (facts.fps, facts.duration_s, facts.bpp) == (None, None, None)
    assert clip.kind is Kind.IMAGE
    assert (clip.motion, clip.jitter, clip.fps, clip.end_s) == (None, None, None, None)
    assert (clip.width, clip.height, clip.crop) == (301, 201, Crop(0, 0, 301, 201)), "an image keeps odd sides"
    assert (clip.start_frame, clip.end_frame, clip.frames) == (0, 1, 1)
    assert clip.laplacian == (clip.sharpness,) * LAPLACIANS and clip.sharpness > 0
    assert len(clip.samples) == 1 and images.read(clip.samples[0]).shape == (201, 301, 3)
    there = sandbox.measure(path, path.name, LENIENT, as_image=True)
    assert (there.verdict, there.clips, there.facts) == (None, (clip,), facts), "confined it is the same"
    for encode, form in ((PNG, b"\x89PNG"), (Encode(), b"\xff\xd8\xff")):
        done = sandbox.cut(path, path.name, as_clips(result), LENIENT, encode)
        assert done.verdict is None and done.media[0][1].startswith(form)


def test_what_is_stored_is_what_was_measured(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.png")
    (clip,) = as_clips(measured_image(path))
    assert np.array_equal(stored(path, clip), images.picture())
    off = np.abs(stored(path, clip, Encode()).astype(int) - images.picture())
    assert off.mean() < 1.5 and off.max() < 20, "4:4:4 keeps edges of colour"
    (coarse,), _ = cuts(path, [clip], encode=Encode(image_quality=20))
    (fine,), _ = cuts(path, [clip], encode=Encode(image_quality=99))
    assert len(coarse) < len(fine)


def test_no_metadata_is_kept(tmp_path: Path) -> None:
    text = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x0e\0\2\0\0\0\x08\0\0\0\x1aSECRET!\0"
    path = images.save(tmp_path / "x.jpg", exif=text, comment=b"SECRET!")
    assert b"SECRET!" in path.read_bytes()
    for encode in (PNG, Encode()):
        (content,), _ = cuts(path, as_clips(measured_image(path)), encode=encode)
        assert b"SECRET" not in content and b"Exif" not in content


def test_a_large_picture_is_reduced_by_areas_and_a_small_one_stays(tmp_path: Path) -> None:
    plan = replace(LENIENT, images=ImagePlan(max_side=100))
    large = images.save(tmp_path / "x.png", np.repeat(np.repeat(images.picture(100, 60), 4, 0), 4, 1))
    result = measured_image(large, plan)
    assert (result.clips[0].width, result.clips[0].height) == (100, 60)
    assert result.clips[0].crop == Crop(0, 0, 400, 240)
    assert np.array_equal(stored(large, as_clips(result)[0]), images.picture(100, 60))
    small = images.save(tmp_path / "y.png", images.picture(64, 99))
    assert measured_image(small, plan).clips[0].width == 64


def test_sharpness_means_the_same_as_in_a_video(tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    images.save(tmp_path / "x.png", rgb)
    frames = media.ffmpeg.input(str(tmp_path / "x.png"), loop=1, t=2.5, framerate=24)
    media.write(tmp_path / "x.mkv", frames, vcodec="ffv1", pix_fmt="bgr0")
    for side in (0, 48):
        plan = replace(LENIENT, score_side=side)
        video = measured(tmp_path / "x.mkv", replace(plan, clips=replace(plan.clips, remove_borders=False)))
        image = measured_image(tmp_path / "x.png", plan)
        assert image.clips[0].sharpness == pytest.approx(video.clips[0].sharpness, rel=2e-3)


def test_another_picture_is_not_stored(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.png")
    (clip,) = as_clips(measured_image(path))
    changed = images.picture()
    changed[5, 5] ^= 1
    images.save(path, changed)
    with pytest.raises(Unfit) as caught:
        list(cut(path, [clip], LENIENT, PNG, MAX_PIXELS))
    assert caught.value.verdict.reason is Reason.OTHER_FRAMES


def verdict(sandbox: Sandbox, path: Path, plan: MediaPlan | None = None) -> tuple[Reason, float | None] | None:
    found = sandbox.measure(path, path.name, plan or MediaPlan(), as_image=True)
    return (found.verdict.reason, found.verdict.measured) if found.verdict else None


def test_rules_on_size_and_aspect(tmp_path: Path, sandbox: Sandbox) -> None:
    path = images.save(tmp_path / "x.png", images.picture(200, 50))
    assert verdict(sandbox, path) == (Reason.BAD_ASPECT, 4.0)
    assert verdict(sandbox, path, MediaPlan(Rules(max_aspect=4.0))) is None
    found = sandbox.measure(
        path, "x.png", MediaPlan(Rules(max_aspect=4.0), images=ImagePlan(min_side=51)), as_image=True
    )
    assert found.verdict is not None and found.facts is not None, "facts stay with what was judged"
    assert (found.verdict.reason, found.verdict.measured) == (Reason.TOO_SMALL, 50.0)
    dot = images.save(tmp_path / "dot.png", images.picture(1, 1))
    assert verdict(sandbox, dot) == (Reason.TOO_SMALL, 1.0)
    assert verdict(sandbox, dot, MediaPlan(images=ImagePlan(min_side=1))) is None


def test_an_image_has_a_limit_of_its_own_in_both_passes(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.png", images.picture(200, 100))
    clips = as_clips(measured_image(path))
    for most, reason in ((20_000, None), (19_999, Reason.TOO_MANY_PIXELS)):
        with Sandbox(Limits(memory_mb=1024, max_pixels=100, max_image_pixels=most)) as sandbox:
            found = sandbox.measure(path, "x.png", LENIENT, as_image=True)
            done = sandbox.cut(path, "x.png", clips, LENIENT, PNG)
            assert [one.verdict and one.verdict.reason for one in (found, done)] == [reason, reason]
            path.with_name("deep.png").write_bytes(images.png(np.zeros((100, 200, 3)), 16, 2))
            found = sandbox.measure(path.with_name("deep.png"), "deep.png", LENIENT, as_image=True)
            assert (found.verdict and found.verdict.reason) == reason


def test_an_image_under_a_video_s_name_stays_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    for extension in images.FORMATS.keys() - {"avif", "heic"}:  # these are films of one picture to FFmpeg
        found = sandbox.measure(images.save(tmp_path / f"x.{extension}"), "x.mp4", MediaPlan())
        assert found.verdict is not None and found.verdict.reason is Reason.UNSUPPORTED_FORMAT, extension
        assert "an image" in str(found.verdict.detail), extension


def test_a_long_text_in_a_png_is_no_damage(tmp_path: Path, sandbox: Sandbox) -> None:
    said = PngInfo()
    said.add_text("workflow", "x" * (3 << 20), zip=True)
    assert verdict(sandbox, images.save(tmp_path / "x.png", images.picture(), pnginfo=said)) is None


def test_what_is_said_of_damage_is_the_same_each_time(tmp_path: Path, sandbox: Sandbox) -> None:
    path = images.save(tmp_path / "x.webp")
    path.write_bytes(path.read_bytes()[:20])
    found = sandbox.measure(path, path.name, MediaPlan(), as_image=True)
    assert found.verdict is not None and found.verdict.reason is Reason.BROKEN
    assert found.verdict.detail and "0x" not in found.verdict.detail


def test_a_video_under_an_image_s_name_is_a_video(sandbox: Sandbox) -> None:
    found = sandbox.measure(media.sample("plain.mp4"), "x.jpg", MediaPlan(), as_image=True)
    assert found.verdict is None and {clip.kind for clip in found.clips} == {Kind.VIDEO}


@pytest.mark.parametrize("extension", images.FORMATS)
def test_bombs_and_damage_are_the_data_s(tmp_path: Path, sandbox: Sandbox, extension: str) -> None:
    bomb = verdict(sandbox, images.bomb(tmp_path / f"bomb.{extension}"))
    assert bomb is not None and bomb[0] is Reason.TOO_MANY_PIXELS
    whole = images.save(tmp_path / f"x.{extension}").read_bytes()
    path, dice, broken = tmp_path / f"y.{extension}", np.random.default_rng(7), 0
    for length in (0, 1, 2, 3, 8, 12, 16, 30, *np.linspace(33, len(whole) - 40, 25).astype(int)):
        path.write_bytes(whole[:length])
        found = verdict(sandbox, path)
        assert found is not None and BLAME[found[0]] in (Blame.DATA, Blame.RULE), (length, found)
        broken += found[0] is Reason.BROKEN
    assert broken >= 20
    for _ in range(40):
        content = bytearray(whole)
        for at in dice.integers(2, len(content), 4):
            content[at] ^= 1 << int(dice.integers(8))
        path.write_bytes(content)
        found = verdict(sandbox, path)
        assert found is None or BLAME[found[0]] in (Blame.DATA, Blame.RULE), found
    path.write_bytes(whole)
    assert verdict(sandbox, path) is None, "the next one is fine"


def test_a_decoder_that_runs_out_of_memory_is_a_verdict(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.png", np.zeros((11_000, 11_000, 3), np.uint8), compress_level=1)
    with Sandbox(Limits(memory_mb=768, max_image_pixels=200_000_000)) as small:
        assert verdict(small, path) == (Reason.MEMORY_LIMIT, 768.0)
        assert verdict(small, images.save(tmp_path / "y.png")) is None


def test_rows_of_an_image_say_why_it_lacks_what_it_lacks(tmp_path: Path) -> None:
    result = measured_image(images.save(tmp_path / "x.png"))
    table = clips_table("0" * 32, LENIENT, result.clips, {"aesthetic": "not yet"})
    (row,) = table.to_pylist()
    assert (row["kind"], row["end_s"], row["fps"], row["motion"], row["jitter"]) == ("image", None, None, None, None)
    assert (row["motion_why"], row["jitter_why"], row["sharpness_why"]) == ("image", "image", None)
    assert row["motion_by"] and row["jitter_by"] and row["sharpness"] > 0
    assert {"motion_why", "jitter_why"} <= set(frame_columns(["motion", "jitter"])), "measured again, it says so again"
    clip = clip_from_row(row)
    assert clip.kind is Kind.IMAGE
    assert clip_from_row(row | {"kind": None}).kind is Kind.VIDEO, "rows from before there were images"


@given(width=st.integers(1, 90), height=st.integers(1, 90), most=st.integers(16, 64))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_size_is_kept_or_reduced(tmp_path: Path, width: int, height: int, most: int) -> None:
    path = images.save(tmp_path / "x.png", images.picture(width, height))
    plan = replace(LENIENT, images=ImagePlan(min_side=1, max_side=most))
    result = measured_image(path, plan)
    (clip,) = result.clips
    scale = min(1.0, most / max(width, height))
    assert max(clip.width, clip.height) <= most
    assert (clip.width, clip.height) == (max(1, round(width * scale)), max(1, round(height * scale)))
    assert stored(path, as_clips(result)[0]).shape == (clip.height, clip.width, 3)
