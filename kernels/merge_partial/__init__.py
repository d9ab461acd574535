"""Attention over parts of the keys, merged into attention over all of them."""

from kernels.merge_partial.op import merge_partial

__all__ = ["merge_partial"]
