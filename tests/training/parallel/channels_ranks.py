"""One of several processes that share the channels of an autoencoder: `python -m ... RANK RANKS FOLDER`.

Of 2 ranks each case has both on a clip; of 4, two groups of two. What they gave goes to FOLDER/told.json, checkpoints
to FOLDER/CASE.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.toy_autoencoder import CLIP, CONFIG, WIDE, ToyAutoencoder, adversary
from tests.support.toy_run import Kept
from training.autoencoder.settings import Distillation, Settings
from training.callbacks.reconstruction import Reconstruction
from training.models.dcae import DcAeConfig, VideoDcAe
from training.models.dcae.split import split
from training.parallel.channels import channels_of
from training.parallel.ddp import Ddp
from training.parallel.engines import engine

CPU = torch.device("cpu")
CASES = ("ddp", "fsdp2", "colossal-2")
STEPS, VALIDATED, SHARING = 3, 3, 2

WIDER: DcAeConfig = replace(
    CONFIG,
    widths=(6, 24, 96, 32),
    blocks=("res", "res", "vit", "vit"),
    encoder_depths=(1, 1, 1, 1),
    decoder_depths=(1, 1, 1, 1),
    halve_time=(False, True, False),
)
"""Three heads do not divide by two; a block of one head stays whole."""


def toy(folder: Path, channels: int, **changes: Any) -> ToyAutoencoder:
    """With every loss, the judge from the second step on, which drops channels by chance, and stills."""
    judge = adversary(1)
    judge = replace(judge, discriminator=replace(judge.discriminator, dropout=0.2))
    settings = Settings(adversary=judge, distillation=Distillation(stage=1), stills=0.3)
    buckets = {replace(CLIP, height=32, width=32): 6, replace(WIDE, height=32, width=32): 6}
    return ToyAutoencoder(folder, settings, buckets, per_step=4, config=WIDER, channels=channels, **changes)


def learnt(made: ToyAutoencoder) -> dict[str, Any]:
    kept = Kept()
    run, averages, _ = made.go(STEPS, kept)
    validation = Reconstruction(run.engine, run.method, range(VALIDATED), 1, averages)  # type: ignore[arg-type]
    steps = [
        {"loss": one.loss, "norm": one.norm, "samples": one.samples, "flops": one.flops, **one.values}
        for one in kept.reports
    ]
    return {"steps": steps, "validated": validation.measured()}


def forward(ranks: int) -> dict[str, Any]:
    """One clip through the whole network and through one that is shared: outputs, gradients, and what is kept."""
    made = Ddp(CPU)
    torch.manual_seed(0)
    whole = VideoDcAe(WIDER).train().requires_grad_(True)
    shared = VideoDcAe(WIDER).train().requires_grad_(True)
    shared.load_state_dict(whole.state_dict())
    channels = channels_of(made, ranks)
    assert channels is not None
    blocks = split(shared, channels)
    video = torch.randn(1, 3, 4, 32, 32)
    found: dict[str, Any] = {"blocks": blocks, "names": list(shared.state_dict()) == list(whole.state_dict())}
    outputs = []
    for name, network in (("whole", whole), ("shared", shared)):
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        given = video.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = network.decoder(network.encoder(given))
        out.square().sum().backward()
        outputs.append((out.detach(), given.grad))
        found[f"kept {name}"] = kept
    for index, name in enumerate(("output", "gradient of the input")):
        a, b = (pair[index] for pair in outputs)
        found[name] = ((a - b).abs().max() / a.abs().max()).item()
    worst = 0.0
    for (_, a), (_, b) in zip(whole.named_parameters(), shared.named_parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        mean = b.grad.clone()
        dist.all_reduce(mean)
        worst = max(worst, ((mean / ranks - a.grad).norm() / a.grad.norm().clamp_min(1e-12)).item())
    found["gradients of the weights"] = worst
    return found


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    told: dict[str, Any] = {"forward": forward(ranks)}
    for name in CASES:
        engines = iter((engine(name, CPU, "float32"), Ddp(CPU)))
        told[name] = learnt(toy(folder / name, SHARING, make_engine=partial(next, engines)))
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
