"""RMS norm of query and key heads and their rotary embedding, in one pass over both."""

from kernels.qk_norm_rope.op import qk_norm_rope

__all__ = ["qk_norm_rope"]
