"""Compiles what the ops launch, just as they launch it, without a GPU: `python -m tests.support.launches [OP ...]`.

`kernels.aot` compiles every shipped setting for arguments in general. A launch says more: Triton makes constants of
ones, knows which numbers are multiples of 16, takes the arguments' types from the tensors. Here the ops run on a CPU
with kernels that compile for an H100 and then do nothing. One line a compiled kernel; what fails is a line too, and
exit code 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, product
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from kernels import aot, runtime

TARGET = GPUTarget("cuda", 90, 32)


class Hopper:
    """What Triton asks of a driver up to the launch."""

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device


def compile_instead(compiled: Callable[[Any], None]) -> None:
    """From now on launches on CPU tensors compile, and `compiled` gets what came of it."""
    run, launch = JITFunction.run, runtime.launch
    inside = False

    def noted(*arguments: Any, **named: Any) -> None:
        nonlocal inside
        inside = True
        try:
            launch(*arguments, **named)
        finally:
            inside = False

    def warm(self: Any, *arguments: Any, grid: Any, warmup: bool, **rest: Any) -> Any:
        del warmup
        assert inside, "a launch that does not come through runtime.launch"
        made = run(self, *arguments, grid=grid, warmup=True, **rest)
        compiled(made)
        return made

    active: Any = driver
    active.set_active(Hopper())
    JITFunction.run = warm
    # Before the ops are imported, which take these by name.
    runtime.use_kernel = lambda x: True
    runtime.launch = noted
    from kernels.attention import core

    core.has_tma = lambda device: True


def passes(op: str) -> Iterator[Callable[[], object]]:
    """What to run of an op: forward and backward at a common shape and at the smallest."""
    from kernels import workloads

    make: Callable[..., workloads.Workload] = getattr(workloads, op)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "attention": [(2, 300, 3), (1, 512, 24), (1, 1, 1)],
        "merge_partial": [(2, 300, 3), (1, 1, 1)],
        "relu_linear_attention": [(1, 1, 70_001), (2, 32, 9000), (1, 2, 1)],
        "adamw": [(1000,), (1,)],
    }
    for shape in shapes.get(op, [(2, 300), (1, 1)]):
        work = make("", *shape)
        inputs = work.inputs("cpu")
        for direction in work.directions:
            yield partial(_pass, op, inputs, direction)


def _pass(op: str, inputs: Sequence[Any], direction: str) -> object:
    from kernels import timing, workloads

    return timing.pass_of(workloads.kernel(op), inputs, direction)()


def attention_passes() -> Iterator[Callable[[], object]]:
    """In both languages; then sums in float32 that are added to, as the ring has them, and packed sequences."""
    from kernels.attention import attention_varlen, core
    from kernels.attention.gluon import launch

    launch.processors = lambda device: 132
    for ops, length in product((frozenset(), launch.EVERY), (300, 1)):
        launch.prefer(ops)
        q, k, v, dout = torch.zeros(4, 1, length, 2, 128, dtype=torch.bfloat16).unbind(0)
        dq, dk, dv = torch.zeros(3, *q.shape).unbind(0)
        lse, delta = torch.zeros(2, 1, 2, length).unbind(0)
        yield partial(core.forward, q, k, v, 0.1, out=dq)
        yield partial(core.backward_q, q, k, v, dout, lse, delta, 0.1, dq, accumulate=True)
        yield partial(core.backward_kv, q, k, v, dout, lse, delta, 0.1, dk, dv, accumulate=True)
        if ops:
            yield from passes("attention")
    cu = torch.tensor([0, 100, 300], dtype=torch.int32)
    leaves = [torch.zeros(300, 2, 128, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    out = attention_varlen(leaves[0], leaves[1], leaves[2], cu, cu, 200, 200)
    yield lambda: torch.autograd.grad(out.sum(), leaves)


def main(ops: list[str]) -> int:
    faults, known = 0, set[str]()

    def compiled(made: Any) -> None:
        if made.hash in known:
            return
        known.add(made.hash)
        outcome = aot.Outcome(op, made.metadata.name, False, aot.read_report(made.asm["ptx"], made.metadata.shared))
        print(aot.line(outcome), flush=True)
        nonlocal faults
        faults += len(outcome.faults())

    compile_instead(compiled)
    op = ""
    for op in ops:
        for run in chain(passes(op), attention_passes() if op == "attention" else ()):
            try:
                run()
            except Exception as error:
                faults += 1
                print(aot.line(aot.Outcome(op, "launch", False, None, f"{type(error).__name__}: {error}")), flush=True)
    return int(faults > 0)


def all_ops() -> list[str]:
    from kernels import workloads

    return sorted({work.op for work in workloads.all_workloads()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or all_ops()))
