"""The Video DC-AE with the settings and weights of a golden file."""

from __future__ import annotations

from typing import Any

from tests.support import golden
from training.models.dcae import DcAeConfig, Tiling, VideoDcAe


def config_of(public: dict[str, Any], **tiling: Any) -> DcAeConfig:
    """Ours for the public code's settings."""
    return DcAeConfig(
        latent_channels=public["latent_channels"],
        widths=tuple(public["width"]),
        blocks=tuple("res" if block == "ResBlock" else "vit" for block in public["blocks"]),
        encoder_depths=tuple(public["encoder_depth"]),
        decoder_depths=tuple(public["decoder_depth"]),
        halve_time=tuple(public["temporal_resample"][:-1]),
        latent_std=public["scaling_factor"] or 1.0,
        tiling=Tiling(
            pixels=public["spatial_tile"], frames=public["temporal_tile"], overlap=public["tile_overlap"], **tiling
        ),
    )


def model_of(name: str, **tiling: Any) -> tuple[VideoDcAe, dict[str, Any]]:
    found, settings = golden.tensors(name)
    model = VideoDcAe(config_of(settings["config"], **tiling))
    model.load_state_dict(golden.below(found, "weight."))
    return model.eval(), found
