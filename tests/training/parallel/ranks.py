"""One of several processes that train a toy: `python -m tests.training.parallel.ranks RANK RANKS FOLDER ENGINE`.

A run of four steps, and a validation; the same with a validation after each step, ended by the last rank's wish after
two and begun again from its checkpoint; two steps in bfloat16. What they gave goes to FOLDER/told.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from tests.support.toy_run import Kept, Toy, bits
from training.callbacks.validation import Validation
from training.parallel.base import Engine, Precision
from training.parallel.engines import engine

STEPS, STOP, PER_STEP, VALIDATED = 4, 2, 6, 5


def main(rank: int, ranks: int, folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)

    def made(precision: Precision = "float32") -> Engine:
        return engine(name, torch.device("cpu"), precision)

    toy = Toy(folder, per_step=PER_STEP, make_engine=made, every=2, network_seed=rank)
    whole, first, second, low = Kept(), Kept(), Kept(), Kept()
    run, averages, _ = toy.go(STEPS, whole, saves=False)
    validated = Validation(run.engine, run.method, range(VALIDATED), every=1).losses()  # type: ignore[arg-type]
    want = bits(run, averages)
    toy = replace(toy, validated=VALIDATED)  # which changes nothing
    toy.go(STEPS, first, stop_after=STOP if rank == ranks - 1 else None)
    run, averages, _ = toy.go(STEPS, second)
    same = bits(run, averages) == want
    replace(toy, folder=folder / "low", make_engine=lambda: made("bfloat16")).go(2, low, saves=False)
    told = {
        "losses": whole.losses,
        "parts": [first.losses, second.losses],
        "same": same,
        "validated": validated,
        "low": low.losses,
    }
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
