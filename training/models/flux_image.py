"""A still image from a prompt: the first half of text-to-image-to-video (spec section 5, "T2I2V").

Flux draws it, through diffusers, and it becomes the first frame of an image-to-video run. The caller gives the times,
because the public pipeline shifts them as it does a video's, with one latent frame, and not as Flux alone would.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from curation.errors import UserError
from training.models.pretrained import locate_folder, missing_package, pretrained
from training.models.text.tokenizer import Tokens, load_tokenizer

GUIDANCE = 4.0
WHAT = "a Flux pipeline"
AE_CHANNELS, AE_SCALE, AE_SHIFT = 16, 0.3611, 0.1159
T5_TOKENS = 512
SIDE = 16
"""Pixels of a token's side: 8 of the autoencoder, 2 of the patch."""


class ImageModel(Protocol):
    """Draws a prompt: RGB, uint8, (height, width, 3).

    `times`: steps + 1 values from 1 (noise) down to 0, as `training.flow.times` gives them.
    """

    def draw(
        self, prompt: str, height: int, width: int, times: Sequence[float], generator: torch.Generator | None = None
    ) -> np.ndarray: ...


class FluxImage:
    """`ImageModel` by diffusers' `FluxPipeline`, from its folder.

    `guidance`: the scale that a distilled model (Flux-dev) is told; None for one that is not asked for it. A prompt of
    more than 512 T5 tokens is refused. Raises `UserError` where a part is missing or another model's.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        guidance: float | None = GUIDANCE,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        folder = locate_folder(source, WHAT)
        self._tokens = Tokens(locate_folder(folder / "text_encoder_2", WHAT), T5_TOKENS, "error")
        self._pipeline = _pipeline(folder, self._tokens.tokenizer, dtype)
        self._pipeline.set_progress_bar_config(disable=True)
        self._guidance = guidance
        _check(folder, self._pipeline, guidance)
        self.to(device)

    def to(self, device: torch.device | str) -> None:
        """Move all parts: a sampler that needs the memory sends the model away and fetches it back."""
        self._pipeline.to(device)

    def draw(
        self, prompt: str, height: int, width: int, times: Sequence[float], generator: torch.Generator | None = None
    ) -> np.ndarray:
        """See `ImageModel`. `UserError` for sides that are no multiples of 16, or a prompt that is too long."""
        if height % SIDE or width % SIDE:
            raise UserError(f"an image of {height}x{width} does not fit Flux", f"sides are multiples of {SIDE}")
        levels = [float(t) for t in times]
        falls = all(a > b for a, b in itertools.pairwise(levels))
        assert len(levels) > 1 and levels[0] <= 1 and levels[-1] == 0 and falls, f"not a sampler's times: {levels}"
        self._tokens([prompt])
        (image,) = self._pipeline(
            prompt,
            height=height,
            width=width,
            num_inference_steps=len(levels) - 1,
            sigmas=levels[:-1],  # the scheduler adds the last zero
            guidance_scale=self._guidance or 0.0,
            generator=generator,
            max_sequence_length=T5_TOKENS,
            output_type="np",
        ).images
        return np.rint(image * 255).astype(np.uint8)


def _pipeline(folder: Path, t5_tokenizer: Any, dtype: torch.dtype) -> Any:
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
        from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
        from transformers import CLIPTextModel, T5EncoderModel
    except ImportError as error:
        raise missing_package(error) from error

    def part(name: str, model: Any) -> Any:
        return pretrained(model, locate_folder(folder / name, WHAT), f"Flux's {name}", dtype=dtype)

    return FluxPipeline(
        # The folder's own scheduler would shift the given times once more.
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=part("vae", AutoencoderKL),
        text_encoder=part("text_encoder", CLIPTextModel),
        tokenizer=load_tokenizer(folder / "text_encoder"),
        text_encoder_2=part("text_encoder_2", T5EncoderModel),
        tokenizer_2=t5_tokenizer,
        transformer=part("transformer", FluxTransformer2DModel),
    )


def _check(folder: Path, pipeline: Any, guidance: float | None) -> None:
    """That the autoencoder is Flux's, and that guidance is given where, and only where, the transformer reads it."""
    config = pipeline.vae.config
    found = (config.latent_channels, config.scaling_factor, config.shift_factor)
    if found != (AE_CHANNELS, AE_SCALE, AE_SHIFT):
        wanted = f"{AE_CHANNELS} channels, scale {AE_SCALE} and shift {AE_SHIFT}"
        raise UserError(f"the autoencoder in {folder} is not Flux's: {found}", f"it has {wanted}")
    if pipeline.transformer.config.in_channels != AE_CHANNELS * 4:
        raise UserError(f"the transformer in {folder} does not read Flux's latents", "give a text-to-image Flux")
    if pipeline.transformer.config.guidance_embeds != (guidance is not None):
        reads = "reads a guidance scale" if guidance is None else "reads no guidance scale"
        raise UserError(f"the transformer in {folder} {reads}", "give one for Flux-dev, and none for Flux-schnell")
