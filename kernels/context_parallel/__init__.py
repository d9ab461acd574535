"""Attention over a sequence that is split among the ranks of a process group.

Each rank holds a contiguous chunk of the tokens; chunks may differ in length. Which tokens they are does not matter to
full attention, so text and video may be split each by itself.
"""

from kernels.context_parallel.chunks import even_lengths, stream_lengths
from kernels.context_parallel.heads import heads_attention
from kernels.context_parallel.ring import ring_attention

__all__ = ["even_lengths", "heads_attention", "ring_attention", "stream_lengths"]
