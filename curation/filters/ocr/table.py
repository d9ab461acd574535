"""The engines of the text filter by name, and the way to the filter with one of them."""

from __future__ import annotations

from pathlib import Path

from curation.filters.ocr.base import Engine, OcrParameters, shipped_models, text_area_fingerprint
from curation.filters.ocr.text_area import TextArea


def text_area(
    engine: Engine = "rapidocr", models: Path | None = None, parameters: OcrParameters | None = None
) -> TextArea:
    """Make the filter. `models`: the folder of ONNX files, by default that of this environment's `rapidocr`.

    Raises `UserError` where the engine's package or a model is not there.
    """
    models, parameters = models or shipped_models(), parameters or OcrParameters()
    identity = text_area_fingerprint(engine, models, parameters)
    if engine == "rapidocr":
        from curation.filters.ocr.rapid import RapidEngine

        return TextArea(RapidEngine(models, parameters), parameters, identity)
    from curation.filters.ocr.paddle import PaddleEngine

    return TextArea(PaddleEngine(models, parameters), parameters, identity)
