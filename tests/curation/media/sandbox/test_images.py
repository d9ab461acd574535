"""Image files and cut clips become pixels in the confined child, and a bad one costs nobody else anything."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from curation.contract import Reason, Verdict
from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox.images import filling
from curation.media.sandbox.sandbox import Fit, Sandbox
from pipelines.sampling.pictures import read_mp4
from tests.support import media
from tests.support.measuring import FAST, as_clips, measured

LIMITS = Limits(memory_mb=1024, max_pixels=1000 * 1000, max_image_pixels=1000 * 1000)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as made:
        yield made


def file(picture: np.ndarray, kind: str = ".jpg") -> bytes:
    return cv2.imencode(kind, picture)[1].tobytes()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG file with a huge size in its header."""
    whole = file(picture(8, 8), ".png")
    header = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp"])
def test_a_picture_is_what_opencv_makes_of_it(sandbox: Sandbox, kind: str) -> None:
    one, other = file(picture(30, 41), kind), file(picture(50, 17), kind)
    for found, content in zip(sandbox.pictures([one, other], "a"), [one, other], strict=True):
        assert found is not None
        np.testing.assert_array_equal(found, cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))


def test_what_is_no_picture_is_none_and_its_neighbours_are_fine(sandbox: Sandbox) -> None:
    good = file(picture(20, 20))
    bad = [b"", b"no picture", good[:40], png_that_claims(60_000, 60_000), file(picture(1001, 1000))]
    found = sandbox.pictures([good, *bad, good], "mixed")
    assert [made is not None for made in found] == [True, *[False] * len(bad), True]


def test_no_pictures_are_none(sandbox: Sandbox) -> None:
    assert sandbox.pictures([], "nothing") == ()


def test_a_decoder_that_dies_gives_none_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGGURAT_FAULTS", "1")
    with Sandbox(LIMITS) as made:
        assert made.pictures([file(picture(9, 9))] * 2, "fault-segfault") == (None, None)
        assert made.pictures([file(picture(9, 9))], "innocent")[0] is not None


def test_frames_of_a_cut_clip_are_those_of_the_clip(sandbox: Sandbox) -> None:
    path = media.sample("plain.mp4")
    (_, content), *_ = sandbox.cut(path, path.name, as_clips(measured(path))[:1], MediaPlan(), FAST).media
    whole = read_mp4(content)
    np.testing.assert_array_equal(np.stack(sandbox.frames(content, "a", 0, len(whole) + 9))[..., ::-1], whole)
    np.testing.assert_array_equal(np.stack(sandbox.frames(content, "a", 5, 3))[..., ::-1], whole[5:8])
    assert sandbox.frames(content, "a", len(whole), 3) == ()
    assert sandbox.frames(b"no clip", "a", 0, 3) == ()
    assert sandbox.level is not None and sandbox.measure(path, path.name, MediaPlan()).verdict is None


def test_what_a_network_reads_of_a_clip(sandbox: Sandbox) -> None:
    path = media.sample("plain.mp4")
    (_, content), *_ = sandbox.cut(path, path.name, as_clips(measured(path))[:1], MediaPlan(), FAST).media
    whole = read_mp4(content)
    height, width = whole.shape[1:3]
    same = sandbox.fitted(content, "a", Fit(False, 3, 5, height, width))
    np.testing.assert_array_equal(same, whole[0:15:3])
    small = sandbox.fitted(content, "a", Fit(False, 1, 2, 64, 64))
    left = (width - height) // 2
    square = whole[:2, :, left : left + height]
    expected = [cv2.resize(one, (64, 64), interpolation=cv2.INTER_AREA) for one in square]
    np.testing.assert_array_equal(small, np.stack(expected))
    last = len(whole) - 1
    assert isinstance(sandbox.fitted(content, "a", Fit(False, last, 2, 64, 64)), np.ndarray)
    short = sandbox.fitted(content, "a", Fit(False, last + 1, 2, 64, 64))
    assert isinstance(short, Verdict) and short.reason is Reason.OTHER_FRAMES and short.measured == 1
    assert isinstance(sandbox.fitted(b"no clip", "a", Fit(False, 1, 2, 64, 64)), Verdict)


def test_what_a_network_reads_of_an_image(sandbox: Sandbox) -> None:
    bgr = picture(40, 60)
    found = sandbox.fitted(file(bgr, ".png"), "a", Fit(True, 1, 1, 40, 60))
    np.testing.assert_array_equal(found, bgr[None, ..., ::-1])
    assert isinstance(sandbox.fitted(b"no image", "a", Fit(True, 1, 1, 40, 60)), Verdict)
    assert isinstance(sandbox.fitted(file(picture(1001, 1000)), "a", Fit(True, 1, 1, 40, 60)), Verdict)


@pytest.mark.parametrize("size", [(8, 8), (16, 48), (48, 16), (200, 100), (31, 90)])
def test_a_picture_fills_any_size_from_its_middle(size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], (31, 90, 3))
    made = filling(ramp, *size)
    assert made.shape == (*size, 3)
    assert abs(float(made.mean()) - float(ramp.mean())) < 4


def test_a_decoder_that_dies_over_a_clip_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGGURAT_FAULTS", "1")
    with Sandbox(LIMITS) as made:
        died = made.fitted(file(picture(9, 9)), "fault-segfault", Fit(True, 1, 1, 8, 8))
        assert isinstance(died, Verdict) and died.reason is Reason.CRASHED
