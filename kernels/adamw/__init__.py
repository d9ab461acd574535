"""AdamW on a flat shard of float32 master parameters, with the model's copy written in the same pass."""

from kernels.adamw.op import adamw

__all__ = ["adamw"]
