"""How long a save keeps training waiting, beside a synchronous one of the same state (`bench.train`).

The state is a network of some 25 million weights with moments, 300 MB. A synchronous save is torch's own `save` with
the same writer; ours is asynchronous, and what is counted is what a step waits for: its beginning, and the wait for the
copy before the optimizer changes the weights, after a forward and a backward pass as there are in a run.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save

from training.checkpoint.folder import Checkpoints, Head, Identity
from training.checkpoint.save import Saver
from training.checkpoint.state import state
from training.models.mmdit import MMDiT, preset
from training.parallel.base import AdamW
from training.parallel.single import Single

WIDE: dict[str, Any] = {
    "hidden_size": 512,
    "num_heads": 8,
    "axes_dim": (16, 24, 24),
    "depth": 2,
    "depth_single_blocks": 3,
}


def measured(place: Path, rounds: int = 5) -> list[dict[str, float]]:
    """For each round: bytes, seconds of a synchronous save, and those that an asynchronous one blocks."""
    engine = Single(torch.device("cpu"))
    network = MMDiT(replace(preset("tiny_dcae"), **WIDE))
    engine.wrap(network, AdamW())
    saver = Saver(engine, Checkpoints(place / "ours"), keep_last=1, keep_every=0)
    identity = Identity(manifest="", seed=0, per_step=1, held_out=0, shapes=engine.shapes())
    head = Head(identity=identity, network="", settings={}, missing=0, engine="single", ranks=1, torch="")
    found: list[dict[str, float]] = []
    for number in range(rounds + 1):
        tensors = state(engine, None)
        start = time.perf_counter()
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(place / "plain")), no_dist=True)
        plain = time.perf_counter() - start
        shutil.rmtree(place / "plain")
        saver.save(number, state(engine, None), head)
        _compute(plain)
        saver.settled()
        blocked = saver.blocked_s
        saver.finish()
        if number:  # the first makes the copy's memory
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            found.append({"bytes": float(size), "synchronous": plain, "blocked": blocked})
    saver.close()
    return found


def _compute(seconds: float) -> None:
    """What the device does of a step before the optimizer, for as long as that."""
    a = torch.randn(256, 256)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        a = torch.tanh(a @ a)
