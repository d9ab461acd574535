"""Runs a Gluon kernel's own source on a CPU, as threads, with its asynchronous work done at a bad moment.

Triton's interpreter knows no Gluon. `run` gives the functions of a kernel stand-ins for the names of Gluon that they
use and calls them as Python. One partition runs at a time; at every barrier, copy and product a seeded draw says which
goes on, or which copy lands; some are slow, which ones the seed says as well. Layouts, registers and instructions are
not looked at: the compiler checks those.

What a GPU may get wrong unseen is an error here: a product used before its wait or never waited for, its factors
overwritten while it runs, a barrier that more arrive at than it was told to expect, partitions that all wait. Shared
memory is NaN until written, and from a copy's start until it lands.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.support.gluon_memory import Barrier, Descriptor, Pointer, Shared, Wrong, allocate, load, store

PACES = (0.02, 1.0, 1.0)
"""How readily a partition goes on, or a copy lands, when it can."""
LAYOUTS = (
    "AutoLayout",
    "BlockedLayout",
    "DotOperandLayout",
    "NVMMADistributedLayout",
    "SliceLayout",
    "SwizzledSharedLayout",
)
STALLS = 0.2
"""How often a partition goes on only when nothing else can."""


class _Stopped(Exception):
    """Another partition failed."""


@dataclass
class Pending:
    """A product that runs: no arithmetic before its wait."""

    factors: tuple[Any, Any]
    start: Any
    before: tuple[Tensor, Tensor] = field(init=False)
    value: Tensor | None = None

    def __post_init__(self) -> None:
        self.before = (_contents(self.factors[0]).clone(), _contents(self.factors[1]).clone())

    def finish(self) -> None:
        for factor, before in zip(self.factors, self.before, strict=True):
            if not torch.equal(_contents(factor).nan_to_num(1e30), before.nan_to_num(1e30)):
                raise Wrong("shared memory was overwritten while a product read it")
        start = self.start.value if isinstance(self.start, Pending) else self.start
        a, b = (x.float() for x in self.before)
        self.value = a @ b if start is None else start + a @ b


def _contents(x: Any) -> Tensor:
    return x.data if isinstance(x, Shared) else x


@dataclass(frozen=True, eq=False)
class _Copy:
    source: Descriptor
    at: tuple[int, ...]
    barrier: Barrier
    target: Tensor

    def land(self) -> None:
        self.target.copy_(self.source.read(self.at))
        self.barrier.come(0, self.source.block_type.nbytes)


def _always() -> bool:
    return True


class Machine:
    """One block: its partitions, copies and products under way, and whose turn it is."""

    def __init__(self, program: tuple[int, ...], grid: tuple[int, ...], seed: int) -> None:
        self.program, self.grid = program, grid
        self.dice = random.Random(seed)
        self.waiting = dict[int, Callable[[], bool]]()
        self.pace, self.stalled = dict[int, float](), set[int]()
        self.committer = self.dice.choice(PACES)
        self.copies = list[_Copy]()
        self.products = dict[int, list[Pending]]()
        self.turn: int | None = None
        self.failure: BaseException | None = None
        self.condition = threading.Condition()

    def specialize(self, parts: Sequence[tuple[Callable[..., None], tuple[Any, ...]]], warps: Any, regs: Any) -> None:
        assert len(warps) == len(regs) == len(parts) - 1
        self.products = {me: [] for me in range(len(parts))}
        self.waiting = dict.fromkeys(self.products, _always)
        self.pace = {me: self.dice.choice(PACES) for me in self.products}
        threads = [threading.Thread(target=self._part, args=(me, *part)) for me, part in enumerate(parts)]
        with self.condition:
            self._choose()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _part(self, me: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            self._my_turn(me)
            function(*arguments)
            if self.products[me]:
                raise Wrong("a product was never waited for")
        except _Stopped:
            return
        except BaseException as error:
            self.failure = self.failure or error
        with self.condition:
            self._choose()

    def _my_turn(self, me: int) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.turn == me or self.failure is not None)
            if self.failure is not None:
                raise _Stopped
            del self.waiting[me]

    def _choose(self) -> None:
        """Let copies land until it is some partition's turn."""
        self.turn = None
        while self.failure is None and self.waiting:
            able = [me for me, ready in self.waiting.items() if ready()]
            if not able and not self.copies:
                self.failure = Wrong(f"partitions {sorted(self.waiting)} wait for ever")
                break
            if self.copies or not self.stalled.issuperset(able):
                able = [me for me in able if me not in self.stalled]
            paces = [*(self.pace[me] for me in able), *(self.committer for _ in self.copies)]
            (pick,) = self.dice.choices([*able, *self.copies], paces)
            if isinstance(pick, int):
                self.turn = pick
                break
            self.copies.remove(pick)
            pick.land()
        self.condition.notify_all()

    def give_way(self, ready: Callable[[], bool] = _always) -> None:
        """Others may go first; this partition goes on when it is `ready`. Nobody is there before they start."""
        if self.turn is None:
            assert ready()
            return
        me = self.turn
        self.waiting[me] = ready
        (self.stalled.add if self.dice.random() < STALLS else self.stalled.discard)(me)
        with self.condition:
            self._choose()
        self._my_turn(me)

    def wait(self, barrier: Barrier, phase: int, pred: bool = True) -> None:
        """Until the round of that parity is over, which the one before the first is from the start."""
        if pred:
            self.give_way(lambda: barrier.phase % 2 != phase)

    def arrive(self, barrier: Barrier, count: int = 1, pred: bool = True) -> None:
        self.give_way()
        if pred:
            barrier.come(count)
            self.give_way()

    def expect(self, barrier: Barrier, nbytes: int) -> None:
        self.give_way()
        barrier.bytes_missing += nbytes
        barrier.come(1)

    def copy(self, source: Descriptor, at: Sequence[int], barrier: Barrier, target: Shared) -> None:
        self.give_way()
        target.data.fill_(torch.nan)
        self.copies.append(_Copy(source, tuple(at), barrier, target.data))

    def multiply(self, a: Any, b: Any, acc: Any, use_acc: bool = True, is_async: bool = False) -> Pending:
        assert is_async
        self.give_way()
        made = Pending((a, b), acc if use_acc else None)
        self.products[self.turn or 0].append(made)
        return made

    def wait_product(self, left: int, deps: Sequence[Any]) -> Any:
        self.give_way()
        running = self.products[self.turn or 0]
        while len(running) > left:
            running.pop(0).finish()
        values = tuple(x.value if isinstance(x, Pending) else x for x in deps)
        if any(value is None for value in values):
            raise Wrong("a product was used before its wait")
        return values[0] if len(values) == 1 else values


