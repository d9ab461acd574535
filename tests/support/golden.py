"""Values that the public implementation gave (`../shared/golden`). Where they are absent, a test skips, saying so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.shared import SHARED, need


def path(name: str) -> Path:
    return need(SHARED / "golden" / name)


def table(name: str) -> Any:
    """A JSON table."""
    return json.loads(path(f"{name}.json").read_text())


def tensors(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, settings) of a safetensors file; bfloat16 weights are exact values and come as float32."""
    import torch
    from safetensors import safe_open

    with safe_open(str(path(f"{name}.safetensors")), framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
        settings = {key: _parsed(text) for key, text in (file.metadata() or {}).items()}
    return {key: t.float() if t.dtype == torch.bfloat16 else t for key, t in found.items()}, settings


def below(found: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose name starts with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def close(got: Any, want: Any, atol: float = 1e-4, rtol: float = 1e-4) -> None:
    """The golden README's tolerance for outputs; gradients: atol 1e-5, rtol 1e-3."""
    import torch

    torch.testing.assert_close(got, want, atol=atol, rtol=rtol)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
