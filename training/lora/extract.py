"""An adapter out of two full models: the best one of a rank, by the singular values of their difference.

    T - W = U S V'  ->  B = U sqrt(S), A = sqrt(S) V' of the R largest (Eckart and Young: no pair of rank R is nearer)

A whole decomposition of a layer of 12288x3072 takes a minute on a core, and there are hundreds; so the R largest are
found by subspace iteration from a drawn start (Halko, Martinsson and Tropp 2011), always the same. Where values fall
off slowly that is some thousandths from the best pair, and exact where the difference has no more than 2 R + 16. The
error that is told is that of the pair that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor

from curation.errors import UserError
from training.lora.adapter import Adapter, Factors
from training.lora.base import fingerprint
from training.lora.targets import check_targets, chosen
from training.models.weights import Tensors, listing

ITERATIONS = 8
"""Twice through the difference each."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """`error`: the norm of what the adapter lacks of a layer's difference, over the norm of the difference."""

    layer: str
    error: float


@dataclass(frozen=True, slots=True)
class Extracted:
    """`error`: as a layer's, over all layers. `left`: tensors that differ and that no factor holds."""

    adapter: Adapter = field(repr=False)
    layers: tuple[LayerError, ...]
    error: float
    left: tuple[str, ...]


def extract(
    base: Tensors, tuned: Tensors, rank: int, targets: Sequence[str], stacked: bool, device: torch.device | str = "cpu"
) -> Extracted:
    """The adapter that turns `base` into `tuned`, in the layers that `targets` names and that differ; alpha = rank.

    UserError: models of other shapes, equal ones, or a rank above a layer's sides.
    """
    check_targets(targets)
    _check_same(base, tuned)
    if rank < 1:
        raise UserError(f"{rank} is no rank", "give a number from 1 on")
    wanted = set(chosen((name.removesuffix(".weight") for name in base.names()), targets, stacked))
    factors: dict[str, Factors] = {}
    told: list[LayerError] = []
    left: list[str] = []
    lost = whole = 0.0
    for name in base.names():
        difference = tuned.read(name).to(device, torch.float32) - base.read(name).to(device, torch.float32)
        if not difference.any():
            continue
        layer = name.removesuffix(".weight")
        if layer == name or layer not in wanted:
            left.append(name)
            continue
        if rank > min(difference.shape):
            cause = f"a rank of {rank} is above {min(difference.shape)}, the smaller side of {layer}"
            raise UserError(cause, "give a smaller --rank")
        factors[layer] = _factors(difference, rank)
        squares = _squares_lost(difference, factors[layer]), float(difference.square().sum())
        told.append(LayerError(layer, sqrt(squares[0] / squares[1])))
        lost, whole = lost + squares[0], whole + squares[1]
    if not factors:
        what = f"in nothing but {listing(left)}" if left else "in nothing"
        raise UserError(f"{tuned.where} differs from {base.where} {what}", "give other models, or other --targets")
    adapter = Adapter(rank=rank, alpha=float(rank), layers=factors, base=fingerprint(base))
    return Extracted(adapter, tuple(told), sqrt(lost / whole), tuple(left))


def _factors(difference_OI: Tensor, rank: int) -> Factors:
    """The best pair, on the CPU."""
    directions = min(2 * rank + 16, *difference_OI.shape)
    with torch.random.fork_rng([difference_OI.device] if difference_OI.is_cuda else []):
        torch.manual_seed(0)
        u_OQ, s_Q, v_IQ = torch.svd_lowrank(difference_OI, directions, niter=ITERATIONS)
    root_R = s_Q[:rank].sqrt()
    a_RI, b_OR = (v_IQ[:, :rank] * root_R).T, u_OQ[:, :rank] * root_R
    return Factors(a_RI.cpu().contiguous(), b_OR.cpu().contiguous())


def _squares_lost(difference_OI: Tensor, factors: Factors) -> float:
    a_RI, b_OR = (factor.to(difference_OI) for factor in factors)
    return float((difference_OI - b_OR @ a_RI).square().sum())


def _check_same(base: Tensors, tuned: Tensors) -> None:
    held, other = set(base.names()), set(tuned.names())
    differ = sorted(held ^ other) or [name for name in base.names() if base.shape(name) != tuned.shape(name)]
    if differ:
        raise UserError(
            f"{tuned.where} is of another network than {base.where}: {listing(differ)}",
            "give two checkpoints of one model, in one layout",
        )
