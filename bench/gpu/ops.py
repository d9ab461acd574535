"""What `bench.gpu` runs beside each kernel: plain torch, compiled torch, and every backend of torch's attention.

An implementation is a function of a workload's inputs to a tuple of results. Each is made only when its turn comes, so
that one that is missing or fails is reported and the rest still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kernels import workloads
from kernels.attention.gluon import launch as gluon
from kernels.runtime import table
from kernels.workloads import Workload

OURS = "kernel"
"""As shipped; what is ours but not shipped is called "kernel in" its language."""
SCORE_BYTES = 16 * 2**30
"""What the scores of attention may take: above, the math backend, which writes them out, is not run."""

Results = tuple[Tensor, ...]
Function = Callable[..., Results]


class NotRun(Exception):
    """Why an implementation is left out at a shape."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """`make` gives the function for a workload, or raises NotRun. `late`: to be run after all that is proven."""

    name: str
    make: Callable[[Workload], Function]
    late: bool = False


def implementations(op: str) -> Sequence[Implementation]:
    """Ours first, then what it is held against."""
    return (_ours(OURS, None), *_OTHERS.get(op, _TORCH))


def is_ours(name: str) -> bool:
    return name.startswith(OURS)


def _ours(name: str, ops: frozenset[str] | None) -> Implementation:
    """Our kernels, those of attention in Gluon for these operations, or (None) as the settings have it."""

    def make(work: Workload) -> Function:
        chosen = frozenset(op for op in gluon.EVERY if any(x.chosen for x in table(gluon.ARCH)[f"{op}_gluon"].values()))
        if ops == chosen:
            raise NotRun(f'it is what "{OURS}" is')
        gluon.prefer(ops)
        return workloads.kernel(work.op)

    return Implementation(name, make, late=ops is not None)


def _compiled(work: Workload) -> Function:
    from torch._functorch import config

    # A compiled backward pass may use up what it was given; here it runs many times on the same.
    config.donated_buffer = False
    torch.compiler.reset()
    return torch.compile(workloads.plain(work.op), fullgraph=True, dynamic=False)


def _sdpa(backend: str) -> Implementation:
    def make(work: Workload) -> Function:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if backend == "MATH":
            _refuse_scores(work)
        chosen = getattr(SDPBackend, backend)

        def run(q: Tensor, k: Tensor, v: Tensor) -> Results:
            with sdpa_kernel(chosen):
                out = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
            return (out.transpose(1, 2),)

        return run

    return Implementation(f"sdpa {backend.removesuffix('_ATTENTION').lower()}", make)


def _refuse_scores(work: Workload) -> None:
    """Raise NotRun where the scores alone would fill much of the memory. 4 L^2 D flops an L x L matrix of 2 bytes."""
    scores = work.flops[0] / (4 * workloads.HEAD_DIM) * 2
    if scores > SCORE_BYTES:
        raise NotRun(f"its scores would take {scores / 2**30:.0f} GiB")


def _torch_adamw(work: Workload) -> Function:
    """torch's fused AdamW wants gradients in float32, and the copy is one more pass."""
    state: dict[int, tuple[torch.optim.AdamW, Tensor]] = {}

    def run(params: Tensor, grad: Tensor, m: Tensor, v: Tensor, copy: Tensor) -> Results:
        if not state:
            params.grad = grad.float()
            optimizer = torch.optim.AdamW([params], lr=1e-5, eps=1e-15, weight_decay=0.0, fused=True)
            step = torch.zeros((), device=params.device)
            optimizer.state[params] = {"step": step, "exp_avg": m, "exp_avg_sq": v}
            state[0] = optimizer, step
        optimizer, step = state[0]
        step.zero_()
        optimizer.step()
        copy.copy_(params)
        return params, copy

    return run


_TORCH = (
    Implementation("torch eager", lambda work: workloads.plain(work.op)),
    Implementation("torch compiled", _compiled),
)
_OTHERS: dict[str, Sequence[Implementation]] = {
    "attention": (
        _ours(f"{OURS} in Gluon", gluon.EVERY),
        _ours(f"{OURS} in Triton", frozenset()),
        *(_sdpa(name) for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH")),
    ),
    "adamw": (Implementation("torch fused, then a copy", _torch_adamw),),
}


def copy_inputs(device: str, size: int = 2**30) -> tuple[Any, ...]:
    """Two buffers of `size` bytes: copying one to the other moves twice as many."""
    source = torch.randint(-128, 128, (size,), dtype=torch.int8, device=device)
    return torch.empty_like(source), source
