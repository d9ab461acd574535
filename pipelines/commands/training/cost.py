"""`ziggurat cost`: the report's tables computed, or the cost of any shape on any GPU. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from curation.errors import UserError
from training.cost import tables
from training.cost.formulas import gpu_named


@dataclass(frozen=True, slots=True)
class ShapeCost:
    """What was asked, and what it costs. `size`: WIDTHxHEIGHT; `gpus`: those of a step, of the kind in `found`."""

    frames: int
    size: str
    autoencoder: str
    gpus: int
    found: tables.ShapeReport


def check_gpu(name: str) -> None:
    """UserError, listing those known, for another GPU."""
    gpu_named(name)


def report() -> tables.Report:
    """The report's tables."""
    return tables.report()


def cost(
    frames: int,
    size: str,
    autoencoder: str,
    gpu: str,
    gpus: int,
    samples: int,
    step_seconds: float | None,
    dit_seconds: float | None,
) -> ShapeCost:
    """What one shape costs. UserError: a size, a number of frames, an autoencoder or a GPU that is none."""
    parsed = re.fullmatch(r"(\d+)x(\d+)", size)
    if not parsed:
        raise UserError(f"size {size!r}", "write WIDTHxHEIGHT, as in 336x192")
    width, height = int(parsed[1]), int(parsed[2])
    found = tables.shape(
        autoencoder,
        frames,
        height,
        width,
        gpu=gpu,
        gpus=gpus,
        samples=samples,
        step_seconds=step_seconds,
        dit_seconds=dit_seconds,
    )
    return ShapeCost(frames, size, autoencoder, gpus, found)
