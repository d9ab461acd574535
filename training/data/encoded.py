"""What training reads of a sample: its latent, the latents of its ends, and the states of its prompt.

Between the encoder, which writes them (`pipelines`), and the batches, which ask for samples by number. `Source` is all
that the trainer knows of where they lie: a Lance dataset (`latents`), or a list in a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from training.models.base import LatentSpec, TextStates

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample. `sample`: its row in the manifest.

    `latent_CTHW`: of the whole clip, scaled. `head_C1HW`, `tail_C1HW`: of its first and last frame, each encoded as an
    image on its own, so that a condition tells nothing of the other frames; None of an image. `tokens_MD`, `pooled_P`:
    states of the prompt, which ends in its rate and motion (`prompt.with_suffix`).
    """

    sample: int
    latent_CTHW: Tensor
    head_C1HW: Tensor | None
    tail_C1HW: Tensor | None
    tokens_MD: Tensor
    pooled_P: Tensor


class Source(Protocol):
    """Encoded samples by number."""

    @property
    def spec(self) -> LatentSpec:
        """The shape of the latents."""
        ...

    @property
    def empty(self) -> TextStates:
        """The states of an empty prompt, a batch of one: what a dropped prompt is replaced by."""
        ...

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        """The samples of these numbers, in this order. UserError: one is not there."""
        ...
