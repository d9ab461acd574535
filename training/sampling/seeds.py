"""Random numbers of a sample: drawn for it alone, from its seed and what they are for.

`sampler` asks for them wherever it draws. A sample's numbers depend on no other of its batch, and those for one purpose
are not those for another: the noise that a video starts from says nothing of the candidates that a search tries.
They are drawn on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import torch

from curation.errors import UserError

LARGEST = 2**63 - 1


class Purpose(StrEnum):
    """What numbers are drawn for: the start of the walk, a reference's latent, a search's candidates, a drawn image."""

    NOISE = "noise"
    REFERENCE = "reference"
    SEARCH = "search"
    IMAGE = "image"


def checked(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds. UserError for one outside 0 to `LARGEST`, which a generator would not take."""
    for seed in seeds:
        if not 0 <= seed <= LARGEST:
            raise UserError(f"a seed of {seed} is out of range", "give 0 to 2^63 - 1")
    return tuple(seeds)


def generator(seed: int, purpose: Purpose) -> torch.Generator:
    """The numbers of one sample for one purpose. The walk's noise is that of the seed itself, as torch users expect."""
    if purpose is Purpose.NOISE:
        return torch.Generator().manual_seed(seed)
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
