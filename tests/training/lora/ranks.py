"""One of two processes that train an adapter on a bfloat16 base: `-m tests.training.lora.ranks ENGINE RANK FOLDER`.

A run of three steps, ended after two and begun again from its checkpoint; its losses go to FOLDER/losses.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.support.adapters import LoraToy
from tests.support.toy_run import Kept
from training.parallel.engines import ENGINES

STEPS, STOP, RANKS = 3, 2, 2


def toy(engine: str, folder: Path) -> LoraToy:
    def make() -> object:
        return ENGINES[engine](torch.device("cpu"), "bfloat16")

    return LoraToy(folder, per_step=2, rate=1e-2, make_engine=make, base_dtype=torch.bfloat16)  # type: ignore[arg-type]


def main(engine: str, rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), RANKS)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    kept = Kept()
    toy(engine, folder).go(STEPS, kept, stop_after=STOP)
    toy(engine, folder).go(STEPS, kept)
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps(kept.losses))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
