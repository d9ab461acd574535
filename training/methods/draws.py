"""Random numbers of a training sample, drawn for it alone: from the seed, the step, the sample, and what they are for.

So neither the rest of its batch, nor the number of ranks, nor a restart changes what is learnt from it. They are drawn
on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import torch


class Draw(StrEnum):
    """What numbers are drawn for."""

    NOISE = "noise"
    TIME = "time"
    KIND = "kind"
    TEXT = "text"
    MODEL = "model"
    STILL = "still"


VALIDATION = -1
"""The step that validation draws for: its noise is the same whenever it runs, and no training step's."""


def generator(seed: int, step: int, sample: int, purpose: Draw) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(number(seed, step, sample, purpose))


def number(seed: int, step: int, sample: int, purpose: Draw) -> int:
    """A seed below 2^63."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{step}:{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
