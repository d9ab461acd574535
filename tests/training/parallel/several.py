"""One of several processes that run every engine: `python -m tests.training.parallel.several RANK RANKS FOLDER`.

What they gave goes to FOLDER/told.json, by engine; their checkpoints are in FOLDER/ENGINE.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.support.toy_run import Kept, Toy, bits
from training.callbacks.averages import Averages
from training.callbacks.validation import Validation
from training.checkpoint.folder import Identity
from training.checkpoint.load import resume, tensors
from training.models.mmdit import MMDiT
from training.offload import Offload
from training.parallel.base import AdamW, Engine, Precision
from training.parallel.engines import engine
from training.parallel.single import Single
from training.trainer import Run

ENGINES = ("ddp", "fsdp2", "colossal-1", "colossal-2")
STEPS, STOP, VALIDATED, CLIP = 4, 2, 5, 0.1
ROUNDED_STEPS = 2
"""In bfloat16: a rounding that differs once in a hundred thousand weights has spread to all of them soon after."""
PER_STEP = (2, 6)
"""Micro-batches of a step, beside the four of most runs."""
CPU = torch.device("cpu")


def toy(
    folder: Path, name: str = "single", kind: type[Toy] = Toy, *, precision: Precision = "float32", **changes: Any
) -> Toy:
    made = kind(folder, per_step=4, make_engine=lambda: engine(name, CPU, precision), changes={"clip": CLIP})
    return replace(made, **changes)


def learnt(folder: Path, name: str, rank: int, ranks: int) -> dict[str, Any]:
    """A run of four steps, which two runs of other networks, both resumed, must repeat to the bit."""
    whole, parts = Kept(), [Kept(), Kept(), Kept()]
    run, averages, _ = toy(folder, name).go(STEPS, whole, saves=False)
    want = bits(run, averages)
    validated = Validation(run.engine, run.method, range(VALIDATED), every=1, averages=averages).losses()  # type: ignore[arg-type]
    after = bits(run, averages)
    for kept, seed, stop in zip(parts, (0, 7, 8), (STOP, 1, None), strict=True):
        stop_after = stop if rank == ranks - 1 else None
        run, averages, _ = toy(folder, name, network_seed=seed).go(STEPS, kept, stop_after=stop_after)
    return {
        "losses": whole.losses,
        "parts": [kept.losses for kept in parts],
        "same": everywhere(bits(run, averages) == want),
        "validation changes nothing": everywhere(after == want),
        "validated": validated,
    }


class Recomputed(Toy):
    """Every block is computed again in the backward pass, its inputs wait on the host."""

    def parts(self) -> tuple[Run, Averages | None, Identity]:
        run, averages, identity = super().parts()
        for module in run.engine.model.modules():
            if isinstance(module, MMDiT):
                module.recompute(module.config.depth, module.config.depth_single_blocks, Offload())
        return run, averages, identity


def shared_otherwise(folder: Path, name: str) -> list[list[tuple[float, float]]]:
    """Losses and norms where a rank has one or three micro-batches a step, recomputing blocks in the first case."""
    found = []
    for per_step, kind in zip(PER_STEP, (Recomputed, Toy), strict=True):
        kept = Kept()
        toy(folder, name, kind, per_step=per_step).go(2, kept, saves=False)
        found.append(kept.losses)
    return found


class Branches(nn.Module):
    """Layers of which a rank may leave some out; no size divides by two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.first, self.second = nn.Linear(3, 5), nn.Linear(3, 1)

    def forward(self, x: Tensor, first: bool, second: bool) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        out = x.square().mean()
        out = out + self.first(x).square().mean() if first else out
        return out + self.second(x).square().mean() if second else out


USED = (((False, True), (True, False)), ((False, True), (False, False)), ((True, True), (True, True)))
"""By step and rank: which of the two branches are taken."""


