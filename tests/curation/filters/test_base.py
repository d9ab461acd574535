"""A measurement is a finite number or a reason; weights are hashed by content; base stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curation.filters.base import ScoreValue, weights_hash


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_is_a_finite_number(value: float) -> None:
    with pytest.raises(AssertionError):
        ScoreValue(value)


def test_a_measurement_has_a_value_or_a_reason_and_not_both() -> None:
    assert ScoreValue(0.0).why is None
    assert ScoreValue(None, "too small").value is None
    with pytest.raises(AssertionError):
        ScoreValue(None)
    with pytest.raises(AssertionError):
        ScoreValue(1.0, "too small")


def test_weights_are_known_by_content_and_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    assert weights_hash(one) == weights_hash(two)
    before = weights_hash(one)
    one.write_bytes(b"other weights")
    assert weights_hash(one) != before


def test_no_filter_imports_anything_heavy_before_it_is_made() -> None:
    code = (
        "import sys, curation.filters.base, curation.filters.ocr.table, curation.filters.ocr.paddle,"
        " curation.filters.aesthetic as a;"
        "print([m for m in ('torch', 'open_clip', 'rapidocr', 'onnxruntime', 'paddleocr', 'ray', 'pyarrow')"
        " if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
