"""One of several processes that share samples: `python -m tests.training.parallel.sharing RANK RANKS FOLDER CASES`.

Each case is a run of some steps; what they gave goes to FOLDER/told.json, by case, their checkpoints to FOLDER/CASE.
`CASES` "sample" is for the ordinary suite, on two ranks; "all" for two and four.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from curation.shards.manifest import Bucket
from tests.support import encoded
from tests.support.toy_run import Kept, Toy
from tests.training.parallel.rounding import as_in, summed
from training import ops
from training.callbacks.averages import Averages
from training.callbacks.base import Report
from training.callbacks.time_bins import TimeBins
from training.callbacks.validation import Validation
from training.checkpoint.folder import Identity
from training.checkpoint.load import tensors
from training.data.encoded import Encoded
from training.lora.spec import LoraSpec
from training.methods.flow_matching import FlowMatching
from training.models.base import TextStates
from training.models.mmdit import MMDiT
from training.offload import Offload
from training.parallel.base import Precision
from training.parallel.context import Context, Way
from training.parallel.engines import engine
from training.trainer import Run

CPU = torch.device("cpu")
STEPS, STOP, VALIDATED, CLIP = 3, 2, 3, 0.1
ROUNDED_STEPS = 2
ENGINES = ("ddp", "fsdp2", "colossal-1", "colossal-2")
WAYS: tuple[Way, ...] = ("all_to_all", "ring")

ODD = Bucket("256px", 12, 96, 96, 2)
STILL = Bucket("256px", 1, 32, 32, 4)
BUCKETS = {ODD: 8, encoded.SHORT: 6, STILL: 8}
"""27 tokens, 4, and one: an image of which all ranks but one have none."""


@dataclass(frozen=True)
class Case:
    """`context`: ranks that share a sample. `words`: of a prompt, where 1 leaves all ranks but one without text."""

    engine: str
    attention: Way = "all_to_all"
    context: int = 2
    words: int = encoded.WORDS
    references: bool = True
    recomputed: bool = False

    def __str__(self) -> str:
        more = [name for name, on in (("recomputed", self.recomputed), ("no references", not self.references)) if on]
        return " ".join((self.engine, self.attention, f"{self.context} ranks", f"{self.words} words", *more))

    @property
    def alone(self) -> Case:
        """What one process would do."""
        return replace(self, engine="single", attention="all_to_all", context=1, recomputed=False)


SAMPLE = (
    Case("colossal-2", "all_to_all", recomputed=True),
    Case("fsdp2", "ring", words=1, references=False, recomputed=True),
)
EVERY = tuple(Case(name, way) for name in ENGINES for way in WAYS)
ALL: dict[int, tuple[Case, ...]] = {
    2: (
        *EVERY,
        *(replace(case, words=1, recomputed=True, references=False) for case in EVERY),
    ),
    4: (
        *EVERY,
        *(replace(case, context=4) for case in EVERY),
        # Of one word and one token two ranks have nothing at all.
        *(replace(case, context=4, words=1) for case in EVERY if case.engine in ("fsdp2", "colossal-2")),
    ),
}


class Words(encoded.Memory):
    """Prompts of so many words."""

    def __init__(self, samples: Any, words: int) -> None:
        super().__init__(samples)
        self._words = words
        self.empty = TextStates(torch.zeros(1, words, encoded.WIDTH), self.empty.pooled_BP)

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        return [replace(one, tokens_MD=one.tokens_MD[: self._words]) for one in super().read(samples)]


@dataclass
class Sharing(Toy):
    """A toy run of a case. `seeds`: of torch's generator in each pass with gradients; of recomputed blocks the inputs
    wait on the host."""

    recomputed: bool = False
    seeds: list[int] = field(default_factory=list)

    def parts(self) -> tuple[Run, Averages | None, Identity]:
        run, averages, identity = super().parts()
        for module in run.engine.model.modules():
            if isinstance(module, MMDiT):
                module.register_forward_pre_hook(self._see)
                if self.recomputed:
                    module.recompute(module.config.depth, module.config.depth_single_blocks, Offload())
        return run, averages, identity

    def _see(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            self.seeds.append(torch.initial_seed())


def toy(folder: Path, case: Case, precision: Precision = "float32", **changes: Any) -> Sharing:
    return Sharing(
        folder,
        BUCKETS,
        per_step=4,
        make_engine=lambda: engine(case.engine, CPU, precision),
        source=Words(encoded.table(BUCKETS), case.words),
        context=case.context,
        attention=case.attention,
        with_references=case.references,
        recomputed=case.recomputed,
        changes={"clip": CLIP},
        **changes,
    )


def learnt(made: Toy) -> dict[str, Any]:
    """A run and a validation after it, as the log would have them."""
    kept = Kept()
    run, averages, _ = made.go(STEPS, TimeBins(), kept)
    validation = Validation(run.engine, cast(FlowMatching, run.method), range(VALIDATED), 1, averages)
    return {"steps": [logged(report) for report in kept.reports], "validated": validation.losses()}


def logged(report: Report) -> dict[str, float]:
    counted = {"samples": report.samples, "tokens": report.tokens, "flops": report.flops}
    return {"loss": report.loss, "norm": report.norm, **counted, **report.values}


def on_the_way(folder: Path, case: Case) -> list[list[tuple[float, float]]]:
    """Losses and norms of a run that goes on from the checkpoint that one process has left in FOLDER/begun; and of one
    whose number of ranks to a sample changes from step to step."""
    begun, changing = Kept(), Kept()
    toy(folder / "begun", case).go(STEPS, begun)
    for step, context in enumerate((case.context, 1, case.context), start=1):
        toy(folder / "changing", replace(case, context=context)).go(step, changing)
    return [begun.losses, changing.losses]


def rounded(folder: Path, case: Case) -> float:
    """The greatest difference of a weight, in bfloat16, from the same shares whose gradients are added up by hand."""
    run, _, _ = toy(folder, case, "bfloat16", decay=None).go(ROUNDED_STEPS)
    saved = tensors(toy(folder, case).checkpoints.at(ROUNDED_STEPS))
    masters = by_hand(folder, case, run.method.context)
    return max((saved[name] - master).abs().max().item() for name, master in masters.items())


def by_hand(folder: Path, case: Case, context: Context) -> dict[str, Tensor]:
    """The masters of a process that gathers the gradients of all ranks' shares and adds them up as that engine does."""
    run, _, _ = toy(folder, case.alone, "bfloat16", decay=None).parts()
    one: Any = run.engine
    method = replace(cast(FlowMatching, run.method), context=context)
    as_in(case.engine, one.model)
    ranks = dist.get_world_size()
    for step in range(ROUNDED_STEPS):
        share = run.batches.share(step, dist.get_rank() // context.ranks, ranks // context.ranks)
        own = []
        for batch in share:
            inputs = method.prepare(step, batch)
            (method.loss(one.model, inputs, one.dtype).total / len(share)).backward()
            own.append({name: weight.grad for name, weight in one.model.named_parameters()})
            for weight in one.model.parameters():
                weight.grad = None
        found: list[Any] = [None] * ranks
        dist.all_gather_object(found, own)
        for name, master in one._masters.weights.items():
            master.grad = summed(case.engine, [[turn[name] for turn in rank] for rank in found])
        one.clip(CLIP)
        one.update(run.schedule.rate(step))
        one.clear()
    return dict(one.masters())


def adapter(folder: Path, name: str, context: int, dropout: float = 0.0) -> list[tuple[float, float]]:
    """Losses and norms of an adapter's training; recomputed blocks draw what they drew."""
    from tests.support.adapters import LoraToy

    kept = Kept()
    LoraToy(
        folder,
        BUCKETS,
        per_step=4,
        rate=1e-2,
        make_engine=lambda: engine(name, CPU, "float32"),
        source=Words(encoded.table(BUCKETS), encoded.WORDS),
        context=context,
        spec=LoraSpec(rank=4, alpha=8, dropout=dropout),
    ).go(STEPS, kept, saves=False)
    return kept.losses


def gathered(value: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def main(rank: int, ranks: int, folder: Path, which: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    told: dict[str, Any] = {"seeds": {}}
    for case in SAMPLE if which == "sample" else ALL[ranks]:
        made = toy(folder / str(case), case)
        told[str(case)] = learnt(made)
        told["seeds"][str(case)] = gathered(made.seeds)
    told["on the way"] = on_the_way(folder, SAMPLE[0])
    if which == "all" and ranks == 2:
        cases = [Case(name, way) for name, way in itertools.product(ENGINES, WAYS)]
        told["adapter"] = {name: adapter(folder / "adapter", name, 2) for name in ("fsdp2", "colossal-2")}
        told["dropout"] = [adapter(folder / "adapter", "colossal-2", 2, 0.3) for _ in range(2)]
        told["rounded"] = {str(case): rounded(folder / "bf16" / str(case), case) for case in cases}
    told["taken back"] = all(gathered(ops._attend is None))
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
