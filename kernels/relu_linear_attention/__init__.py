"""ReLU linear attention of EfficientViT, positions last."""

from kernels.relu_linear_attention.op import relu_linear_attention

__all__ = ["relu_linear_attention"]
