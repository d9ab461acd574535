"""Full attention, dense and of packed sequences, with its log-sum-exp."""

from kernels.attention.op import attention, attention_varlen, attention_with_lse

__all__ = ["attention", "attention_varlen", "attention_with_lse"]
