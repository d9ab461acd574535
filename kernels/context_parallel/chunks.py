"""How many tokens each rank of a context-parallel group holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch.distributed as dist


def even_lengths(total: int, ranks: int) -> tuple[int, ...]:
    """Contiguous chunks as even as can be, the longer ones first."""
    least, longer = divmod(total, ranks)
    return tuple(least + (rank < longer) for rank in range(ranks))


def stream_lengths(text: int, video: int, ranks: int) -> list[tuple[int, int]]:
    """(text, video) tokens of each rank, when text then video, as one sequence, is split in even chunks.

    The first ranks hold the text. A rank may be left without video tokens where there is much text: the caller that
    needs some on every rank looks for a 0.
    """
    ends = list(accumulate(even_lengths(text + video, ranks)))
    texts = [min(end, text) - min(start, text) for start, end in zip([0, *ends], ends, strict=False)]
    return [(t, n - t) for t, n in zip(texts, even_lengths(text + video, ranks), strict=True)]


def agreed(lengths: Sequence[int] | None, own: int, group: dist.ProcessGroup) -> tuple[int, ...]:
    """The tokens of every rank, in rank order: `lengths`, or as many as here if None. ValueError if they do not fit."""
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    known = (own,) * ranks if lengths is None else tuple(lengths)
    if len(known) != ranks or known[rank] != own:
        raise ValueError(f"context parallel: rank {rank} of {ranks} holds {own} tokens, but lengths say {known}")
    return known