class Simulated:
    """In place of a kernel: `Simulated(kernel)[grid](**arguments)`."""

    def __init__(self, kernel: Any, seed: int = 0) -> None:
        self.kernel, self.seed = kernel, seed

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def call(num_warps: int, num_stages: int, maxnreg: int | None = None, **arguments: Any) -> None:
            del num_warps, num_stages, maxnreg
            run(self.kernel, grid, arguments, self.seed)

        return call


def run(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], seed: int = 0) -> None:
    """Call a Gluon kernel for every block of the grid. Tensors are pointers; `Descriptor` is what it says."""
    passed = {name: _given(x) for name, x in arguments.items()}
    for number, program in enumerate(itertools.product(*map(range, grid))):
        machine = Machine(program, grid, seed + number)
        _bound(kernel, _stand_ins(machine), {})(**passed)


def _given(x: Any) -> Any:
    """Off the tape: threads of their own do not know that autograd is out."""
    if isinstance(x, Descriptor):
        return Descriptor(x.x_BLHD.detach(), x.rows)
    return Pointer.to(x.detach()) if isinstance(x, Tensor) else x


def _bound(jit: Any, names: dict[str, Any], made: dict[int, Any]) -> Callable[..., Any]:
    """The function under a jitted one, its globals replaced: names of Gluon, and what it calls, by its own like."""
    if id(jit) not in made:
        scope = dict(jit.fn.__globals__)
        made[id(jit)] = FunctionType(jit.fn.__code__, scope, jit.fn.__name__, jit.fn.__defaults__)
        for name in jit.fn.__code__.co_names:
            if name in names:
                scope[name] = names[name]
            elif hasattr(scope.get(name), "is_gluon"):
                scope[name] = _bound(scope[name], names, made)
    return made[id(jit)]


def _stand_ins(machine: Machine) -> dict[str, Any]:
    """For each name that the kernels take from Gluon."""
    mbarrier = SimpleNamespace(
        MBarrierLayout=lambda: None,
        init=lambda barrier, count: barrier.__init__(count, count),
        expect=machine.expect,
        arrive=machine.arrive,
        wait=machine.wait,
    )
    language = SimpleNamespace(
        **{name: getattr(torch, name) for name in ("float32", "int64", "exp2", "log2", "maximum")},
        **dict.fromkeys(LAYOUTS, _no_layout),
        program_id=lambda axis: machine.program[axis],
        num_programs=lambda axis: machine.grid[axis],
        arange=lambda start, end, layout: torch.arange(start, end),
        zeros=lambda shape, dtype, layout: torch.zeros(shape, dtype=dtype),
        convert_layout=lambda x, layout: x,
        cdiv=lambda a, b: -(-a // b),
        cast=lambda x, dtype: x,
        max=lambda x, axis: x.amax(axis),
        sum=lambda x, axis: x.sum(axis),
        where=_where,
        static_range=range,
        allocate_shared_memory=allocate,
        load=load,
        store=store,
        warp_specialize=machine.specialize,
    )
    tma = SimpleNamespace(async_copy_global_to_shared=machine.copy)
    products = {"warpgroup_mma": machine.multiply, "warpgroup_mma_wait": machine.wait_product}
    return {"gl": language, "mbarrier": mbarrier, "tma": tma, **products}


def _no_layout(*arguments: Any) -> None:
    del arguments


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return torch.where(condition, yes, no) if isinstance(condition, Tensor) else yes if condition else no
