"""Environments of their own that some stages need. A test that needs one skips without it, and says how to make it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def paddle_python() -> Path:
    """The Python of PaddleOCR's environment: `ZIGGURAT_PADDLE_PYTHON`, or what `make env-paddle` made."""
    python = Path(os.environ.get("ZIGGURAT_PADDLE_PYTHON", ROOT / ".envs" / "paddle" / "bin" / "python"))
    if not python.exists():
        pytest.skip("no PaddleOCR environment: make env-paddle, or set ZIGGURAT_PADDLE_PYTHON")
    return python


def vllm_python() -> Path:
    """The Python of vLLM's environment: `ZIGGURAT_VLLM_PYTHON`, or what `make env-vllm` made."""
    python = Path(os.environ.get("ZIGGURAT_VLLM_PYTHON", ROOT / ".envs" / "vllm" / "bin" / "python"))
    if not python.exists():
        pytest.skip("no vLLM environment: make env-vllm, or set ZIGGURAT_VLLM_PYTHON")
    return python
