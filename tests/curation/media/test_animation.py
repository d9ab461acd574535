"""Animated GIF, PNG, WebP and AVIF are videos: every frame, at its time, in both passes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image

from curation.contract import Kind, Reason
from curation.media import animation
from curation.media.animation import as_film
from curation.media.measure import measure
from curation.media.plan import Encode, Limits, MediaPlan, Rules
from curation.media.probe import Unfit, open_media
from curation.media.sandbox.sandbox import Sandbox
from tests.support import images, media
from tests.support.measuring import LENIENT, MAX_PIXELS, as_clips, cuts, measured

MANY = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("animations")
    for name in ("a.webp", "a.png", "a.gif", "a.avif"):
        images.animation(made / name, images.rolling(MANY))
    return made


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(memory_mb=1024)) as made:
        yield made


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    with as_film(path, MAX_PIXELS, lambda frames: None) as film, open_media(film.path) as (container, stream):
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.avif"])
def test_an_animation_is_a_video_whatever_its_name_is(folder: Path, sandbox: Sandbox, name: str) -> None:
    for as_image in (False, True):
        found = sandbox.measure(folder / name, name, LENIENT, as_image=as_image)
        assert found.verdict is None and found.facts is not None
        (clip,) = found.clips
        assert (clip.kind, clip.frames, clip.fps, clip.end_s) == (Kind.VIDEO, MANY, 25.0, pytest.approx(2.4))
        assert clip.motion and found.tally.decoded == MANY
        assert found.facts.codec == {"png": "apng"}.get(name[2:], name[2:])
    result = measured(folder / name)
    assert tuple(result.clips) == found.clips, "the same again"
    done = sandbox.cut(folder / name, name, as_clips(result), LENIENT, Encode(preset="ultrafast", crf=5))
    assert done.verdict is None
    with av.open(io.BytesIO(done.media[0][1]), "r") as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == MANY
    for picture, wanted in zip(pictures, images.rolling(MANY), strict=True):
        assert np.abs(picture.astype(int) - wanted).mean() < 12, "every frame at its place"


def test_the_film_of_a_webp_holds_each_frame_as_it_is_at_its_time(tmp_path: Path) -> None:
    frames = images.rolling(5)
    path = images.animation(tmp_path / "x.webp", frames, [40, 5, 200, 80, 70])
    times, pictures = zip(*frames_of(path), strict=True)
    assert times == pytest.approx([0, 0.04, 0.14, 0.34, 0.42]), "10 ms or less are 100, as in browsers"
    assert all(np.array_equal(one, other) for one, other in zip(pictures, frames, strict=True))


@pytest.mark.parametrize("rate", [24, 30])
def test_rates_that_no_millisecond_divides_come_out_as_they_are(tmp_path: Path, rate: int) -> None:
    many = rate * 5 // 2
    path = images.at_rate(images.animation(tmp_path / "x.avif", images.rolling(many, 32, 32)), rate)
    times = [time for time, _ in frames_of(path)]
    assert times == pytest.approx([number / rate for number in range(many)], abs=0.0006)
    facts = measured(path).facts
    assert (facts.fps, facts.duration_s) == (pytest.approx(rate, abs=0.01), pytest.approx(2.5, abs=0.001))


def test_frames_are_turned_as_exif_says(tmp_path: Path) -> None:
    exif, frames = Image.Exif(), images.rolling(MANY)
    exif[ExifTags.Base.Orientation] = 6
    stored = [np.ascontiguousarray(np.rot90(frame)) for frame in frames]
    path = images.animation(tmp_path / "x.webp", stored, exif=exif.tobytes())
    found = [picture for _, picture in frames_of(path)]
    assert all(np.array_equal(one, other) for one, other in zip(found, frames, strict=True))
    facts = measured(path).facts
    assert (facts.width, facts.height) == (64, 48)


def test_the_same_bytes_make_the_same_film(folder: Path) -> None:
    films = []
    for _ in range(2):
        with as_film(folder / "a.webp", MAX_PIXELS, lambda frames: None) as film, open_media(film.path) as (made, _):
            films.append([(packet.pts, bytes(packet)) for packet in made.demux(video=0)])
    assert films[0] == films[1] and len(films[0]) > MANY


def test_transparent_frames_keep_their_alpha_for_the_passes(tmp_path: Path) -> None:
    frames = [np.dstack([one, np.full(one.shape[:2], 255, np.uint8)]) for one in images.rolling(MANY)]
    for frame in frames:
        frame[:10, :, 3] = 0
    path = images.animation(tmp_path / "x.webp", frames, exact=True)
    result = measured(path, LENIENT)
    (content,), _ = cuts(path, as_clips(result))
    with av.open(io.BytesIO(content), "r") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    top = picture[: result.clips[0].height - 38] if result.clips[0].height > 38 else np.zeros(1)
    assert top.mean() < 20, "over black, as every video"


def verdict(path: Path, plan: MediaPlan = LENIENT, max_pixels: int = MAX_PIXELS) -> Reason:
    with pytest.raises(Unfit) as caught:
        list(measure(path, plan, max_pixels))
    return caught.value.verdict.reason


def test_rules_judge_the_animation_and_not_its_film(folder: Path) -> None:
    bits = (folder / "a.webp").stat().st_size * 8 / (64 * 48 * MANY)
    assert measured(folder / "a.webp", MediaPlan(Rules(min_bpp=bits * 0.99))).facts.bpp == pytest.approx(bits)
    assert verdict(folder / "a.webp", MediaPlan(Rules(min_bpp=bits * 1.01))) is Reason.LOW_BPP
    assert verdict(folder / "a.webp", MediaPlan(Rules(min_duration_s=3))) is Reason.TOO_SHORT


def test_bombs_and_damage(folder: Path, tmp_path: Path) -> None:
    assert verdict(folder / "a.webp", max_pixels=64 * 48 - 1) is Reason.TOO_MANY_PIXELS
    content = (folder / "a.webp").read_bytes()
    (tmp_path / "x.webp").write_bytes(content[: len(content) // 2])
    assert verdict(tmp_path / "x.webp") is Reason.BROKEN
    huge = bytearray(content)
    huge[24:30] = (16383).to_bytes(3, "little") * 2
    (tmp_path / "x.webp").write_bytes(huge)
    assert verdict(tmp_path / "x.webp") is Reason.TOO_MANY_PIXELS


def test_a_film_too_large_for_memory_is_told_with_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (6, 320, 320, 3)).astype(np.uint8))
    monkeypatch.setattr(animation, "_MOST_BYTES", 1 << 20)
    with pytest.raises(Unfit) as caught:
        list(measure(images.animation(tmp_path / "x.webp", frames, 6000), LENIENT, MAX_PIXELS))
    found = caught.value.verdict
    assert (found.reason, found.measured) == (Reason.MEMORY_LIMIT, 1.0)
    assert "of 6 frames make a lossless film of more than 1 MiB" in found.detail


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.avif"])
def test_no_gpu_is_asked_to_decode_an_animation(folder: Path, name: str) -> None:
    with as_film(folder / name, MAX_PIXELS, lambda frames: None) as film:
        assert film.plan(MediaPlan(hwaccel="cuda")).hwaccel == "none"
    with as_film(media.sample("plain.mp4"), MAX_PIXELS, lambda frames: None) as film:
        assert film.plan(MediaPlan(hwaccel="cuda")) == MediaPlan(hwaccel="cuda")


def test_a_gif_of_one_frame_is_too_short(tmp_path: Path) -> None:
    assert verdict(images.save(tmp_path / "x.gif"), MediaPlan()) is Reason.TOO_SHORT
