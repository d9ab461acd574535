"""The shapes that training gives every op, with inputs for them: what the tuner and the GPU benchmark run.

Shapes are those of the buckets of stage 1 (256 px, one rank) and stage 3 (768 px, four ranks that exchange heads) of
the transformer, and those of the Video DC-AE. The plain torch that an op is held against is its reference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WIDTH, HEADS, HEAD_DIM, MLP_WIDTH = 3072, 24, 128, 12288
FUSED_WIDTH = 3 * WIDTH + MLP_WIDTH
"""A single block's projection: queries, keys, values and the MLP, read in place."""
ADAMW = {"step": 1, "lr": 1e-5}
DIRECTIONS = ("forward", "backward")

FOLDERS = {"gate_residual_layernorm_modulate": "layernorm_modulate"}
"""Where an op lives that has no folder of its name."""


@dataclass(frozen=True, slots=True)
class Workload:
    """An op at one shape. `inputs` makes its arguments on a device; tensors that get a gradient ask for it.

    `flops` and `traffic` (bytes that must be moved): of the forward and of the backward pass; traffic 0 where there is
    no such pass. Where `flops` is 0, memory is the limit.
    """

    op: str
    name: str
    inputs: Callable[[str], tuple[Any, ...]]
    traffic: tuple[float, float]
    flops: tuple[float, float] = (0.0, 0.0)

    @property
    def directions(self) -> tuple[str, ...]:
        return DIRECTIONS if self.traffic[1] else DIRECTIONS[:1]


def kernel(op: str) -> Callable[..., tuple[Tensor, ...]]:
    """The op as a function of a workload's inputs to a tuple of results. ImportError where it does not exist."""
    function = getattr(importlib.import_module(f"kernels.{FOLDERS.get(op, op)}"), op)
    if op == "adamw":
        return lambda *x: (function(*x, **ADAMW), x[0], x[4])[1:]
    if op == "merge_partial":
        return lambda *x: (function(*x), *x[:2])[1:]
    return lambda *x: _tuple(function(*x))


def plain(op: str) -> Callable[..., tuple[Tensor, ...]]:
    """The op's reference, likewise: torch that autograd differentiates."""
    module = importlib.import_module(f"kernels.{FOLDERS.get(op, op)}.reference")
    if op == "adamw":
        return lambda *x: (module.adamw(*x, None, ADAMW["lr"], 0.9, 0.999, 1e-15, 0.0, ADAMW["step"]), x[0], x[4])[1:]
    if op == "merge_partial":
        return module.merge
    if op == "attention":
        return lambda q, k, v: (module.forward(q, k, v, q.shape[-1] ** -0.5)[0],)
    function = getattr(module, op)
    return lambda *x: _tuple(function(*x))


def attention(name: str, batch: int, tokens: int, heads: int = HEADS) -> Workload:
    """4 L^2 D operations a head forward; backward two products and a half as many again (FlashAttention's count)."""
    shape = (batch, tokens, heads, HEAD_DIM)
    elements = batch * tokens * heads * HEAD_DIM
    forward = 4.0 * tokens * elements
    traffic = (8.0 * elements, 16.0 * elements)
    return Workload(
        "attention", name, lambda device: _leaves(device, shape, shape, shape), traffic, (forward, 2.5 * forward)
    )


def merge_partial(name: str, batch: int, tokens: int, heads: int = HEADS) -> Workload:
    shape = (batch, tokens, heads, HEAD_DIM)

    def inputs(device: str) -> tuple[Tensor, ...]:
        out_b = torch.randn(shape, device=device, dtype=torch.bfloat16)
        lse = torch.randn((2, batch, heads, tokens), device=device)
        return torch.randn(shape, device=device), lse[0], out_b, lse[1]

    return Workload("merge_partial", name, inputs, (10.0 * batch * tokens * heads * HEAD_DIM, 0.0))


