"""What the autoencoder's training reads of a sample: its frames.

Between the pyramid, whose clips are decoded in the sandbox (`pipelines`), and the batches, which ask for samples by
number. `Clips` is all that the trainer knows of where frames lie: a pyramid, or a list in a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Clips(Protocol):
    """Frames of samples by number."""

    def read(self, samples: Sequence[int]) -> list[NDArray[np.uint8]]:
        """(T, H, W, 3) of each, RGB, fitted to its bucket's frames and sides, in this order. UserError: one is not
        there. It is called in another thread than the network."""
        ...
