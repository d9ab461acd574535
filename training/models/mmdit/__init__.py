"""MMDiT: the diffusion transformer over video and text tokens, and its presets."""

from training.models.mmdit.config import PRESETS, MMDiTConfig, preset
from training.models.mmdit.model import MMDiT

__all__ = ["PRESETS", "MMDiT", "MMDiTConfig", "preset"]