def qk_norm_rope(name: str, batch: int, tokens: int) -> Workload:
    """Queries and keys in place in the fused projection; the angles in float32 for all heads."""

    def inputs(device: str) -> tuple[Any, ...]:
        projection = torch.randn((batch, tokens, FUSED_WIDTH), device=device, dtype=torch.bfloat16)
        q, k = projection[..., : 2 * WIDTH].unflatten(-1, (2, HEADS, HEAD_DIM)).unbind(2)
        angles = torch.rand((tokens, HEAD_DIM // 2), device=device)
        scales = torch.randn((2, HEAD_DIM), device=device, dtype=torch.bfloat16)
        leaves = tuple(x.detach().requires_grad_() for x in (q, k, *scales))
        return *leaves, angles.cos(), angles.sin(), True

    elements = 2.0 * batch * tokens * WIDTH
    return Workload("qk_norm_rope", name, inputs, (4 * elements, 6 * elements))


def layernorm_modulate(name: str, batch: int, tokens: int) -> Workload:
    shape, vector = (batch, tokens, WIDTH), (batch, WIDTH)
    elements = float(batch * tokens * WIDTH)
    return Workload(
        "layernorm_modulate", name, lambda device: _leaves(device, shape, vector, vector), (4 * elements, 6 * elements)
    )


def gate_residual_layernorm_modulate(name: str, batch: int, tokens: int) -> Workload:
    shape, vector = (batch, tokens, WIDTH), (batch, WIDTH)
    elements = float(batch * tokens * WIDTH)
    return Workload(
        "gate_residual_layernorm_modulate",
        name,
        lambda device: _leaves(device, shape, shape, vector, vector, vector),
        (8 * elements, 12 * elements),
    )


def bias_gelu_tanh(name: str, batch: int, tokens: int) -> Workload:
    shape = (batch, tokens, MLP_WIDTH)
    elements = float(batch * tokens * MLP_WIDTH)
    return Workload(
        "bias_gelu_tanh", name, lambda device: _leaves(device, shape, (MLP_WIDTH,)), (4 * elements, 6 * elements)
    )


def relu_linear_attention(name: str, batch: int, heads: int, positions: int) -> Workload:
    """Queries, keys and values in place in the projection; forward reads 3 and writes 1, backward reads 4, writes 3."""

    def inputs(device: str) -> tuple[Tensor, ...]:
        projection = torch.randn((batch, heads, 3, 32, positions), device=device, dtype=torch.bfloat16)
        return tuple(x.detach().requires_grad_() for x in projection.unbind(2))

    elements = float(batch * heads * 32 * positions)
    return Workload("relu_linear_attention", name, inputs, (8 * elements, 14 * elements))


def adamw(name: str, parameters: int) -> Workload:
    """In place: parameters, gradient in bf16, both moments, and the copy in bf16."""

    def inputs(device: str) -> tuple[Any, ...]:
        params, m = torch.randn((2, parameters), device=device).unbind(0)
        grad = torch.randn(parameters, device=device, dtype=torch.bfloat16)
        return params, grad, m, torch.rand(parameters, device=device), torch.empty_like(grad)

    return Workload("adamw", name, inputs, (28.0 * parameters, 0.0))


def all_workloads() -> list[Workload]:
    """Of every op, the shapes that matter most first. Tokens: 512 of text and the video's (spec tables 4 and 5)."""
    fused = (qk_norm_rope, layernorm_modulate, gate_residual_layernorm_modulate, bias_gelu_tanh)
    ranks = {"256px A, batch 12": (12, 2816), "768px D, batch 2, a rank of 4": (2, 19136)}
    return [
        attention("768px D, batch 2, 6 heads of a rank of 4", 2, 76544, 6),
        attention("256px A, batch 12", 12, 2816),
        attention("256px D, batch 3", 3, 8960),
        attention("DC-AE 768px 128 f, batch 2", 2, 18944),
        attention("768px A, batch 6, 6 heads of a rank of 4", 6, 21248, 6),
        attention("256px B, batch 6", 6, 4864),
        attention("256px C, batch 4", 4, 6912),
        attention("256px image, batch 45", 45, 768),
        attention("1024px image, batch 7", 7, 4608),
        attention("768px image, batch 13", 13, 2816),
        attention("768px image, batch 38, 6 heads of a rank of 4", 38, 2816, 6),
        attention("768px B, batch 4, 6 heads of a rank of 4", 4, 39680, 6),
        attention("768px C, batch 3, 6 heads of a rank of 4", 3, 58112, 6),
        merge_partial("768px D, batch 2, a rank of 4", 2, 19136),
        *(make(name, *sizes) for make in fused for name, sizes in ranks.items()),
        relu_linear_attention("DC-AE 32x256x256, 512 channels", 1, 32, 32 * 32 * 32),
        relu_linear_attention("DC-AE 32x256x256, 1024 channels", 1, 64, 16 * 16 * 16),
        relu_linear_attention("DC-AE 32x768x768, 512 channels", 1, 32, 32 * 96 * 96),
        adamw("500 M parameters", 500_000_000),
    ]


def _leaves(device: str, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    made = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes)
    return tuple(x.requires_grad_() for x in made)


def _tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
