"""On what a worker that encodes computes: `pipelines.encode` and `stream` ask here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.execution.cluster import Resources

if TYPE_CHECKING:
    from training.models.build import ModelSpec


def placed(model: ModelSpec, there: Resources) -> tuple[ModelSpec, float]:
    """The model on the device that a worker has, and the GPUs of a worker."""
    if model.device == "cpu" or (model.device == "auto" and not there.gpus):
        return replace(model, device="cpu"), 0.0
    return replace(model, device="cuda"), 1.0
