"""The encoder: frames and a caption become a sample as training reads it. `pipelines` runs it over a manifest.

    frames (T, H, W, 3) -> autoencoder -> latent of the clip, latents of its two ends
    caption, rate, motion -> prompt (`prompt.with_suffix`) -> text encoder -> states

One sample at a time, and what is drawn for it (`HunyuanVae` draws from a posterior) is keyed by its number: its bytes
depend on no other sample, so whoever encodes it again gets the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.errors import UserError
from training.data import tensors
from training.data.encoded import Encoded
from training.data.latent_file import Encoders
from training.models import build
from training.models.build import ModelSpec
from training.prompt import measured_motion, with_suffix
from training.sampling.exact import exact


class Encoder:
    """The two encoders of a model. UserError: a package, a file, a preset or a device that is not there."""

    def __init__(self, spec: ModelSpec) -> None:
        self.device, dtype = build.device_of(spec), build.dtype_of(spec)
        self._threads = spec.threads
        self.autoencoder = build.autoencoder(spec.autoencoder, self.device, dtype)
        self.text = build.text(spec.text, self.device, dtype, too_long="truncate")
        self._spec = spec

    @property
    def truncated(self) -> int:
        """How many prompts so far were too long and lost their end."""
        return self.text.truncated

    def about(self) -> Encoders:
        """Who the encoders are. Reads all weights: seconds a gigabyte."""
        with exact(self._threads):
            empty = self.text.encode([""])
        return Encoders(
            autoencoder=build.autoencoder_fingerprint(self.autoencoder),
            text=self.text.fingerprint,
            spec=self.autoencoder.spec,
            latent_type=tensors.name_of(torch.float32),
            text_type=tensors.name_of(empty.tokens_BMD.dtype),
            tokens=(empty.tokens_BMD.shape[1], empty.tokens_BMD.shape[2]),
            pooled=(empty.pooled_BP.shape[1],),
            empty_tokens=tensors.to_bytes(empty.tokens_BMD),
            empty_pooled=tensors.to_bytes(empty.pooled_BP),
        )

    @torch.no_grad()
    def __call__(self, number: int, sample: Mapping[str, Any], frames: np.ndarray, seed: int) -> tuple[Encoded, str]:
        """The sample of this number, on the CPU, and its prompt. `sample`: its row of the manifest; `frames`: (T, H, W,
        3) uint8, RGB, as its bucket has them; `seed`: the manifest's.
        """
        with exact(self._threads):
            video = torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            prompt = prompt_of(sample)
            states = self.text.encode([prompt])
            moving = len(frames) > 1
            encoded = Encoded(
                number,
                self._latent(video, number, seed, "latent"),
                self._latent(video[:, :, :1], number, seed, "head") if moving else None,
                self._latent(video[:, :, -1:], number, seed, "tail") if moving else None,
                states.tokens_BMD[0].cpu(),
                states.pooled_BP[0].cpu(),
            )
        return encoded, prompt

    def _latent(self, video_13THW: Tensor, number: int, seed: int, part: str) -> Tensor:
        digest = hashlib.sha256(f"{part}:{seed}:{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        try:
            return self.autoencoder.encode(video_13THW, generator)[0].float().cpu()
        except torch.OutOfMemoryError as error:
            shape = "x".join(map(str, video_13THW.shape[2:]))
            remedy = 'freeze with smaller buckets, or set run.dtype = "bfloat16" in the model file'
            raise UserError(f"too little memory on {self.device} to encode a clip of {shape}", remedy) from error


def prompt_of(sample: Mapping[str, Any]) -> str:
    """The prompt of a row of the manifest: its caption, and of a video its rate as it is trained and its motion."""
    if sample["bucket_frames"] == 1:
        return with_suffix(sample["caption"], None, None)
    motion = None if sample["motion"] is None else measured_motion(sample["motion"])
    return with_suffix(sample["caption"], sample["bucket_fps"], motion)
