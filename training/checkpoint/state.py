"""What a checkpoint holds of each weight: the master, AdamW's two moments and, where there is one, the average.

All are flat float32 tensors: engines cut weights up in different ways, and a run of numbers is what they share. The
shapes are in the head. Neither the state of a random generator nor of a reader is in it, for neither has one: both are
functions of seed and step (`methods.draws`, `data.batches`).
"""

from __future__ import annotations

from torch import Tensor

from training.callbacks.averages import Averages
from training.parallel.base import Engine

WEIGHT, AVERAGE = "weight", "average"
MOMENTS = ("exp_avg", "exp_avg_sq")


def state(engine: Engine, averages: Averages | None) -> dict[str, Tensor]:
    """By `part/name`, sharing memory with what is trained: saved from there, loaded into there."""
    found = _named(engine, WEIGHT, dict(engine.masters()))
    moments = engine.moments()
    for moment in MOMENTS:
        found |= _named(engine, moment, {name: values[moment] for name, values in moments.items()})
    if averages is not None:
        found |= _named(engine, AVERAGE, averages.values)
    return found


def parts(averages: Averages | None) -> tuple[str, ...]:
    return (WEIGHT, *MOMENTS, *([AVERAGE] if averages is not None else []))


def _named(engine: Engine, part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in engine.saved(values).items()}
