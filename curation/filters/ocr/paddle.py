"""Text detection and reading by PaddleOCR itself, on onnxruntime and without PaddlePaddle, for the
`text_area` filter.

PaddleOCR pins numpy and OpenCV against ours, so it lives in an environment of its own
(`deploy/envs/paddle.txt`, made by `make env-paddle`) and the OCR stage's actor is started with that
environment's Python. Nothing here needs more than it holds. The weights are the ONNX files inside the *core*
environment's `rapidocr` package; its folder is passed in.

    python -m curation.filters.ocr.paddle --models DIR --out areas.json frame.png ...

measures pictures and writes one JSON object a line; it is how the tests compare the two engines across
environments.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.errors import UserError
from curation.filters.ocr.base import DETECTOR_FILE, READER_FILE, OcrParameters, above, text_area_fingerprint
from curation.filters.ocr.detector import flushing, flushing_session
from curation.filters.ocr.text_area import TextArea

_DETECTOR = "PP-OCRv6_small_det"
_READER = "PP-OCRv6_small_rec"
_THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}


class PaddleEngine:
    """PP-OCR by PaddleOCR's `TextDetection` and `TextRecognition`. `models`: folder of both ONNX files."""

    def __init__(self, models: Path, parameters: OcrParameters) -> None:
        # PaddleX otherwise asks model hubs for an answer as soon as it is imported.
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
        try:
            from paddleocr import TextDetection, TextRecognition  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                f"PaddleOCR is not in the environment of {sys.executable}",
                "make env-paddle, and set the stage's python to .envs/paddle/bin/python",
            ) from error
        self._flushing = flushing_session(models / DETECTOR_FILE)  # before PaddleOCR makes the first one
        make = functools.partial(_predictor, TextDetection, _DETECTOR, models / DETECTOR_FILE)
        common = {"limit_type": "max", "thresh": parameters.pixel_threshold, "unclip_ratio": parameters.unclip}
        self._detector = make(
            detector_description(parameters, parameters.side),
            limit_side_len=parameters.side,
            box_thresh=parameters.box_threshold,
            **common,
        )
        self._gate = self._reader = None
        if parameters.gate:
            self._gate = make(
                detector_description(parameters, parameters.gate_side),
                limit_side_len=parameters.gate_side,
                box_thresh=above(parameters.gate),
                **common,
            )
        if parameters.reading is not None:
            reader = models / READER_FILE
            self._reader = _predictor(TextRecognition, _READER, reader, reader_description(reader))

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        """See `base.TextEngine`."""
        return _found(self._detector, frame)

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        """See `base.TextEngine`."""
        assert self._gate is not None, "made without a gate: parameters.gate is 0"
        return _found(self._gate, frame)

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        """See `base.TextEngine`."""
        assert self._reader is not None, "made without a reader: parameters.reading is None"
        found = self._reader.predict(crop)[0]
        return str(found["rec_text"]), float(found["rec_score"])


def _found(detector: Any, frame: np.ndarray) -> np.ndarray:
    return np.asarray(flushing(detector.predict, frame)[0]["dt_polys"], dtype=np.int32).reshape(-1, 4, 2)


def _predictor(kind: Any, name: str, model: Path, description: dict[str, Any], **options: Any) -> Any:
    """One of PaddleOCR's predictors, of class `kind`, on onnxruntime; `options` are that class's own."""
    # onnxruntime reads a model into memory, so its folder is not needed once the predictor is made.
    with tempfile.TemporaryDirectory(prefix="ziggurat-ppocr-") as folder:
        write_model_folder(model, Path(folder), description)
        return kind(
            model_name=name,
            model_dir=folder,
            engine="onnxruntime",
            engine_config=_THREADS,
            device="cpu",
            **options,
        )


def write_model_folder(model: Path, folder: Path, description: dict[str, Any]) -> None:
    """Lay out `folder` the way PaddleOCR wants a model: a link to the ONNX file, and its `inference.yml`."""
    (folder / "inference.onnx").symlink_to(model.resolve())
    # JSON is YAML. Unescaped, because YAML does not put a pair of \u escapes together to one character.
    (folder / "inference.yml").write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")


def detector_description(parameters: OcrParameters, side: int) -> dict[str, Any]:
    """What PaddleOCR has to know about the detector: preparing a frame, finding boxes in the answer."""
    return {
        "Global": {"model_name": _DETECTOR},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"DetResizeForTest": {"resize_long": side}},
                {"NormalizeImage": {"mean": parameters.mean, "std": parameters.std, "order": "hwc"}},
                {"ToCHWImage": None},
                {"KeepKeys": {"keep_keys": ["image", "shape"]}},
            ]
        },
        "PostProcess": {"name": "DBPostProcess", "max_candidates": 1000, "use_dilation": False},
    }


def reader_description(model: Path) -> dict[str, Any]:
    """What PaddleOCR has to know about the reader; its alphabet is in the ONNX file's metadata."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    alphabet = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return {
        "Global": {"model_name": _READER},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"MultiLabelEncode": {"gtc_encode": "NRTRLabelEncode"}},
                {"RecResizeImg": {"image_shape": [3, 48, 320]}},
                {"KeepKeys": {"keep_keys": ["image"]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": alphabet},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command in the module's docstring; returns the exit code."""
    parser = argparse.ArgumentParser("curation.filters.ocr.paddle", description="Text areas by PaddleOCR.")
    parser.add_argument("--models", type=Path, required=True, help="the folder `models` of rapidocr")
    parser.add_argument("--out", type=Path, required=True, help="file to write, one JSON object a line")
    parser.add_argument("frames", type=Path, nargs="+", help="pictures, PNG or JPEG")
    options = parser.parse_args(arguments)
    try:
        parameters = OcrParameters()
        identity = text_area_fingerprint("paddleocr", options.models, parameters)
        ocr = TextArea(PaddleEngine(options.models, parameters), parameters, identity)
        with options.out.open("w") as out:
            for path in options.frames:
                frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
                if frame is None:
                    raise UserError(f"{path} is not a picture", "give PNG or JPEG files")
                line = {"frame": str(path), "text_area": ocr.frame_area(frame), "by": ocr.fingerprint}
                out.write(json.dumps(line) + "\n")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
