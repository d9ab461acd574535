"""Kernels run on a GPU where there is one, else in Triton's interpreter, asked for before Triton comes in.

The choice is the process's: with other tests beside it, this folder is run by itself (`make kernels`).
"""

from __future__ import annotations

import os
import sys

import pytest

torch = pytest.importorskip("torch")

if not torch.cuda.is_available():
    assert "triton" not in sys.modules or os.environ.get("TRITON_INTERPRET") == "1", "run tests/kernels by themselves"
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)

pytest.importorskip("triton")


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
