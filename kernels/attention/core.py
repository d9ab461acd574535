"""Attention without autograd, forward and backward in their parts: what `op` and context parallelism stand on.

Here it is decided whether the kernels or the reference run, by TMA or by pointers, with which settings; by TMA, a
Gluon kernel may go before (`gluon.launch`). Tensors are (B, L, H, D) of any stride; one whose last dimension is not
contiguous is copied first. Destinations too may have any stride but for that. `lse` and `delta` are (B, H, L),
contiguous, float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.attention import reference
from kernels.attention.gluon import launch as gluon
from kernels.attention.layout import (
    OF_QUERIES,
    Packed,
    bucket,
    check,
    descriptor,
    exact_dtype,
    fits_descriptor,
    has_tma,
    strides,
)
from kernels.runtime import config_for, dense_rows, interpreting, launch, use_kernel

LOG2_E = math.log2(math.e)


def runs_kernel(x: Tensor) -> bool:
    """Whether a kernel runs on `x`. Not on bfloat16 under the interpreter, whose products of it are wrong."""
    return use_kernel(x) and not (interpreting() and x.dtype is torch.bfloat16)


def forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, out: Tensor | None = None, packed: Packed | None = None
) -> tuple[Tensor, Tensor]:
    """(out (B, L, H, D) in q's dtype, natural log-sum-exp). Written to `out` where it is given; it may be float32."""
    made: Tensor = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    batch, length, heads, _ = q.shape
    lse = torch.empty(batch, heads, length, dtype=exact_dtype(q.dtype), device=q.device)
    if runs_kernel(q):
        from kernels.attention.forward import attention_forward

        tiled = {"q": dense_rows(q), "k": dense_rows(k), "v": dense_rows(v), "out": made}
        numbers = {"lse_b": _step_b(lse), "lse_h": lse.stride(1), "scale_log2": scale * LOG2_E}
        _launch("attention_forward", attention_forward, tiled, packed, "q", lse=lse, **numbers)
        return made, lse
    for q_rows, k_rows in _sequences(packed):
        part, part_lse = reference.forward(q[:, q_rows], k[:, k_rows], v[:, k_rows], scale)
        made[:, q_rows].copy_(part)
        lse[:, :, q_rows].copy_(part_lse)
    return made, lse


def delta(out: Tensor, dout: Tensor) -> Tensor:
    """rowsum(out * dout) (B, H, L), which both parts of the backward take."""
    if not runs_kernel(out):
        return reference.delta(out, dout)
    from kernels.attention.backward import attention_delta

    batch, length, heads, dim = out.shape
    made = torch.empty(batch, heads, length, dtype=torch.float32, device=out.device)
    config = config_for("attention_delta", "any")
    grid = (-(-length // config.blocks["BLOCK_M"]), batch * heads)
    tensors = {"out": dense_rows(out), "dout": dense_rows(dout)}
    numbers = {"delta_b": _step_b(made), "delta_h": made.stride(1), "heads": heads, "q_len": length, "D": dim}
    launch(attention_delta, grid, **tensors, delta=made, **_steps(tensors), **numbers, **config.launch())
    return made


def backward_q(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, lse: Tensor, delta: Tensor, scale: float, dq: Tensor,
    accumulate: bool = False, packed: Packed | None = None,
) -> None:  # fmt: skip
    """Write dQ to `dq`, or add it there: the share of these keys, `lse` and `delta` being of all of them."""
    if runs_kernel(q):
        from kernels.attention.backward import attention_backward_q

        tiled = {"q": dense_rows(q), "k": dense_rows(k), "v": dense_rows(v), "dout": dense_rows(dout), "dq": dq}
        rest = _backward_arguments(lse, delta, scale, accumulate)
        _launch("attention_backward_q", attention_backward_q, tiled, packed, "q", **rest)
        return
    for q_rows, k_rows in _sequences(packed):
        of_q = (dout[:, q_rows], lse[:, :, q_rows], delta[:, :, q_rows])
        made = reference.gradient_q(q[:, q_rows], k[:, k_rows], v[:, k_rows], *of_q, scale)
        _put(dq[:, q_rows], made, accumulate)


def backward_kv(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, lse: Tensor, delta: Tensor, scale: float, dk: Tensor, dv: Tensor,
    accumulate: bool = False, packed: Packed | None = None,
) -> None:  # fmt: skip
    """Write dK and dV to `dk` and `dv`, or add them there: the share of these queries."""
    if runs_kernel(q):
        from kernels.attention.backward import attention_backward_kv

        tiled = {
            "q": dense_rows(q),
            "k": dense_rows(k),
            "v": dense_rows(v),
            "dout": dense_rows(dout),
            "dk": dk,
            "dv": dv,
        }
        rest = _backward_arguments(lse, delta, scale, accumulate)
        _launch("attention_backward_kv", attention_backward_kv, tiled, packed, "k", **rest)
        return
    for q_rows, k_rows in _sequences(packed):
        of_q = (dout[:, q_rows], lse[:, :, q_rows], delta[:, :, q_rows])
        made_k, made_v = reference.gradient_kv(q[:, q_rows], k[:, k_rows], v[:, k_rows], *of_q, scale)
        _put(dk[:, k_rows], made_k, accumulate)
        _put(dv[:, k_rows], made_v, accumulate)


def _launch(op: str, kernel: Any, tiled: dict[str, Tensor], packed: Packed | None, over: str, **rest: Any) -> None:
    """Run a kernel over the tiles of `over`, q or k. `tiled`: the tensors it reads and writes in tiles."""
    q, k = tiled["q"], tiled["k"]
    check(q, k, tiled["v"])
    pays = q.itemsize == 2 or interpreting()  # float32 is not bound by its loads
    tma = packed is None and pays and has_tma(q.device) and all(map(fits_descriptor, tiled.values()))
    hopper = gluon.settings(op, q) if tma else None
    if hopper is not None:
        written = {name: x for name, x in tiled.items() if name not in gluon.READ}
        gluon.launch(op, hopper, tiled, over, **_steps(written), **rest)
        return
    config = config_for(op, bucket(q.shape[-1], q.dtype, tma))
    rows = {name: config.blocks["BLOCK_M" if name in OF_QUERIES else "BLOCK_N"] for name in tiled}
    passed = {name: descriptor(x, rows[name]) if tma else x for name, x in tiled.items()}
    sequences, longest = q.shape[0], tiled[over].shape[1]
    if packed is not None:
        sequences, longest = len(packed.cu_q) - 1, packed.max_q if over == "q" else packed.max_k
        rest |= {"cu_q": packed.cu_q, "cu_k": packed.cu_k}
    else:
        rest |= {"cu_q": None, "cu_k": None}
    numbers = {"heads": q.shape[2], "q_len": q.shape[1], "k_len": k.shape[1], "D": q.shape[3]}
    flags = {"TMA": tma, "PACKED": packed is not None}
    grid = (-(-longest // rows[over]), sequences * q.shape[2])
    launch(kernel, grid, **passed, **_steps(tiled), **numbers, **flags, **rest, **config.launch())


def _backward_arguments(lse: Tensor, delta: Tensor, scale: float, accumulate: bool) -> dict[str, Any]:
    assert lse.is_contiguous() and delta.is_contiguous() and lse.shape == delta.shape
    steps = {"lse_b": _step_b(lse), "lse_h": lse.stride(1)}
    return {"lse": lse, "delta": delta, "scale": scale, "scale_log2": scale * LOG2_E, "ACCUMULATE": accumulate, **steps}


def _steps(tensors: dict[str, Tensor]) -> dict[str, int]:
    return {f"{name}_{dim}": step for name, x in tensors.items() for dim, step in zip("blh", strides(x), strict=True)}


def _step_b(x_BHL: Tensor) -> int:
    return x_BHL.stride(0) if x_BHL.shape[0] > 1 else 0


def _put(into: Tensor, made: Tensor, accumulate: bool) -> None:
    if accumulate:
        into += made
    else:
        into.copy_(made)


def _sequences(packed: Packed | None) -> list[tuple[slice, slice]]:
    return [(slice(None), slice(None))] if packed is None else packed.slices()
