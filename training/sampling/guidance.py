"""Guidance: how far a sampler's step goes towards the prompt and towards the given images, and what it must compute.

A step combines up to three velocities, of (prompt, images): v(none, none), v(none, given), v(given, given) (spec
section 5). Where a scale is 1 the terms cancel and fewer are needed: with both scales oscillating, 20 of 50 steps need
one pass of the network where the public code runs three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite

import torch
from torch import Tensor

from curation.errors import UserError
from training.tokens import Grid


class Pass(Enum):
    """One forward pass of the network: what it is told."""

    NOTHING = "no prompt, no images"
    IMAGES = "images alone"
    ALL = "prompt and images"


@dataclass(frozen=True, slots=True)
class Guidance:
    """Scales and how they change from step to step. The defaults are the published configuration's.

    An oscillating scale is whole in steps 0 to `whole_steps` - 1 and in even steps after, 1 in the others. The paper
    oscillates the image scale alone, the published configuration both: `oscillate_text=False` is the paper's.
    `dynamic_image`: the image scale falls over the steps and rises over the frames. It is for images: `sample` turns
    it off where a video is given, as the public code does. UserError for a scale that is no finite number.
    """

    text: float = 7.5
    image: float = 3.0
    oscillate_text: bool = True
    oscillate_image: bool = True
    dynamic_image: bool = True
    whole_steps: int = 10

    def __post_init__(self) -> None:
        for name, scale in (("guidance", self.text), ("image guidance", self.image)):
            if not isfinite(scale):
                raise UserError(f"{name} of {scale}", "give a number; 7.5 and, for images, 3 are usual")

    def at(self, step: int, steps: int, latent_frames: int) -> Scales:
        """The scales of a step, counted from 0."""
        text = self.text if self._whole(step) or not self.oscillate_text else 1.0
        image = self.image if self._whole(step) or not self.oscillate_image else 1.0
        if not self.dynamic_image or image <= 1 or latent_frames == 1:
            return Scales(text, image)
        upper = image + (1 - image) * step / steps
        return Scales(text, 1 + (upper - 1) * torch.linspace(0, 1, latent_frames))

    def _whole(self, step: int) -> bool:
        return step < self.whole_steps or step % 2 == 0


@dataclass(frozen=True, slots=True)
class Scales:
    """The scales of one step; `image` may be one of each latent frame, (T,) in float32."""

    text: float
    image: float | Tensor

    def passes(self, conditioned: bool) -> tuple[Pass, ...]:
        """What a step must compute. Not `conditioned`, as for t2v: a pass with images equals the one without."""
        text_off, image_off = self.text == 1, isinstance(self.image, int | float) and self.image == 1
        if text_off and (image_off or not conditioned):
            return (Pass.ALL,)
        if not conditioned:
            return (Pass.NOTHING, Pass.ALL)
        return (Pass.IMAGES, Pass.ALL) if image_off else tuple(Pass)

    def combine(self, velocities: Mapping[Pass, Tensor], grid: Grid) -> Tensor:
        """The step's velocity from those of `passes`, each (B, L, C)."""
        v_all = velocities[Pass.ALL]
        if len(velocities) == 1:
            return v_all
        v_nothing, v_images = velocities.get(Pass.NOTHING), velocities.get(Pass.IMAGES)
        if v_nothing is None or v_images is None:
            base = v_images if v_nothing is None else v_nothing
            assert base is not None
            return base + self.text * (v_all - base)
        image = self.image
        if not isinstance(image, int | float):
            image = image.to(v_all).repeat_interleave(grid.tokens_per_frame)[:, None]
        return combine(v_nothing, v_images, v_all, self.text, image)


def combine(v_nothing: Tensor, v_images: Tensor, v_all: Tensor, text: float, image: float | Tensor) -> Tensor:
    """v(0, 0) + g_img [v(0, img) - v(0, 0)] + g_txt [v(txt, img) - v(0, img)] (section 5)."""
    return v_nothing + image * (v_images - v_nothing) + text * (v_all - v_images)
