"""Video DC-AE: an autoencoder of 4x32x32 and 128 or 256 channels (spec section 1).

`config` sizes and presets, `blocks` and `resample` the parts, `network` encoder and decoder, `autoencoder` the class
that others use, `stats` the scale of its latents.
"""

from training.models.dcae.autoencoder import VideoDcAe
from training.models.dcae.config import PRESETS, DcAeConfig, Tiling, preset
from training.models.dcae.stats import LatentStats, latent_stats

__all__ = ["PRESETS", "DcAeConfig", "LatentStats", "Tiling", "VideoDcAe", "latent_stats", "preset"]
