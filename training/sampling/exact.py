"""The same bits from the same numbers: how `sampler` has torch compute.

A sum over many numbers depends on how it was shared out, so the number of threads is fixed here, whatever the machine
and its load allow. One thread by default: a count above what the machine grants may be cut down without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact(threads: int = 1) -> Iterator[None]:
    """On a CPU `threads` of them compute, on a GPU cuDNN takes no algorithm whose order of sums changes."""
    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark
    torch.set_num_threads(threads)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
