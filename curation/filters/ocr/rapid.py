"""The engine `rapidocr`: PP-OCR on onnxruntime, with the weights that its package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curation.filters.ocr.base import DETECTOR_FILE, READER_FILE, OcrParameters, above
from curation.filters.ocr.detector import Detector


class RapidEngine:
    """PP-OCR's detector on onnxruntime and its recogniser by RapidOCR. `models`: the folder with both ONNX files."""

    def __init__(self, models: Path, parameters: OcrParameters) -> None:
        from rapidocr import RapidOCR

        self._parameters = parameters
        self._detector = Detector(
            models / DETECTOR_FILE, parameters.mean, parameters.std, parameters.pixel_threshold, parameters.unclip
        )
        self._engine = RapidOCR(
            params={
                # Its log goes to standard output and warns of every frame without text.
                "Global.log_level": "critical",
                # A crop is read as it is: enlarged to a size of its own it reads as something else.
                "Global.use_preprocess_img": False,
                "Global.use_vertical_padding": False,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                # With an explicit path it neither looks for nor downloads a model.
                "Rec.model_path": str(models / READER_FILE),
            }
        )

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        return self._detector.boxes(frame, self._parameters.side, self._parameters.box_threshold)

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        return self._detector.boxes(frame, self._parameters.gate_side, above(self._parameters.gate))

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        found = self._engine(crop, use_det=False, use_cls=False, use_rec=True)
        texts, scores = getattr(found, "txts", None), getattr(found, "scores", None)
        return (str(texts[0]), float(scores[0])) if texts and scores else ("", 0.0)
