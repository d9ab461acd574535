"""Losses of autoencoder training (spec section 1.5): L1 + perceptual first, with a discriminator's hinge loss later.

All reconstruction terms are **summed** over channel, height and width and averaged over frames, as in the public code:
196,608 times the mean at 256x256. That matters only for the gradient's clip, Adam's epsilon and the logged figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Two batches of frames (N, 3, H, W) in [-1, 1] to the distance of each pair (N,), such as LPIPS."""

Gradient = Callable[[Tensor], Tensor]
"""A loss to its gradient at a layer's kernel."""

AdversarialKind = Literal["hinge", "vanilla", "wgan"]


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Scalars. `nll` is the one to train on; the others are its parts, for the log."""

    l1: Tensor
    perceptual: Tensor
    nll: Tensor


def reconstruction_loss(
    video_B3THW: Tensor,
    rebuilt_B3THW: Tensor,
    perceptual: Perceptual | None = None,
    perceptual_weight: float = 0.5,
    logvar: float = 0.0,
) -> Reconstruction:
    """(L1 + weight * perceptual) / exp(logvar) + logvar, every element counted; there is no KL term.

    `perceptual` sees frames, not clips; None trains on L1 alone.
    """
    video, rebuilt = (x.transpose(1, 2).flatten(0, 1) for x in (video_B3THW, rebuilt_B3THW))
    elements = video[0].numel()
    l1 = (video - rebuilt).abs().flatten(1).sum(1).mean()
    distance = perceptual(video, rebuilt).mean() * elements if perceptual else torch.zeros_like(l1)
    variance = torch.full_like(l1, logvar)
    return Reconstruction(l1, distance, (l1 + perceptual_weight * distance) / variance.exp() + variance * elements)


def generator_loss(logits_fake: Tensor) -> Tensor:
    """Low where the discriminator takes the reconstruction for real."""
    return -logits_fake.mean()


def weighted_generator_loss(
    nll: Tensor, logits_fake: Tensor, last_layer: Tensor, weight: float = 0.05, step: int = 0, start: int = 0
) -> Tensor:
    """The generator's loss, weighed so that at `last_layer` it pulls `weight` times as hard as `nll`; 0 before `start`.

    Both losses must still have their graphs, and `last_layer` must not be recomputed by checkpointing.
    """
    loss = generator_loss(logits_fake)
    if step < start:
        return 0.0 * loss
    ratio = adaptive_weight(nll, loss, lambda one: torch.autograd.grad(one, last_layer, retain_graph=True)[0])
    return weight * ratio * loss


def adaptive_weight(nll: Tensor, other: Tensor, gradient: Gradient, most: float = 1e4) -> Tensor:
    """The factor that lets `other` pull at a layer as hard as `nll` does; without gradient (`gradient_ratio`).

    It takes a backward pass of each loss down to the layer, and adds to no `grad`.
    """
    return gradient_ratio(gradient(nll), gradient(other), most)


def gradient_ratio(nll_grad: Tensor, other_grad: Tensor, most: float = 1e4) -> Tensor:
    """|nll| / (|other| + 1e-4) in float32, at most `most`, without gradient: the adaptive weight of VQGAN."""
    return (nll_grad.float().norm() / (other_grad.float().norm() + 1e-4)).clamp(0.0, most).detach()


def discriminator_loss(
    logits_real: Tensor, logits_fake: Tensor, kind: AdversarialKind = "hinge", step: int = 0, start: int = 0
) -> Tensor:
    """0.5 * (mean relu(1 - real) + mean relu(1 + fake)) for "hinge"; 0 before `start`. The fake must be detached."""
    if kind == "hinge":
        real, fake = F.relu(1 - logits_real), F.relu(1 + logits_fake)
    elif kind == "vanilla":
        real, fake = F.softplus(-logits_real), F.softplus(logits_fake)
    else:
        real, fake = -logits_real, logits_fake
    return (0.5 if step >= start else 0.0) * (real.mean() + fake.mean())
