"""PP-OCR's text detector on onnxruntime, for the engine `rapidocr`: one network, asked at two sizes.

The coarse look (`gate`) and the exact one share this session. RapidOCR's own steps are used where they decide what is
found (the size that a frame is reduced to, and the boxes in the network's answer); what is done here instead is the
arithmetic before and the session, because both cost more there:

- A good part of the network's weights and values are denormal, that is below 1.2e-38. A processor computes with them
  many times slower than with others, and they change nothing: flushed to zero, every answer keeps every bit, in less
  than a third of the time (measured: docs/filters.md).
- A pixel has 256 values, so what it becomes is looked up and not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="text-detector")
"""Where denormal numbers are flushed to zero. How a processor takes them is a state of each thread, and no other thread
of the process may find it changed."""

T = TypeVar("T")


def flushing(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a call in the thread that takes denormal numbers for zero, once a `flushing_session` was made."""
    return _THREAD.submit(call, *arguments).result()


def flushing_session(model: Path) -> Any:
    """An onnxruntime session on one thread that takes denormal numbers for zero where it runs by `flushing`.

    onnxruntime follows the wish of the first session of a process only, and for the thread that makes it. So this one
    must be made before any other; where it is not, answers are the same and come later.
    """
    return flushing(_session, model)


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns of names of dimensions
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class Detector:
    """Finds boxes of text in a frame. The arguments are those of `OcrParameters` with the same names."""

    def __init__(
        self,
        model: Path,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        pixel_threshold: float,
        unclip: float,
    ) -> None:
        self._session = flushing_session(model)
        self._input = self._session.get_inputs()[0].name
        self._normal = normalised(mean, std)
        self._pixel_threshold, self._unclip = pixel_threshold, unclip

    def boxes(self, frame: np.ndarray, side: int, confidence: float) -> np.ndarray:
        """Boxes that score `confidence` or more in a BGR frame whose longer side is reduced to `side` pixels at most.

        int32 (n, 4, 2): corners in the frame's own pixels, (x, y), from top left on. None at all in a frame with a side
        that is rounded to no cell of the network's stride of 32.
        """
        from rapidocr.ch_ppocr_det.utils import DBPostProcess, DetPreProcess

        reduced = DetPreProcess(side, "max").resize(frame)
        if reduced is None:
            return np.zeros((0, 4, 2), np.int32)
        (answer,) = flushing(self._session.run, None, {self._input: planes(reduced, self._normal)})
        find = DBPostProcess(
            thresh=self._pixel_threshold,
            box_thresh=confidence,
            unclip_ratio=self._unclip,
            use_dilation=False,
        )
        found, _ = find(answer, frame.shape[:2])
        return np.asarray(found, np.int32).reshape(-1, 4, 2)


def normalised(mean: tuple[float, float, float], std: tuple[float, float, float]) -> np.ndarray:
    """What each value of a pixel becomes, by channel: float32 (3, 256), computed as RapidOCR does for every pixel."""
    levels = np.arange(256, dtype=np.float32) * (1 / 255.0)
    return ((levels[None] - np.array(mean)[:, None]) / np.array(std)[:, None]).astype(np.float32)


def planes(frame: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """A uint8 frame (height, width, 3) as the network wants it: float32 (1, 3, height, width), by `normalised`."""
    return np.stack([cv2.LUT(frame[:, :, channel], normal[channel]) for channel in range(3)])[None]