def partly_used(name: str, rank: int, ranks: int) -> dict[str, Any]:
    """Steps in which ranks use other weights than each other, against one process; then one that is not finite."""
    one, several = Single(CPU), engine(name, CPU, "float32")
    for each in (one, several):
        each.wrap(Branches(), AdamW())
    norms = []
    for step, used in enumerate(USED):
        for each, shares in ((one, range(ranks)), (several, (rank,))):
            with each.micro_batch(last=True):
                each.backward(sum(_loss(each, step, k, used[k % 2]) for k in shares) / len(shares))  # type: ignore[arg-type]
            norms.append(each.clip(CLIP).item())
            each.update(1e-2)
            each.clear()
    off = furthest(several, {n: w.view(-1) for n, w in one.masters().items()})
    before = [part.clone() for part in several.masters().values()]
    with several.micro_batch(last=True):
        several.backward(_loss(several, 9, rank, (True, True)) * (float("nan") if rank else 1.0))
    refused = not torch.isfinite(several.clip(CLIP)).item()
    several.clear()
    same = all(torch.equal(a, b) for a, b in zip(before, several.masters().values(), strict=True))
    with several.micro_batch(last=True):
        several.backward(_loss(several, 9, rank, (True, True)))
    sound = torch.isfinite(several.clip(CLIP)).item()
    return {"norms": norms, "off": off, "refused": everywhere(refused and same and bool(sound))}


def _loss(one: Engine, step: int, rank: int, used: tuple[bool, bool]) -> Tensor:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(10 * step + rank))
    return one.model(x, *used)


def loads(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Which engine does not hold, to the bit, what which engine has saved."""
    wrong = []
    for name in names:
        run, averages, identity = toy(folder, name, network_seed=9).parts()
        for other in ENGINES:
            saved = toy(folder / other).checkpoints
            resume(saved, identity, run.engine, averages)
            newest = saved.newest()
            assert newest is not None and averages is not None
            held = {"weight": run.engine.masters(), "average": averages.values}
            for moment in ("exp_avg", "exp_avg_sq"):
                held[moment] = {n: values[moment] for n, values in run.engine.moments().items()}
            for part, values in held.items():
                want = {n: tensor.view(-1) for n, tensor in tensors(newest, part).items()}
                if not all(torch.equal(mine, theirs) for mine, theirs in pairs(run.engine, values, want)):
                    wrong.append(f"{name} of {other}: {part}")
    return wrong


def pairs(one: Engine, values: Mapping[str, Tensor], flat: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's parts beside the same numbers of whole, flat weights."""
    starts: Mapping[str, int] = getattr(one, "_starts", {})
    for name, value in values.items():
        start = starts.get(name, 0)
        yield value.view(-1), flat[name][start : start + value.numel()]


def furthest(one: Engine, flat: Mapping[str, Tensor]) -> float:
    """The greatest difference of a master, over all ranks."""
    found = [(a - b).abs().max() for a, b in pairs(one, one.masters(), flat) if a.numel()]
    worst = torch.stack(found).max()
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return worst.item()


def stands_in(name: str) -> bool:
    """Whether an empty module is found for a package that is not there."""
    return name in sys.modules and not hasattr(sys.modules[name], "__file__")


def everywhere(true: bool) -> bool:
    """Whether it is so on all ranks."""
    found = torch.tensor(float(true))
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return bool(found.item())


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    told: dict[str, Any] = {}
    for name in ENGINES:
        told[name] = learnt(folder / name, name, rank, ranks)
        told[name]["otherwise"] = shared_otherwise(folder / "otherwise", name)
        toy(folder / f"{name}-bf16", name, precision="bfloat16", decay=None).go(ROUNDED_STEPS)
        if name != "ddp":  # it needs every weight on every rank
            told[name]["partly"] = partly_used(name, rank, ranks)
    told["stand-ins"] = [name for name in ("bitsandbytes", "galore_torch") if stands_in(name)]
    told["loaded by two"] = loads(folder, ENGINES)
    dist.destroy_process_group()
    if rank == 0:
        dist.init_process_group("gloo", f"file://{folder}/alone", rank=0, world_size=1)
        told["loaded by one"] = loads(folder, ("single", *ENGINES))
        dist.destroy_process_group()
        (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
