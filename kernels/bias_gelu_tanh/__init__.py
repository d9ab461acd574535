"""Bias and tanh GELU in one pass: the middle of an MLP."""

from kernels.bias_gelu_tanh.op import bias_gelu_tanh

__all__ = ["bias_gelu_tanh"]
