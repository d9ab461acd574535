"""How long a run waits for samples that actors of Ray bring it (`bench.train`), as `ziggurat train --stream` has them.

The actors give what is encoded already: what is measured is the asking, the store between processes, and reading ahead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.train.data import WORDS, drawn
from bench.train.ranks import CLIP, CPU, PER_STEP, RATE, SETTINGS, Waits
from pipelines.encoding.stream import Stream
from pipelines.execution.cluster import joined
from training.condition import Kind
from training.cost.formulas import Transformer
from training.data.batches import Batches, cost_of
from training.data.encoded import Encoded
from training.data.latents import LatentStore
from training.methods.flow_matching import FlowMatching
from training.models.mmdit import MMDiT, preset
from training.parallel.single import Single
from training.schedule import Schedule
from training.trainer import Progress, Run, train

ACTORS = (1, 2)
STEPS, AHEAD = 40, 4


class Ready:
    """An actor in the place of `SampleEncoder`."""

    def __init__(self, store: LatentStore) -> None:
        self._store = store

    def encode(self, number: int, made: tuple[str, str]) -> Encoded:
        return self._store.read([number])[0]


def measured(place: Path) -> list[dict[str, float]]:
    """For each number of actors: the seconds of all steps, and those in which training waited."""
    import ray

    torch.set_num_threads(1)
    frozen, store = drawn(place)
    found: list[dict[str, float]] = []
    with joined(cpus=max(ACTORS)):
        for count in ACTORS:
            actors: list[Any] = [
                ray.remote(Ready).options(num_cpus=0, max_concurrency=2).remote(store) for _ in range(count)
            ]
            stream = Stream(store.head.encoders, actors)
            network = MMDiT(preset("tiny_dcae"))
            sizes = Transformer.of(network.config)
            engine = Single(CPU)
            engine.wrap(network, SETTINGS)
            method = FlowMatching(stream, 42, sizes, {Kind.T2V: 1, Kind.I2V_HEAD: 1})
            cost = cost_of(stream.spec, sizes, WORDS)
            batches = Batches(frozen.samples, seed=42, per_step=PER_STEP, cost=cost)
            waits = Waits()
            run = Run(engine, method, batches, Schedule(((0, RATE),)), STEPS, CLIP, ahead=AHEAD, readers=AHEAD)
            train(run, Progress(), [waits])
            waits.ended()
            found.append({"actors": count, "seconds": waits.seconds, "waited": waits.waited})
            for one in actors:
                ray.kill(one)
    return found
