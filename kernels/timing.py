"""How long work takes on a GPU, and whether its results are right: what the tuner and the benchmark measure with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FLUSH_BYTES = 256 * 2**20
"""Written before every run, so that nothing of the last is left in a cache (50 MB on an H100 or H200)."""
WARM_RUNS, LEAST_RUNS, MOST_RUNS = 3, 10, 200


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds: the median, and the values below which a tenth and nine tenths of the runs lie."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int


def summarize(times_ms: Sequence[float]) -> Timing:
    ordered = sorted(times_ms)
    median, p10, p90 = (ordered[int(share * len(ordered))] for share in (0.5, 0.1, 0.9))
    return Timing(median, p10, p90, len(ordered))


def measure(run: Callable[[], object], seconds: float = 0.3) -> Timing:
    """Time `run` by CUDA events for about `seconds`, and at least LEAST_RUNS times, on a cold cache."""
    for _ in range(WARM_RUNS):
        run()
    torch.cuda.synchronize()
    cache = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    runs = min(MOST_RUNS, max(LEAST_RUNS, math.ceil(1e3 * seconds / max(_time([run], cache)[0], 1e-3))))
    return summarize(_time([run] * runs, cache))


def _time(runs: Sequence[Callable[[], object]], cache: Tensor) -> list[float]:
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in runs]
    for run, (start, end) in zip(runs, events, strict=True):
        cache.zero_()
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def pass_of(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Any], direction: str
) -> Callable[[], tuple[Tensor, ...]]:
    """What computes the "forward" results, or the "backward" gradients of all inputs that ask for one, again and again.

    The gradient of the results is drawn once, from a fixed seed and rounded to bf16, so that two implementations get
    the same whatever their dtype.
    """
    if direction == "forward":
        return torch.no_grad()(lambda: function(*inputs))
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    out = function(*inputs)
    dice = torch.Generator(out[0].device).manual_seed(0)
    pulls = [torch.randn(x.shape, generator=dice, device=x.device).bfloat16().to(x.dtype) for x in out]
    return lambda: torch.autograd.grad(out, leaves, pulls, retain_graph=True)


def distance(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """The largest relative L2 distance of a result; infinite where one holds no number or has another shape."""
    worst = 0.0
    for x, y in zip(got, want, strict=True):
        if x.shape != y.shape:
            return math.inf
        norm = torch.linalg.vector_norm(y, dtype=torch.float32).item()
        apart = torch.linalg.vector_norm(x.float() - y.float()).item() / max(norm, 1e-30)
        worst = max(worst, apart if math.isfinite(apart) else math.inf)
    return worst


def copies(inputs: Sequence[Any], dtype: torch.dtype | None = None) -> tuple[Any, ...]:
    """Inputs of their own for an implementation: what it may write to is copied.

    Tensors that ask for a gradient are only read: they keep their memory and strides, unless they change to `dtype`.
    """
    return tuple(_copy(x, dtype) if isinstance(x, Tensor) else x for x in inputs)


def _copy(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    return x.detach().to(dtype or x.dtype).requires_grad_() if x.requires_grad else x.clone()
