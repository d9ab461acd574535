"""A training run small enough for a test: the tiny DiT on drawn latents, with every callback that it is given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from curation.shards.manifest import Bucket, Frozen
from tests.support import encoded
from training.callbacks.averages import Averages
from training.callbacks.base import Quiet, Report
from training.callbacks.checkpointing import Checkpointing
from training.callbacks.validation import Validation
from training.checkpoint.folder import Checkpoints, Head, Identity
from training.checkpoint.load import resume
from training.condition import Kind
from training.cost.formulas import Transformer
from training.data.batches import Batches, cost_of
from training.methods.flow_matching import FlowMatching
from training.models.mmdit import MMDiT, MMDiTConfig, preset
from training.parallel.base import AdamW, Engine
from training.parallel.context import Way, context_of
from training.parallel.single import Single
from training.schedule import Schedule
from training.trainer import Progress, Run, train

BUCKETS = {encoded.CLIP: 7, encoded.SHORT: 7, encoded.IMAGE: 9}


@dataclass
class Kept(Quiet):
    """Reports as they came, for a test to look at."""

    reports: list[Report] = field(default_factory=list)

    def after_step(self, progress: Progress, report: Report) -> None:
        self.reports.append(report)

    @property
    def losses(self) -> list[tuple[float, float]]:
        return [(report.loss, report.norm) for report in self.reports]


def network(seed: int = 0, config: MMDiTConfig | None = None) -> MMDiT:
    torch.manual_seed(seed)
    return MMDiT(config or preset("tiny_dcae"))


@dataclass
class Toy:
    """A run over `buckets`; `go` trains it to a step, from the newest checkpoint in `folder` where there is one.
    `validated`: samples that are validated after every step. `context`: ranks that share a sample, by `attention`."""

    folder: Path
    buckets: Mapping[Bucket, int] = field(default_factory=lambda: dict(BUCKETS))
    per_step: int = 2
    seed: int = 42
    rate: float = 1e-3
    decay: float | None = 0.9
    every: int = 1000
    keep_last: int = 3
    keep_every: int = 0
    weights: Mapping[Kind, float] = field(default_factory=lambda: {Kind.T2V: 1, Kind.I2V_HEAD: 1})
    make_engine: Callable[[], Engine] = lambda: Single(torch.device("cpu"))
    network_seed: int = 0
    config: MMDiTConfig | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: Any = None
    validated: int = 0
    validate_every: int = 1
    context: int = 1
    attention: Way = "all_to_all"
    with_references: bool = True

    @property
    def frozen(self) -> Frozen:
        return encoded.frozen(self.buckets)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder)

    def parts(self) -> tuple[Run, Averages | None, Identity]:
        frozen, net = self.frozen, network(self.network_seed, self.config)
        engine, sizes = self.make_engine(), Transformer.of(net.config)
        engine.wrap(net, AdamW())
        source = self.source or encoded.Memory(frozen.samples)
        context = context_of(engine, self.context, self.attention, net.config.num_heads)
        method = FlowMatching(
            source, self.seed, sizes, self.weights, with_references=self.with_references, context=context
        )
        cost = cost_of(source.spec, sizes, encoded.WORDS)
        batches = Batches(frozen.samples, seed=self.seed, per_step=self.per_step, cost=cost)
        run = Run(engine, method, batches, Schedule(((0, self.rate),)), steps=0, **self.changes)
        identity = Identity(
            manifest=frozen.manifest.sha256,
            seed=self.seed,
            per_step=self.per_step,
            held_out=0,
            shapes=engine.shapes(),
        )
        return run, None if self.decay is None else Averages(engine, self.decay), identity

    def go(
        self, steps: int, *callbacks: Any, stop_after: int | None = None, saves: bool = True
    ) -> tuple[Run, Averages | None, Progress]:
        run, averages, identity = self.parts()
        run = replace(run, steps=steps)
        found = resume(self.checkpoints, identity, run.engine, averages)
        progress = found[0] if found else Progress()
        saving = Checkpointing(
            run.engine,
            self.checkpoints,
            head_of(run.engine, identity),
            every=self.every,
            keep_last=self.keep_last,
            keep_every=self.keep_every,
            averages=averages,
        )
        validation = None
        if self.validated:
            validation = Validation(
                run.engine, cast(FlowMatching, run.method), range(self.validated), self.validate_every, averages
            )
        optional = (averages, validation, saving if saves else None)
        beside = [*(one for one in optional if one is not None), *callbacks]
        asked = itertools.count(1)
        stop = (lambda: next(asked) >= stop_after) if stop_after else lambda: False
        try:
            return run, averages, train(run, progress, beside, stop)
        finally:
            run.engine.close()


def head_of(engine: Engine, identity: Identity) -> Head:
    """What a toy's checkpoints say."""
    return Head(identity=identity, network="tiny_dcae", settings={}, missing=0, engine="", ranks=engine.ranks, torch="")


def bits(run: Run, averages: Averages | None) -> list[bytes]:
    """Every bit of what training changes."""
    engine = run.engine
    found = [*engine.masters().values()]
    found += [moment for moments in engine.moments().values() for moment in moments.values()]
    found += [] if averages is None else list(averages.values.values())
    return [tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for tensor in found]
