"""One of several processes that train a toy autoencoder: `python -m ...pair_ranks RANK RANKS FOLDER`.

A run of four steps whose second phase begins at the second; the same, ended after two and begun again from its
checkpoint; a validation; the same run with the autoencoder under engines that share its weights. What they gave goes
to FOLDER/told.json, the weights to FOLDER/weights.pt.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.toy_autoencoder import CLIP, WIDE, ToyAutoencoder, adversary
from tests.support.toy_run import Kept, bits
from training.autoencoder.settings import Distillation, Settings
from training.callbacks.reconstruction import Reconstruction
from training.parallel.ddp import Ddp
from training.parallel.engines import engine

CPU = torch.device("cpu")
STEPS, STOP, VALIDATED = 4, 2, 3


def toy(folder: Path, **changes: Any) -> ToyAutoencoder:
    """With all losses, clips of two sizes and stills."""
    settings = Settings(adversary=adversary(1, norm="batch"), distillation=Distillation(stage=1), stills=0.3)
    return ToyAutoencoder(folder, settings, {CLIP: 6, WIDE: 6}, per_step=4, every=2, **changes)


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    made = toy(folder, make_engine=lambda: Ddp(CPU), network_seed=rank)
    whole, first, second = Kept(), Kept(), Kept()
    run, averages, _ = made.go(STEPS, whole, saves=False)
    validated = Reconstruction(run.engine, run.method, range(VALIDATED), 1, averages).measured()  # type: ignore[arg-type]
    want = bits(run, averages)
    made.go(STEPS, first, stop_after=STOP if rank == ranks - 1 else None)
    run, averages, _ = made.go(STEPS, second)
    shared = {}
    for name in ("fsdp2", *(["colossal-2"] if find_spec("colossalai") else [])):
        engines, kept = iter((engine(name, CPU, "float32"), Ddp(CPU))), Kept()
        toy(folder / name, make_engine=partial(next, engines)).go(STEPS, kept, saves=False)
        shared[name] = kept.losses
    if rank == 0:
        told = {
            "shared": shared,
            "losses": whole.losses,
            "parts": [first.losses, second.losses],
            "values": [report.values for report in whole.reports],
            "same": bits(run, averages) == want,
            "validated": validated,
        }
        (folder / "told.json").write_text(json.dumps(told))
        torch.save(dict(run.engine.masters()), folder / "weights.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
