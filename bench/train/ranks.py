"""One of two processes that train the same network on the same latents by every engine, and in plain torch.

    torchrun --nproc-per-node 2 -m bench.train.ranks LATENTS OUT --steps N --rounds R

All take turns, so what else the machine does hits all of them. *Plain* is the loop that anyone would write: DDP or
FSDP2, the batch made in place, AdamW, gradients cut at the same norm, one number to the host a step. Rank 0 writes
seconds, of the clock and of its processor, and waiting shares to OUT.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from bench.train.data import WORDS, drawn
from training.callbacks.base import Quiet, Report
from training.condition import Kind
from training.cost.formulas import Transformer
from training.data.batches import Batches, cost_of
from training.methods.flow_matching import FlowMatching
from training.models.mmdit import MMDiT, preset
from training.parallel.base import AdamW
from training.parallel.engines import engine
from training.schedule import Schedule
from training.trainer import Progress, Run, train

ENGINES = ("ddp", "fsdp2", "colossal-1", "colossal-2")
PLAIN, PLAIN_FSDP2 = "plain DDP", "plain FSDP2"
CPU = torch.device("cpu")
RATE, CLIP, PER_STEP = 1e-3, 1.0, 4
SETTINGS = AdamW()


class Waits(Quiet):
    """The seconds of all steps, those of this process's processor time, and those in which it waited for data."""

    def __init__(self) -> None:
        self.seconds = self.cpu = self.waited = 0.0
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def ended(self) -> Waits:
        self.seconds, self.cpu = time.perf_counter() - self._began, time.process_time() - self._cpu_began
        return self

    def after_step(self, progress: Progress, report: Report) -> None:
        self.waited += report.waited


class Course:
    """A network, its data and who trains it, ready to go on; `step` counts."""

    def __init__(self, latents: Path) -> None:
        frozen, source = drawn(latents)
        torch.manual_seed(0)
        self.network = MMDiT(preset("tiny_dcae"))
        sizes = Transformer.of(self.network.config)
        self.method = FlowMatching(source, 42, sizes, {Kind.T2V: 1, Kind.I2V_HEAD: 1})
        cost = cost_of(source.spec, sizes, WORDS)
        self.batches = Batches(frozen.samples, seed=42, per_step=PER_STEP, cost=cost)
        self.step = 0


def plain(course: Course, sharded: bool) -> Callable[[int], Waits]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model: Any = _sharded(course.network) if sharded else DistributedDataParallel(course.network)
    weights = list(course.network.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=RATE, betas=(SETTINGS.beta1, SETTINGS.beta2), eps=SETTINGS.eps, weight_decay=0.0, fused=True
    )

    def go(steps: int) -> Waits:
        waits = Waits()
        for step in range(course.step, course.step + steps):
            share = course.batches.share(step, rank, ranks)
            for number, batch in enumerate(share, start=1):
                if not sharded:
                    model.require_backward_grad_sync = number == len(share)
                start = time.perf_counter()
                inputs = course.method.prepare(step, batch)
                waits.waited += time.perf_counter() - start
                (course.method.loss(model, inputs, torch.float32).total / len(share)).backward()
            norm: Any = torch.nn.utils.clip_grad_norm_(weights, CLIP)
            (norm.full_tensor() if sharded else norm).item()
            optimizer.step()
            optimizer.zero_grad()
        course.step += steps
        return waits.ended()

    return go


def _sharded(network: MMDiT) -> Any:
    for block in (*network.double_blocks, *network.single_blocks, network):
        fully_shard(block)
    return network


def ours(course: Course, name: str) -> Callable[[int], Waits]:
    made = engine(name, CPU, "float32")
    made.wrap(course.network, SETTINGS)

    def go(steps: int) -> Waits:
        waits = Waits()
        run = Run(made, course.method, course.batches, Schedule(((0, RATE),)), course.step + steps, CLIP)
        course.step = train(run, Progress(course.step), [waits]).step
        return waits.ended()

    return go


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("latents", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    own = options.latents / str(dist.get_rank())
    courses = {name: Course(own) for name in (PLAIN, PLAIN_FSDP2, *ENGINES)}
    runs = {
        name: ours(course, name) if name in ENGINES else plain(course, name == PLAIN_FSDP2)
        for name, course in courses.items()
    }
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in runs}
    for turn in range(options.rounds + 1):
        for name, go in runs.items():
            dist.barrier()
            waits = go(options.steps)
            if turn:  # the first warms up
                found[name].append({"seconds": waits.seconds, "cpu": waits.cpu, "waited": waits.waited})
    if dist.get_rank() == 0:
        options.out.write_text(json.dumps({"steps": options.steps, "runs": found}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
