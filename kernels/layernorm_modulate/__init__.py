"""Modulated LayerNorm, alone and behind a gated residual: the two norms of a transformer block, one pass each."""

from kernels.layernorm_modulate.op import gate_residual_layernorm_modulate, layernorm_modulate

__all__ = ["gate_residual_layernorm_modulate", "layernorm_modulate"]
